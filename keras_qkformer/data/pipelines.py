"""Named sources of examples as tf.data pipelines, the same order on every run."""

import functools
import inspect
import math
import os

import numpy as np
import tensorflow as tf

from keras_qkformer.data import event_sources
from keras_qkformer.data.source import OnDemand, Source


def _digits():
    """Handwritten digits, 8x8 grey, that come with scikit-learn.

    1797 scans of the UCI test set (Alpaydin and Kaynak, 1998), in a fixed random order;
    every fifth is a test example.
    """

    def load(split, bounds):
        if split not in ("train", "test"):
            raise ValueError(
                "A split must be train or test, perhaps with a slice such as "
                f"train[:90%]. Received: {split!r}"
            )
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError(
                "The digits come with scikit-learn: pip install 'keras_qkformer[demo]'"
            ) from error
        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        is_test = np.arange(len(order)) % 5 == 0
        chosen = order[is_test if split == "test" else ~is_test]
        chosen = chosen[slice(*bounds(len(chosen)))]
        images = np.round(digits.images[chosen, ..., None] * (255 / 16))
        return images.astype("uint8"), digits.target[chosen].astype("int64")

    return Source(
        class_names=tuple("0123456789"), mean=(0.3053,), std=(0.3760,), load=load
    )


SOURCES = {
    "digits": _digits,
    "recordings": event_sources.recordings,
    "dvs128_gesture": functools.partial(event_sources.prepared, "dvs128_gesture"),
    "cifar10_dvs": functools.partial(event_sources.prepared, "cifar10_dvs"),
    "cifar10_dvs_clean": functools.partial(
        event_sources.prepared, "cifar10_dvs", clean=True
    ),
}
"""Functions that make a `Source`, by name; their keywords are the options."""


def get_source(name, *, time_steps=None, **options):
    """The source of that name.

    Args:
        name: str. A name of `SOURCES`.
        time_steps: int, or `None` for a source of images. Frames of an example.
        **options: of the source, see `event_sources`; `None` stands for its default.

    Raises:
        ValueError: if there is none, or it has no such option.
    """
    if name not in SOURCES:
        raise ValueError(
            f"data.name must be one of {sorted(SOURCES)}. Received: {name!r}"
        )
    parameters = inspect.signature(SOURCES[name]).parameters
    options = {key: value for key, value in options.items() if value is not None}
    for key, value in options.items():
        if key not in parameters:
            raise ValueError(
                f"data.{key} is no option of the source {name!r}. "
                f"Received: {key}={value!r}"
            )
    if "time_steps" in parameters:
        options["time_steps"] = time_steps
    return SOURCES[name](**options)


def load_examples(name, split, **options):
    """Inputs and labels of a split of a source.

    Args:
        name: str. Name of a source.
        split: str. Such as `"train"` or `"test"`, perhaps with a slice in per cent or
            in examples: `"train[:90%]"`, `"test[100:200]"`.
        **options: see `get_source`.

    Returns:
        `(inputs, labels)`: uint8 images `(examples, height, width, channels)` or uint16
        frames `(examples, time, height, width, 2)`, as an array or, if they are large,
        `OnDemand`; and int64 `(examples,)`.

    Raises:
        ValueError: if the source or split is unknown, or the split is empty.

    Example:
    >>> images, labels = load_examples("digits", "train[:10%]")
    >>> images.shape, labels.shape
    ((144, 8, 8, 1), (144,))
    """
    source = get_source(name, **options)
    base, bracket, rest = split.partition("[")
    start, colon, stop = rest.removesuffix("]").partition(":")
    if bracket and not (colon and rest[-1] == "]"):
        raise ValueError(
            "A slice of a split must be like train[:90%] or test[100:200]. "
            f"Received: {split!r}"
        )

    def bounds(count):
        first = _position(start, 0, count, split)
        last = _position(stop, count, count, split)
        if not first < last:
            raise ValueError(f"A split must not be empty. Received: {split!r}")
        return first, last

    return source.load(base, bounds)


def _position(text, default, count, split):
    if not text:
        return default
    try:
        if text.endswith("%"):
            position = round(count * float(text[:-1]) / 100)
        else:
            position = int(text)
    except ValueError:
        position = -1
    if not 0 <= position <= count:
        raise ValueError(
            f"The ends of a slice must be whole numbers from 0 to {count}, or per cent "
            f"from 0% to 100%. Received: {split!r}"
        )
    return position


def read_image(path, channels):
    """An image file as an array.

    Args:
        path: str or path of a JPEG, PNG, BMP, WebP or GIF file; of an animation, the
            first frame.
        channels: 1 for grey, 3 for colour: the image is converted. Transparency is
            dropped.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: if there is no such file or it is not such an image.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except OSError as error:
        raise ValueError(
            f"An image must be a file that can be read. Received: {path!r}: "
            f"{error.strerror}"
        ) from error
    try:
        image = tf.io.decode_image(encoded, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            "An image must be a whole JPEG, PNG, BMP, WebP or GIF file. "
            f"Received: {path!r}"
        ) from error
    if image.shape[-1] in (2, 4):
        image = image[..., :-1]
    if channels == 1 and image.shape[-1] == 3:
        image = tf.image.rgb_to_grayscale(image)
    elif channels == 3 and image.shape[-1] == 1:
        image = tf.image.grayscale_to_rgb(image)
    return image.numpy()


def preprocess(images, image_size, mean, std, max_value=255.0, crop=None):
    """Pixels or counts to what a model takes: resized, scaled, normalized.

    With a crop, images are resized (bicubic) in their own proportions and the middle is
    cut out, as ImageNet's are evaluated: 224 pixels of 256 are a crop of 0.875. Without
    one they are stretched (bilinear).

    Args:
        images: tensor `(..., height, width, channels)` of any numeric type, 0 to
            `max_value`.
        image_size: (height, width) in pixels.
        mean: of the values in [0, 1], one per channel.
        std: of the values in [0, 1], one per channel.
        max_value: float. What 1 stands for: 255 for pixels; 1 for counts of events,
            which so stay what they are.
        crop: float in (0, 1], or `None`. `image_size` as a share of the size to which
            an image is resized, in the direction in which less of it is left over.

    Returns:
        float32 tensor `(..., *image_size, channels)`.
    """
    images = tf.cast(images, tf.float32)
    if images.shape.rank > 4:  # tf.image takes one axis in front of the height.
        shape = tf.shape(images)
        flat = preprocess(
            tf.reshape(images, tf.concat([[-1], shape[-3:]], 0)),
            image_size,
            mean,
            std,
            max_value,
            crop,
        )
        result = tf.reshape(flat, tf.concat([shape[:-3], tf.shape(flat)[1:]], 0))
        return tf.ensure_shape(result, images.shape[:-3] + flat.shape[1:])
    if crop is None:
        images = tf.image.resize(images, image_size, antialias=True)
    else:
        images = tf.clip_by_value(_middle(images, image_size, crop), 0, max_value)
    mean, std = (tf.constant(values, tf.float32) for values in (mean, std))
    return (images / max_value - mean) / std


def _middle(images, image_size, crop):
    """The middle of images that are resized in their own proportions."""
    # Rounded as torchvision and timm do. A product before a quotient is exact where the
    # result is a whole number.
    least = tf.constant([math.floor(side / crop) for side in image_size], tf.float64)
    size = tf.cast(tf.shape(images)[-3:-1], tf.float64)
    resized = tf.floor(tf.reduce_max(least[:, None] * size / size[:, None], axis=0))
    images = tf.image.resize(
        images, tf.cast(resized, tf.int32), method="bicubic", antialias=True
    )
    top, left = tf.unstack(tf.cast(tf.round((resized - image_size) / 2), tf.int32))
    height, width = image_size
    images = images[..., top : top + height, left : left + width, :]
    return tf.ensure_shape(images, [*images.shape[:-3], height, width, None])


def training_dataset(
    inputs,
    labels,
    *,
    transform,
    batch_size,
    seed,
    first_epoch,
    epochs,
    steps=None,
    augment=None,
):
    """Batches of augmented examples, in an order that only seed and epoch decide.

    So training that is resumed at an epoch sees what it would have seen.

    Args:
        inputs: array or `OnDemand` `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from inputs to model input, such as `preprocess`.
        batch_size: int. Examples beyond whole batches are left out of an epoch.
        seed: int.
        first_epoch: int. Number of the first epoch, from 0.
        epochs: int. Number of the epoch that is no longer there.
        steps: int, or `None` for all. Batches per epoch at most.
        augment: function `(inputs, labels, seed) -> (inputs, labels)` of a transformed
            batch, or `None`. `seed` is an int32 tensor of two numbers, different for
            every batch; the labels it gives may be probabilities `(batch, classes)`. If
            it has an argument `epoch`, that gets the number of the epoch.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`, all epochs one after the other.

    Raises:
        ValueError: if there are fewer examples than a batch holds.
    """
    if len(labels) < batch_size:
        raise ValueError(
            "batch_size must not exceed the number of training examples, "
            f"{len(labels)}. Received: batch_size={batch_size}"
        )
    read = _reader(inputs, labels)
    wants_epoch = augment and "epoch" in inspect.signature(augment).parameters

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(labels)), tf.stack([seed, epoch])
        )
        if steps is not None:  # Or the last ones would be read ahead for nothing.
            order = order[: steps * batch_size]
        batches = (
            tf.data.Dataset.from_tensor_slices(order)
            .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .batch(batch_size, drop_remainder=True)
            .enumerate()
        )
        return batches.map(
            lambda number, batch: make_batch(epoch, number, *batch),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def make_batch(epoch, number, batch, labels):
        batch = transform(batch)
        if augment is None:
            return batch, labels
        draw = tf.cast(tf.stack([seed + epoch, number]), tf.int32)
        extra = {"epoch": epoch} if wants_epoch else {}
        return augment(batch, labels, draw, **extra)

    return (
        tf.data.Dataset.range(first_epoch, epochs)
        .flat_map(one_epoch)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_dataset(inputs, labels, *, transform, batch_size, multiple_of=1):
    """Every example once, in order; the last batch may be smaller.

    Where it must be a multiple of something, the last example is repeated behind it,
    with a weight of 0. The others then have the weight that leaves a loss, which Keras
    divides by the number of all, the mean over the examples.

    Args:
        inputs: array or `OnDemand` `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from inputs to model input, such as `preprocess`.
        batch_size: int.
        multiple_of: int. What divides the size of every batch, and `batch_size`.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`, or of these and weights
        `(batch,)` if examples are repeated.
    """
    count, read = len(labels), _reader(inputs, labels)
    padded = -(-count // multiple_of) * multiple_of
    dataset = (
        tf.data.Dataset.range(padded)
        .map(
            lambda number: read(tf.minimum(number, count - 1)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(batch_size)
        .map(
            lambda batch, labels: (transform(batch), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    )
    if padded != count:
        weights = np.where(np.arange(padded) < count, padded / count, 0.0)
        weights = tf.data.Dataset.from_tensor_slices(weights.astype("float32"))
        dataset = tf.data.Dataset.zip(dataset, weights.batch(batch_size)).map(
            lambda pair, weights: (*pair, weights)
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def _reader(inputs, labels):
    """Function from the number of an example, a tensor, to its input and label."""
    labels = tf.constant(labels)
    if not isinstance(inputs, OnDemand):
        inputs = tf.constant(inputs)
        return lambda number: (tf.gather(inputs, number), tf.gather(labels, number))

    def read(number):
        value = tf.numpy_function(inputs.__getitem__, [number], inputs.dtype)
        return tf.ensure_shape(value, inputs.shape[1:]), tf.gather(labels, number)

    return read


def augment_images(images, labels, seed, *, max_shift, max_rotation, max_zoom):
    """`random_affine` as the `augment` of `training_dataset`; labels stay."""
    return random_affine(images, seed, max_shift, max_rotation, max_zoom), labels


def random_affine(images, seed, max_shift, max_rotation, max_zoom):
    """Shift, rotate and zoom every image by its own random amounts.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        seed: int tensor of two numbers: the same seed gives the same images.
        max_shift: float. Largest shift, as a share of the size.
        max_rotation: float. Largest rotation, in degrees.
        max_zoom: float. Largest change of size, as a share.

    Returns:
        Tensor like `images`; what comes in from outside repeats the border.
    """
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    draws = tf.random.stateless_uniform((4, batch), seed, -1.0, 1.0)
    angle = draws[0] * (max_rotation * math.pi / 180)
    scale = 1.0 + draws[1] * max_zoom
    cosine, sine = tf.cos(angle) / scale, tf.sin(angle) / scale
    middle_y = (tf.cast(height, tf.float32) - 1) / 2
    middle_x = (tf.cast(width, tf.float32) - 1) / 2
    shift_x = draws[2] * max_shift * tf.cast(width, tf.float32)
    shift_y = draws[3] * max_shift * tf.cast(height, tf.float32)
    # Maps the pixel of the output to that of the input, about the middle.
    offset_x = middle_x + shift_x - cosine * middle_x + sine * middle_y
    offset_y = middle_y + shift_y - sine * middle_x - cosine * middle_y
    nothing = tf.zeros_like(angle)
    transforms = tf.stack(
        [cosine, -sine, offset_x, sine, cosine, offset_y, nothing, nothing], 1
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.stack([height, width]),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )

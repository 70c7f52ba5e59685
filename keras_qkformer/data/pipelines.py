"""Named sources of examples as tf.data pipelines, the same order on every run."""

import functools
import inspect
import math
import os

import numpy as np
import tensorflow as tf

from keras_qkformer.data import event_sources, image_sources
from keras_qkformer.data.image_sources import EncodedImages
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
    "folder": image_sources.folder,
    "tfrecord": image_sources.tfrecord,
    "cifar10": functools.partial(
        image_sources.tfds, "cifar10", statistics=image_sources.CIFAR
    ),
    "cifar100": functools.partial(
        image_sources.tfds, "cifar100", statistics=image_sources.CIFAR
    ),
    "imagenet2012": functools.partial(image_sources.tfds, "imagenet2012"),
}
"""Functions that make a `Source`, by name; their keywords are the options.

Besides, `tfds/<name>` is any data set of images of TFDS.
"""

_OF_THE_MODEL = ("time_steps", "channels")
"""Options that come from the model, so a source need not have them."""


def get_source(name, **options):
    """The source of that name.

    Args:
        name: str. A name of `SOURCES`, or `tfds/<name>`.
        **options: of the source, see `event_sources` and `image_sources`; `None` stands
            for its default. `time_steps`, frames of an example, and `channels`, of an
            image, are heeded by those that have them.

    Raises:
        ValueError: if there is none, or it has no such option.
    """
    make = SOURCES.get(name)
    if make is None and name.startswith("tfds/"):
        make = functools.partial(image_sources.tfds, name.removeprefix("tfds/"))
    if make is None:
        raise ValueError(
            f"data.name must be one of {sorted(SOURCES)}, or tfds/NAME. "
            f"Received: {name!r}"
        )
    parameters = inspect.signature(make).parameters
    options = {key: value for key, value in options.items() if value is not None}
    for key in set(_OF_THE_MODEL) - set(parameters):
        options.pop(key, None)
    for key, value in options.items():
        if key not in parameters:
            raise ValueError(
                f"data.{key} is no option of the source {name!r}. "
                f"Received: {key}={value!r}"
            )
    return make(**options)


def load_examples(name, split, **options):
    """Inputs and labels of a split of the source of that name.

    Args:
        name: str. Name of a source.
        split: see `load_split`.
        **options: see `get_source`.

    Example:
    >>> images, labels = load_examples("digits", "train[:10%]")
    >>> images.shape, labels.shape
    ((144, 8, 8, 1), (144,))
    """
    return load_split(get_source(name, **options), split)


def load_split(source, split):
    """Inputs and labels of a split of a source.

    Args:
        source: a `Source`.
        split: str. Such as `"train"` or `"test"`, perhaps with a slice in per cent or
            in examples: `"train[:90%]"`, `"test[100:200]"`.

    Returns:
        `(inputs, labels)`: uint8 images `(examples, height, width, channels)` or uint16
        frames `(examples, time, height, width, 2)`, as an array or, if they are large,
        `OnDemand` or `EncodedImages`; and int64 `(examples,)`.

    Raises:
        ValueError: if the split is unknown or empty.
    """
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
        return image_sources.decode(encoded, channels)
    except ValueError as error:
        raise ValueError(
            "An image must be a whole JPEG, PNG, BMP, WebP or GIF file. "
            f"Received: {path!r}"
        ) from error


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
    window=None,
    share=(0, 1),
    splittable=False,
):
    """Batches of augmented examples, in an order that only seed and epoch decide.

    So training that is resumed at an epoch sees what it would have seen. In place of an
    image that can't be decoded comes the next one in the split.

    Args:
        inputs: array, `OnDemand` or `EncodedImages`
            `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from inputs, one or a batch, to model input, such as
            `preprocess`.
        batch_size: int. Examples beyond whole batches are left out of an epoch.
        seed: int.
        first_epoch: int. Number of the first epoch, from 0.
        epochs: int. Number of the epoch that is no longer there.
        steps: int, or `None` for all. Batches per epoch at most.
        augment: function `(inputs, labels, seed) -> (inputs, labels)` of a transformed
            batch, or `None`. `seed` is an int32 tensor of two numbers, different for
            every batch; the labels it gives may be probabilities `(batch, classes)`. If
            it has an argument `epoch`, that gets the number of the epoch.
        window: function `(height, width, draws) -> (top, left, height, width)` of what
            is cut out of an image before it is transformed, or `None`. `draws` is an
            array `DRAWS` of numbers in [0, 1), different for every image.
        share: (number from 0, how many): which part of every batch this is, of how
            many that divide it. Nothing else is read; an augmentation sees no other
            part, and draws differently for each.
        splittable: bool. Whether batches may be made in any place and order, by
            workers that share them. There is no end to them then, and no Python in
            them: inputs must be an array and window `None`.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`, all epochs one after the other.

    Raises:
        ValueError: if there are fewer examples than a batch holds, or splittable
            batches need Python.
    """
    if len(labels) < batch_size:
        raise ValueError(
            "batch_size must not exceed the number of training examples, "
            f"{len(labels)}. Received: batch_size={batch_size}"
        )
    wants_epoch = augment and "epoch" in inspect.signature(augment).parameters
    in_memory = not isinstance(inputs, OnDemand | EncodedImages) and window is None
    read = reader(inputs, labels, window)
    part, parts = share
    # Of those beyond, the last ones would be read ahead for nothing.
    steps = min(len(labels) // batch_size, steps or len(labels))

    def ours(numbers):
        numbers = tf.reshape(numbers[: steps * batch_size], [steps, parts, -1])
        return numbers[:, part]

    def shuffled(epoch):
        return tf.random.experimental.stateless_shuffle(
            tf.range(len(labels)), tf.stack([seed, epoch])
        )

    def one_epoch(epoch):
        order = ours(shuffled(epoch))
        if in_memory:  # Whole batches are far faster than one by one.
            dataset = tf.data.Dataset.from_tensor_slices(order)
        else:
            places = ours(tf.range(steps * batch_size, dtype=tf.int64))
            pairs = tf.reshape(places, [-1]), tf.reshape(order, [-1])
            dataset = (
                tf.data.Dataset.from_tensor_slices(pairs)
                .map(
                    lambda place, number: read_one(epoch, place, number),
                    num_parallel_calls=tf.data.AUTOTUNE,
                    deterministic=True,
                )
                .batch(batch_size // parts, drop_remainder=True)
            )
        return dataset.enumerate().map(
            lambda number, batch: make_batch(epoch, number, batch),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def read_one(epoch, place, number):
        # Batches draw with whole numbers from 0, so these are others.
        draws = tf.random.stateless_uniform(DRAWS, tf.stack([seed + epoch, -1 - place]))
        image, label = read(number, draws)
        return (transform(image) if _vary(inputs, window) else image), label

    def make_batch(epoch, number, batch):
        batch, labels = read(batch) if in_memory else batch
        if not _vary(inputs, window):
            batch = transform(batch)
        if augment is None:
            return batch, labels
        draw = tf.cast(tf.stack([seed + epoch, number * parts + part]), tf.int32)
        extra = {"epoch": epoch} if wants_epoch else {}
        return augment(batch, labels, draw, **extra)

    def one_batch(number):
        epoch, number = number // steps, number % steps
        return make_batch(epoch, number, ours(shuffled(epoch))[number])

    if splittable:
        if not in_memory:
            raise ValueError(
                "Batches that others make must need no Python: images of one size that "
                "fit into memory, and no data.image_augmentation.random_resized_crop. "
                f"Received: {type(inputs).__name__}"
                f"{'' if window is None else ' with a window'}"
            )
        return tf.data.Dataset.range(first_epoch * steps, tf.int64.max).map(
            one_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
    return (
        tf.data.Dataset.range(first_epoch, epochs)
        .flat_map(one_epoch)
        .prefetch(tf.data.AUTOTUNE)
    )


DRAWS = (10, 4)
"""Ten attempts of a window: area, shape, top and left."""


def _vary(inputs, window):
    """Whether images differ in size until they are transformed."""
    return window is not None or isinstance(inputs, EncodedImages)


def evaluation_dataset(
    inputs, labels, *, transform, batch_size, multiple_of=1, share=(0, 1)
):
    """Every example once, in order; the last batch may be smaller.

    Where it must be a multiple of something, the last example is repeated behind it,
    with a weight of 0. The others then have the weight that leaves a loss, which Keras
    divides by the number of all, the mean over the examples.

    Args:
        inputs: array, `OnDemand` or `EncodedImages`, without damaged ones,
            `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from inputs, one or a batch, to model input, such as
            `preprocess`.
        batch_size: int.
        multiple_of: int. What divides the size of every batch, and `batch_size`.
        share: (number from 0, how many): which part of every batch this is, of how
            many that divide `multiple_of`. Nothing else is read.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`, or of these and weights
        `(batch,)` if examples are repeated.
    """
    vary, count = _vary(inputs, None), len(labels)
    padded = -(-count // multiple_of) * multiple_of
    read = reader(inputs, labels)
    part, parts = share
    batches = np.split(np.arange(padded), range(batch_size, padded, batch_size))
    numbers = np.concatenate([np.split(batch, parts)[part] for batch in batches])
    batch_size //= parts

    def read_one(number):
        image, label = read(tf.minimum(number, count - 1))
        return (transform(image) if vary else image), label

    dataset = (
        tf.data.Dataset.from_tensor_slices(numbers)
        .map(read_one, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
    )
    if not vary:
        dataset = dataset.map(
            lambda batch, labels: (transform(batch), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    if padded != count:
        weights = np.where(numbers < count, padded / count, 0.0)
        weights = tf.data.Dataset.from_tensor_slices(weights.astype("float32"))
        dataset = tf.data.Dataset.zip(dataset, weights.batch(batch_size)).map(
            lambda pair, weights: (*pair, weights)
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def reader(inputs, labels, window=None):
    """Function from the number of an example, a tensor, to its input and label.

    With a window it also takes the draws for it. Arrays without a window take many
    numbers at once.
    """
    labels = tf.constant(labels)
    if isinstance(inputs, EncodedImages):

        def decode(number, draws):
            cut = window and (lambda *size: window(*size, draws))
            image, found = inputs.decode_next(int(number), cut)
            return image, np.int64(found)

        def read(number, draws=()):
            image, found = tf.numpy_function(
                decode, [number, draws], [tf.uint8, tf.int64]
            )
            image.set_shape(inputs.shape[1:])
            found.set_shape([])
            return image, tf.gather(labels, found)

        return read
    if not isinstance(inputs, OnDemand):
        inputs = tf.constant(inputs)

        def read(number, draws=None):
            image = tf.gather(inputs, number)
            if window is not None:
                top, left, height, width = tf.unstack(
                    tf.numpy_function(
                        lambda draws: np.array(window(*inputs.shape[1:3], draws), "i4"),
                        [draws],
                        tf.int32,
                    ),
                    4,
                )
                image = image[top : top + height, left : left + width]
            return image, tf.gather(labels, number)

        return read

    def read(number, draws=None):
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

"""Named sources of examples as tf.data pipelines, the same order on every run."""

import dataclasses
import math
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A set of labelled images.

    Attributes:
        class_names: names of the classes, in the order of their labels.
        mean: of the pixels in [0, 1], one per channel.
        std: of the pixels in [0, 1], one per channel.
        load: function from the name of a split without slice, such as `"test"`, to
            `(images, labels)`: uint8 `(examples, height, width, channels)` and int64
            `(examples,)`.
    """

    class_names: tuple
    mean: tuple
    std: tuple
    load: Callable


def _load_digits(split):
    """Handwritten digits, 8x8 grey, that come with scikit-learn.

    1797 scans of the UCI test set (Alpaydin and Kaynak, 1998), in a fixed random order;
    every fifth is a test example.
    """
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
    images = np.round(digits.images[chosen, ..., None] * (255 / 16))
    return images.astype("uint8"), digits.target[chosen].astype("int64")


SOURCES = {
    "digits": Source(
        class_names=tuple("0123456789"),
        mean=(0.3053,),
        std=(0.3760,),
        load=_load_digits,
    ),
}


def get_source(name):
    """The source of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SOURCES:
        raise ValueError(
            f"data.name must be one of {sorted(SOURCES)}. Received: {name!r}"
        )
    return SOURCES[name]


def load_examples(name, split):
    """Images and labels of a split of a source.

    Args:
        name: str. Name of a source.
        split: str. `"train"` or `"test"`, perhaps with a slice in per cent or in
            examples: `"train[:90%]"`, `"test[100:200]"`.

    Returns:
        `(images, labels)`: uint8 `(examples, height, width, channels)` and int64
        `(examples,)`.

    Raises:
        ValueError: if the source or split is unknown, or the split is empty.

    Example:
    >>> images, labels = load_examples("digits", "train[:10%]")
    >>> images.shape, labels.shape
    ((144, 8, 8, 1), (144,))
    """
    source = get_source(name)
    base, bracket, rest = split.partition("[")
    start, colon, stop = rest.removesuffix("]").partition(":")
    if base not in ("train", "test") or (bracket and not (colon and rest[-1] == "]")):
        raise ValueError(
            "A split must be train or test, perhaps with a slice such as train[:90%]. "
            f"Received: {split!r}"
        )
    images, labels = source.load(base)
    first = _position(start, 0, len(labels), split)
    last = _position(stop, len(labels), len(labels), split)
    if not first < last:
        raise ValueError(f"A split must not be empty. Received: {split!r}")
    return images[first:last], labels[first:last]


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


def preprocess(images, image_size, mean, std):
    """Pixels to what a model takes: resized, scaled to [0, 1], normalized.

    Args:
        images: tensor `(..., height, width, channels)` of any numeric type, 0 to 255.
        image_size: (height, width) in pixels.
        mean: of the pixels in [0, 1], one per channel.
        std: of the pixels in [0, 1], one per channel.

    Returns:
        float32 tensor `(..., *image_size, channels)`.
    """
    images = tf.cast(images, tf.float32)
    images = tf.image.resize(images, image_size, antialias=True)
    return (images / 255.0 - tf.constant(mean)) / tf.constant(std)


def training_dataset(
    images,
    labels,
    *,
    transform,
    batch_size,
    seed,
    first_epoch,
    epochs,
    steps=None,
    max_shift=0.0,
    max_rotation=0.0,
    max_zoom=0.0,
):
    """Batches of augmented examples, in an order that only seed and epoch decide.

    So training that is resumed at an epoch sees what it would have seen.

    Args:
        images: uint8 array `(examples, height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from images to model input, such as `preprocess`.
        batch_size: int. Examples beyond whole batches are left out of an epoch.
        seed: int.
        first_epoch: int. Number of the first epoch, from 0.
        epochs: int. Number of the epoch that is no longer there.
        steps: int, or `None` for all. Batches per epoch at most.
        max_shift: float. Largest shift, as a share of the size.
        max_rotation: float. Largest rotation, in degrees.
        max_zoom: float. Largest change of size, as a share.

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
    images, labels = tf.constant(images), tf.constant(labels)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(tf.size(labels)), tf.stack([seed, epoch])
        )
        batches = tf.data.Dataset.from_tensor_slices(order)
        batches = batches.batch(batch_size, drop_remainder=True).enumerate()
        if steps is not None:
            batches = batches.take(steps)
        return batches.map(
            lambda number, chosen: make_batch(epoch, number, chosen),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def make_batch(epoch, number, chosen):
        batch = transform(tf.gather(images, chosen))
        if max_shift or max_rotation or max_zoom:
            draw = tf.stack([seed + epoch, number])
            batch = random_affine(batch, draw, max_shift, max_rotation, max_zoom)
        return batch, tf.gather(labels, chosen)

    return (
        tf.data.Dataset.range(first_epoch, epochs)
        .flat_map(one_epoch)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_dataset(images, labels, *, transform, batch_size):
    """Every example once, in order; the last batch may be smaller.

    Args:
        images: uint8 array `(examples, height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from images to model input, such as `preprocess`.
        batch_size: int.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`.
    """
    return (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .batch(batch_size)
        .map(
            lambda images, labels: (transform(images), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(tf.data.AUTOTUNE)
    )


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

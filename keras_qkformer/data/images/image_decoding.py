"""Decode images to pixels by TensorFlow operations, eagerly or in any graph."""

import functools
import os

import tensorflow as tf

from keras_qkformer.data.images.image_limits import LARGEST_IMAGE, bounded_bytes
from keras_qkformer.files import open_regular

DRAWS = (10, 4)
"""Shape of the numbers drawn for a window: ten attempts of area, shape, top, left."""


def decode_image(encoded, channels, window=None, draws=None):
    """Decode an image, or a window of it.

    Its orientation in EXIF is ignored, in training and when a model is served, as by
    the loaders that the published models were trained with.

    Args:
        encoded: string tensor `()`. A file of one of `image_limits.KINDS`, within the
            limits: what `bounded_bytes` or `bounded_image` returns. The first frame of
            an animation and the upper 8 of 16 bits are decoded.
        channels: 1 for grey or 3 for colour. The image is converted; transparency is
            dropped.
        window: function `(height, width, draws) -> (top, left, height, width)` that
            chooses a window, as int32 tensors in pixels, or `None` for the whole image.
            The rest of a JPEG is not decoded.
        draws: float tensor of shape `DRAWS` for `window`, in [0, 1).

    Returns:
        uint8 tensor `(height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: if the image can't be decoded.
    """
    return tf.cond(
        tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff",
        lambda: _decode_jpeg(encoded, channels, window, draws),
        lambda: _decode_other(encoded, channels, window, draws),
    )


def _decode_jpeg(encoded, channels, window, draws):
    height, width, parts = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    decode = functools.partial(tf.io.decode_jpeg, encoded)
    if window is not None:
        decode = functools.partial(
            tf.io.decode_and_crop_jpeg, encoded, window(height, width, draws)
        )
    decode = functools.partial(decode, dct_method="INTEGER_ACCURATE")
    if channels == 3:
        return decode(channels=3)
    return tf.cond(
        parts == 4,  # libjpeg does not convert CMYK to grey.
        lambda: tf.image.rgb_to_grayscale(decode(channels=3)),
        lambda: decode(channels=1),
    )


def _decode_other(encoded, channels, window, draws):
    image = tf.io.decode_image(encoded, expand_animations=False)
    if window is not None:
        image = cut_out(image, window, draws)
    found = tf.shape(image)[-1]
    image = image[..., : found - 1 + found % 2]  # Drops transparency: 2 -> 1, 4 -> 3.

    def as_grey():
        return tf.ensure_shape(image, (None, None, 1))

    def as_colour():
        return tf.ensure_shape(image, (None, None, 3))

    if channels == 1:
        return tf.cond(
            found > 2, lambda: tf.image.rgb_to_grayscale(as_colour()), as_grey
        )
    return tf.cond(found > 2, as_colour, lambda: tf.image.grayscale_to_rgb(as_grey()))


def cut_out(image, window, draws):
    """Cut a window out of a decoded image.

    Args:
        image: tensor `(height, width, channels)`.
        window: function, see `decode_image`.
        draws: float tensor of shape `DRAWS` for `window`, in [0, 1).

    Returns:
        Tensor `(height, width, channels)` of the window.
    """
    height, width, _ = tf.unstack(tf.shape(image), 3)
    top, left, height, width = tf.unstack(window(height, width, draws), 4)
    return image[top : top + height, left : left + width]


def decode(encoded, channels, window=None, draws=None):
    """Decode an image within the limits, or a window of it, to an array.

    Args:
        encoded: bytes of a file of one of `image_limits.KINDS`, see `decode_image`.
        channels: 1 or 3, see `decode_image`.
        window: function or `None`, see `decode_image`.
        draws: float array of shape `DRAWS` for `window`, in [0, 1).

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: if the image is refused or can't be decoded; the reason.
    """
    encoded = bounded_bytes(encoded)
    given = [encoded] if window is None else [encoded, draws]
    try:
        return _decoder(channels, window)(*map(tf.constant, given)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError("not a whole JPEG, PNG, BMP, WebP or GIF file") from error


@functools.lru_cache(maxsize=16)
def _decoder(channels, window):
    """Return `decode_image` as one `tf.function`, much faster than eagerly."""

    @functools.partial(tf.function, autograph=False)
    def decode(encoded, draws=None):
        with tf.device("CPU"):
            return decode_image(encoded, channels, window, draws)

    given = [tf.TensorSpec((), tf.string)]
    if window is not None:
        given.append(tf.TensorSpec(DRAWS, tf.float32))
    return decode.get_concrete_function(*given)


def read_image(path, channels):
    """Read an image file to an array.

    Args:
        path: str or path of a JPEG, PNG, BMP, WebP or GIF file, see `decode_image`.
        channels: 1 for grey or 3 for colour. The image is converted; transparency is
            dropped.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: if the file can't be read or decoded, has more than `LARGEST_IMAGE`
            bytes, or is a pipe or a device.
    """
    path = os.fspath(path)
    try:
        with open_regular(path) as file:
            encoded = file.read(LARGEST_IMAGE + 1)
    except OSError as error:
        raise ValueError(
            f"An image must be a file that can be read. Received: {path!r}: "
            f"{error.strerror or error}"
        ) from error
    try:
        if len(encoded) > LARGEST_IMAGE:
            raise ValueError(f"more than {LARGEST_IMAGE} bytes")
        return decode(encoded, channels)
    except ValueError as error:
        raise ValueError(
            "An image must be a whole JPEG, PNG, BMP, WebP or GIF file. "
            f"Received: {path!r}: {error}"
        ) from error

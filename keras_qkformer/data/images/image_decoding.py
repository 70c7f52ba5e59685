"""Encoded images to pixels, by TensorFlow operations: eagerly or in any graph."""

import functools
import os

import tensorflow as tf

EMPTY = "a file of 0 bytes"
ANIMATED = "an animated WebP file, of which no frame can be read"
DRAWS = (10, 4)
"""Ten attempts of a window: area, shape, top and left."""
_HEADER = 21  # Bytes of a WebP file that say whether it is animated.


def decode_image(encoded, channels, window=None, draws=None):
    """An encoded image, or a window of it.

    Args:
        encoded: string tensor `()`: a JPEG, PNG, BMP, WebP or GIF file; of an
            animation, the first image counts, of 16 bits the upper 8.
        channels: 1 for grey, 3 for colour: the image is converted. Transparency is
            dropped.
        window: function `(height, width, draws) -> (top, left, height, width)`, int32
            tensors, of what is wanted; or `None` for everything. Of a JPEG, the rest is
            not decoded.
        draws: float tensor `DRAWS` for it.

    Returns:
        uint8 tensor `(height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: if it is not such an image. Its message has
            `EMPTY` or `ANIMATED` if that is why.
    """
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), "\0" * _HEADER])
    flags = tf.io.decode_raw(tf.strings.substr(padded, _HEADER - 1, 1), tf.uint8)[0]
    animated = (tf.strings.substr(padded, 8, 8) == b"WEBPVP8X") & (flags // 2 % 2 == 1)
    # TensorFlow 2.21 writes beyond its memory when it decodes an animated one.
    checks = [
        tf.debugging.Assert(encoded != b"", [EMPTY]),
        tf.debugging.Assert(~animated, [ANIMATED]),
    ]
    with tf.control_dependencies(check for check in checks if check is not None):
        encoded = tf.identity(encoded)
    return tf.cond(
        tf.strings.substr(padded, 0, 3) == b"\xff\xd8\xff",
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
        parts == 4,  # Of which libjpeg makes no grey.
        lambda: tf.image.rgb_to_grayscale(decode(channels=3)),
        lambda: decode(channels=1),
    )


def _decode_other(encoded, channels, window, draws):
    image = tf.io.decode_image(encoded, expand_animations=False)
    if window is not None:
        image = cut_out(image, window, draws)
    found = tf.shape(image)[-1]
    image = image[..., : found - 1 + found % 2]  # Without transparency.

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
    """A window, see `decode_image`, of an image `(height, width, channels)`."""
    height, width, _ = tf.unstack(tf.shape(image), 3)
    top, left, height, width = tf.unstack(window(height, width, draws), 4)
    return image[top : top + height, left : left + width]


def decode(encoded, channels, window=None, draws=None):
    """An encoded image, or a window of it, as an array.

    Args:
        encoded: bytes, see `decode_image`.
        channels: see there.
        window: see there.
        draws: see there.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: if it is not such an image.
    """
    given = [encoded] if window is None else [encoded, draws]
    try:
        return _decoder(channels, window)(*map(tf.constant, given)).numpy()
    except tf.errors.InvalidArgumentError as error:
        for reason in (EMPTY, ANIMATED):
            if reason in error.message:
                raise ValueError(reason) from error
        raise ValueError("not a whole JPEG, PNG, BMP, WebP or GIF file") from error


@functools.lru_cache(maxsize=16)
def _decoder(channels, window):
    """`decode_image` as one function: eagerly it takes much longer."""

    @functools.partial(tf.function, autograph=False)
    def decode(encoded, draws=None):
        with tf.device("CPU"):
            return decode_image(encoded, channels, window, draws)

    given = [tf.TensorSpec((), tf.string)]
    if window is not None:
        given.append(tf.TensorSpec(DRAWS, tf.float32))
    return decode.get_concrete_function(*given)


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
        return decode(encoded, channels)
    except ValueError as error:
        raise ValueError(
            "An image must be a whole JPEG, PNG, BMP, WebP or GIF file. "
            f"Received: {path!r}"
        ) from error

"""Decodes JPEG, PNG and WebP bytes inside a graph, each item on its own.

The header tells the size before anything is decoded, so a file that claims a huge size
costs no memory. A damaged item does not affect the others.
"""

import tensorflow as tf

from keras_qkformer.data.images.image_decoding import decode_image

_OTHER = "not a JPEG, PNG or WebP image"
_HEADER = 32  # Bytes that hold the size of a PNG or WebP image.
# Resizing by the shorter side would make the longer side of narrow images huge.
_MOST_NARROW = 100  # Largest ratio of the sides.
_PARALLEL = 4  # Images decoded at the same time; each takes memory.


def decode_images(encoded, channels, transform, shape, max_pixels):
    """Decode and transform a batch of image files.

    Args:
        encoded: string tensor `(batch,)`.
        channels: int. 1 for grey, 3 for colour; other images are converted as by
            `image_decoding.read_image`.
        transform: function from a uint8 tensor `(height, width, channels)` of any
            height and width to a float32 tensor of `shape`.
        shape: `(height, width, channels)`.
        max_pixels: int > 0. Larger images are refused.

    Returns:
        `(images, reasons)`. `reasons`, string `(batch,)`, is empty for a good item and
        else says why it is refused; `images`, float32 `(batch, *shape)`, is then 0.
    """
    count = tf.size(encoded, tf.int64)
    reasons = tf.map_fn(
        lambda item: header_fault(item, max_pixels),
        encoded,
        fn_output_signature="string",
    )

    def read(number):
        image = transform(decode_image(encoded[number], channels))
        return number, tf.ensure_shape(image, shape)

    options = tf.data.Options()
    # The graph builds this data set anew in every call: tuning would not pay.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    nothing = tf.data.Dataset.from_tensors((count, tf.zeros(shape)))
    numbers, images = (
        tf.data.Dataset.from_tensor_slices(tf.where(reasons == "")[:, 0])
        .map(read, num_parallel_calls=_PARALLEL)
        .ignore_errors()
        .concatenate(nothing)  # get_single_element needs an element.
        .batch(count + 1)
        .with_options(options)
        .get_single_element()
    )
    target = tf.concat([[count + 1], tf.constant(shape, tf.int64)], 0)
    images = tf.scatter_nd(numbers[:, None], images, target)[:-1]
    decoded = tf.scatter_nd(numbers[:, None], tf.ones_like(numbers), [count + 1])[:-1]
    reasons = tf.where((reasons == "") & (decoded == 0), "damaged", reasons)
    return tf.ensure_shape(images, (None, *shape)), reasons


def header_fault(encoded, max_pixels):
    """Return why an image file is refused by its header, or an empty string.

    Args:
        encoded: string tensor `()`.
        max_pixels: int > 0. Larger images are refused.

    Example:
    >>> png = tf.io.encode_png(tf.zeros((200, 300, 1), "uint8"))
    >>> header_fault(png, 100 * 100).numpy()
    b'of 300x200 pixels, more than 10000'
    >>> header_fault(tf.constant("text"), 100 * 100).numpy()
    b'not a JPEG, PNG or WebP image'
    """
    start = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), "\0" * _HEADER])
    start = tf.strings.substr(start, 0, _HEADER)
    head = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int64)

    def big(position, count):
        powers = _powers(range(count - 1, -1, -1))
        return tf.reduce_sum(head[position : position + count] * powers)

    def little(position, count):
        return tf.reduce_sum(head[position : position + count] * _powers(range(count)))

    def is_at(position, text):
        return tf.strings.substr(start, position, len(text)) == text

    is_png = is_at(0, b"\x89PNG\r\n\x1a\n") & is_at(12, b"IHDR")
    is_jpeg = is_at(0, b"\xff\xd8\xff")
    is_webp = is_at(0, b"RIFF") & is_at(8, b"WEBP")
    lossy = is_webp & is_at(12, b"VP8 ") & is_at(23, b"\x9d\x01\x2a")
    lossless = is_webp & is_at(12, b"VP8L") & is_at(20, b"\x2f")
    extended = is_webp & is_at(12, b"VP8X")
    bits = little(21, 4)
    kinds = [  # (is it, height, width)
        (is_png, big(20, 4), big(16, 4)),
        (lossy, little(28, 2) % 2**14, little(26, 2) % 2**14),
        (lossless, bits // 2**14 % 2**14 + 1, bits % 2**14 + 1),
        (extended, little(27, 3) + 1, little(24, 3) + 1),
    ]
    height, width = tf.unstack(
        tf.cond(is_jpeg, lambda: _jpeg_size(encoded), lambda: tf.zeros((2,), tf.int64))
    )
    for is_it, its_height, its_width in kinds:
        height = tf.where(is_it, its_height, height)
        width = tf.where(is_it, its_width, width)
    known = is_jpeg | is_png | lossy | lossless | extended
    fits = (height <= max_pixels) & (width <= max_pixels)
    fits &= tf.minimum(height, max_pixels) * tf.minimum(width, max_pixels) <= max_pixels
    size = tf.strings.join(
        ["of ", tf.strings.as_string(width), "x", tf.strings.as_string(height)]
    )
    size = tf.strings.join([size, " pixels, "])
    narrow = tf.maximum(height, width) > _MOST_NARROW * tf.minimum(height, width)
    fault = tf.where(narrow, size + f"narrower than 1 to {_MOST_NARROW}", "")
    fault = tf.where(fits, fault, size + f"more than {max_pixels}")
    fault = tf.where((height > 0) & (width > 0), fault, "damaged")
    # A small file may hold many frames, which would need much memory.
    fault = tf.where(extended & (head[20] // 2 % 2 == 1), "an animation", fault)
    return tf.where(known, fault, _OTHER)


def _jpeg_size(encoded):
    """Return height and width from the frame header of a JPEG file, 0 without one.

    Decoders skip bytes between two segments; this function refuses them, so that no
    decoder can find another header than this one.
    """
    length = tf.cast(tf.strings.length(encoded), tf.int64)

    def bytes_at(position, count):
        text = tf.strings.substr(encoded, position, count)
        return tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int64)

    def look(position, size, going):
        b = bytes_at(position, 9)
        kind = b[1]
        is_frame = (kind // 16 == 0xC) & tf.reduce_all(kind != [0xC4, 0xC8, 0xCC])
        is_bare = (kind == 0x01) | (kind // 8 == 0xD0 // 8)  # No length follows.
        is_segment = ~is_frame & ~is_bare & (kind != 0xFF) & (kind >= 0xC0)
        # These start or end an image, or start its data: no frame header came before.
        is_segment &= (kind != 0xD8) & (kind != 0xD9) & (kind != 0xDA)
        good = b[0] == 0xFF
        size = tf.where(
            good & is_frame, tf.stack([b[5] * 256 + b[6], b[7] * 256 + b[8]]), size
        )
        two = tf.constant(2, tf.int64)
        step = tf.where(is_segment, two + b[2] * 256 + b[3], two)
        step = tf.where(kind == 0xFF, two // 2, step)  # A fill byte.
        going = good & ~is_frame & (is_segment | is_bare | (kind == 0xFF))
        return position + step, size, going

    _, size, _ = tf.while_loop(
        lambda position, size, going: going & (position + 9 <= length),
        look,
        (tf.constant(2, tf.int64), tf.zeros((2,), tf.int64), tf.constant(True)),
    )
    return size


def _powers(exponents):
    return tf.constant([256**i for i in exponents], tf.int64)

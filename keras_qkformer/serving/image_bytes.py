"""Decodes JPEG, PNG and WebP bytes inside a graph, each item on its own.

The header is read before anything is decoded, so a file beyond the limits of
`data.images.image_limits` costs neither time nor memory. A damaged item does not affect
the others.
"""

import tensorflow as tf

from keras_qkformer.data.images.image_decoding import decode_image
from keras_qkformer.data.images.image_limits import bounded_image

KINDS = ("JPEG", "PNG", "WebP")
"""Kinds of image files that a served model takes."""
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

    def read(number):
        fault, item = bounded_image(encoded[number], max_pixels, KINDS)
        image = tf.cond(
            fault == "",
            lambda: tf.ensure_shape(transform(decode_image(item, channels)), shape),
            lambda: tf.zeros(shape),
        )
        return number, image, fault

    options = tf.data.Options()
    # The graph builds this data set anew in every call: tuning would not pay.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    nothing = tf.data.Dataset.from_tensors((count, tf.zeros(shape), ""))
    numbers, images, faults = (
        tf.data.Dataset.range(count)
        .map(read, num_parallel_calls=_PARALLEL)
        .ignore_errors()
        .concatenate(nothing)  # get_single_element needs an element.
        .batch(count + 1)
        .with_options(options)
        .get_single_element()
    )
    target = tf.concat([[count + 1], tf.constant(shape, tf.int64)], 0)
    images = tf.scatter_nd(numbers[:, None], images, target)[:-1]
    # What is missing could not be decoded.
    reasons = tf.fill([count + 1], "damaged")
    reasons = tf.tensor_scatter_nd_update(reasons, numbers[:, None], faults)[:-1]
    return tf.ensure_shape(images, (None, *shape)), reasons

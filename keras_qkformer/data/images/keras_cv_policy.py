"""RandAugment, MixUp and CutMix of keras_cv, in tf.data; no other module imports it.

Unlike `augment`, these layers draw from a random generator of their own: two runs see
different images, and a resumed run does not repeat them. RandAugment of keras_cv has
ten operations, without rotation, sharpness, posterization and inversion.
"""

import functools

import keras_cv
import tensorflow as tf

_RATE = 10 / 11  # Probability of applying a drawn operation: keras_cv's default.


def randaugment(images, num_ops, magnitude, magnitude_std):
    """Apply `keras_cv.layers.RandAugment` to a batch.

    Args:
        images: uint8 tensor `(batch, height, width, 3)`.
        num_ops: int > 0. Operations per image.
        magnitude: float in [0, 10]. Strength of the operations; keras_cv receives a
            tenth of it.
        magnitude_std: float in [0, 10]. Standard deviation, on the same scale.

    Returns:
        Tensor like `images`.

    Raises:
        ValueError: if images have other than 3 channels.
    """
    if images.shape[-1] != 3:
        raise ValueError(
            "RandAugment of keras_cv is for colour images. "
            f"Received: {images.shape[-1]} channels"
        )
    layer = _layer(
        "RandAugment",
        value_range=(0, 255),
        augmentations_per_image=num_ops,
        magnitude=magnitude / 10,
        magnitude_stddev=magnitude_std / 10,
        rate=_RATE,
    )
    augmented = layer(tf.cast(images, tf.float32))
    augmented = tf.clip_by_value(tf.round(augmented), 0, 255)
    return tf.ensure_shape(tf.cast(augmented, images.dtype), images.shape)


def mix_by(name, images, labels, _, alpha):
    """Mix a batch by a layer of keras_cv, see `mixing.mix_images`.

    Args:
        name: `"MixUp"` or `"CutMix"`.
        images: float tensor `(batch, height, width, channels)`.
        labels: float tensor `(batch, classes)`.
        _: the seed, which these layers do not take.
        alpha: float > 0, see `ImageAugmentation`.

    Returns:
        `(images, labels)`.
    """
    mixed = _layer(name, alpha=alpha)({"images": images, "labels": labels})
    return (
        tf.ensure_shape(mixed["images"], images.shape),
        tf.ensure_shape(mixed["labels"], labels.shape),
    )


MIXERS = {
    "by_mixup": functools.partial(mix_by, "MixUp"),
    "by_cutmix": functools.partial(mix_by, "CutMix"),
}
"""Keywords for `mixing.mix_images`."""


@functools.cache
def _layer(name, **options):
    with tf.init_scope():  # A layer makes variables, which no traced function may.
        layer = getattr(keras_cv.layers, name)(**options)
    # The layer branches on tensors, so AutoGraph, off in the pipeline, must convert it.
    return tf.function(lambda inputs: layer(inputs))

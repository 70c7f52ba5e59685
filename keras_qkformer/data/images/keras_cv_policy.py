"""RandAugment, MixUp and CutMix of keras_cv, in tf.data: the only place that has it.

Unlike `augment`, these draw from a generator of their own: two runs see different
images, and so does one that is resumed. Their RandAugment has ten operations, among
them no rotation, sharpness, posterization or inversion.
"""

import functools

import keras_cv
import tensorflow as tf

_RATE = 10 / 11  # How often an operation that was drawn is applied: keras_cv's default.


def randaugment(images, num_ops, magnitude, magnitude_std):
    """`keras_cv.layers.RandAugment` on a batch.

    Args:
        images: uint8 tensor `(batch, height, width, 3)`.
        num_ops: int > 0. Operations per image.
        magnitude: float in [0, 10]. A tenth of it is keras_cv's.
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
    with tf.init_scope():  # Layers hold variables, which a traced function may not.
        layer = getattr(keras_cv.layers, name)(**options)
    # They branch on tensors: only what is traced anew turns that into a graph.
    return tf.function(lambda inputs: layer(inputs))

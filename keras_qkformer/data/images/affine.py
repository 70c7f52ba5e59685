"""Small random shifts, rotations and zooms of images."""

import math

import tensorflow as tf


def augment_images(images, labels, seed, *, max_shift, max_rotation, max_zoom):
    """Apply `random_affine`, as the `augment` of `training_dataset`; labels stay.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        labels: tensor `(batch, ...)`.
        seed: int tensor of two numbers.
        max_shift: float. Largest shift, as a fraction of height and width.
        max_rotation: float. Largest rotation, in degrees.
        max_zoom: float. Largest change of size, as a fraction.

    Returns:
        `(images, labels)`.
    """
    return random_affine(images, seed, max_shift, max_rotation, max_zoom), labels


def random_affine(images, seed, max_shift, max_rotation, max_zoom):
    """Shift, rotate and zoom every image by its own random amounts.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        seed: int tensor of two numbers: the same seed gives the same images.
        max_shift: float. Largest shift, as a fraction of height and width.
        max_rotation: float. Largest rotation, in degrees.
        max_zoom: float. Largest change of size, as a fraction.

    Returns:
        Tensor like `images`; pixels from outside repeat the border.
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
    # Transforms map output to input coordinates, about the middle of the image.
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

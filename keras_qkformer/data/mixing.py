"""Mixup, CutMix and label smoothing, of images and of event frames."""

import numpy as np
import tensorflow as tf


def smooth(labels, label_smoothing):
    """Probabilities `p` become `(1 - s) p + s / classes`, with s the smoothing.

    Raises:
        ValueError: if `label_smoothing` is not in [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            "label_smoothing must be in [0, 1). "
            f"Received: label_smoothing={label_smoothing}"
        )
    return (1 - label_smoothing) * labels + label_smoothing / labels.shape[-1]


def draw_share(seed, alpha, probability):
    """Share of the first partner of mixup: Beta(alpha, alpha), or 1 for no mixup.

    Args:
        seed: int tensor of two numbers.
        alpha: float > 0.
        probability: float in [0, 1].

    Returns:
        float32 tensor of shape ().

    Raises:
        ValueError: if an argument is out of range.
    """
    if not alpha > 0:
        raise ValueError(f"mixup_alpha must be above 0. Received: mixup_alpha={alpha}")
    if not 0 <= probability <= 1:
        raise ValueError(
            "mixup_probability must be in [0, 1]. "
            f"Received: mixup_probability={probability}"
        )
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    # Beta is a share of two gammas; small alphas need the range of float64.
    gammas = tf.random.stateless_gamma([2], seeds[0], alpha, dtype=tf.float64)
    share = tf.cast(tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1]), tf.float32)
    return tf.where(tf.random.stateless_uniform([], seeds[1]) < probability, share, 1.0)


def mixup(frames, labels, share):
    """Mix a batch with itself reversed: `share * first + (1 - share) * last`.

    Args:
        frames: float tensor `(batch, ...)`.
        labels: float tensor `(batch, classes)`.
        share: float tensor of shape (), in [0, 1]. 1 leaves all as it was.

    Returns:
        `(frames, labels)`.

    Example:
    >>> frames, labels = mixup(tf.constant([[8.0], [0.0]]), tf.eye(2), 0.75)
    >>> frames.numpy().tolist(), labels.numpy().tolist()
    ([[6.0], [2.0]], [[0.75, 0.25], [0.25, 0.75]])
    """

    def mix(values):
        own = tf.cast(share, values.dtype)
        return own * values + (1 - own) * values[::-1]

    return tf.cond(
        tf.convert_to_tensor(share) < 1,
        lambda: (mix(frames), mix(labels)),
        lambda: (frames, labels),
    )


def as_probabilities(labels, num_classes):
    """Labels `(batch,)` or probabilities as probabilities `(batch, classes)`."""
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 1 and labels.dtype.is_integer:
        rule = f"labels must lie from 0 to {num_classes - 1}. Received: "
        known = tf.get_static_value(labels)
        if known is not None and not np.all((0 <= known) & (known < num_classes)):
            raise ValueError(f"{rule}{known.tolist()}")
        # Of one outside, one_hot would make zeros.
        inside = tf.reduce_all((labels >= 0) & (labels < num_classes))
        with tf.control_dependencies([tf.debugging.Assert(inside, [rule, labels])]):
            return tf.one_hot(labels, num_classes)
    if labels.shape.rank == 2 and labels.shape[1] == num_classes:
        return tf.cast(labels, tf.float32)
    raise ValueError(
        f"labels must be whole numbers (batch,) or probabilities (batch, {num_classes})"
        f". Received: {labels.dtype.name} {tuple(labels.shape)}"
    )


def mix(
    images,
    labels,
    seed,
    *,
    mixup_alpha,
    cutmix_alpha,
    probability,
    switch_probability,
    by_mixup,
    by_cutmix,
):
    """Mix a batch in one of two ways, or not at all.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        labels: float tensor `(batch, classes)`.
        seed: int tensor of two numbers.
        mixup_alpha: float >= 0; 0 for no mixup.
        cutmix_alpha: float >= 0; 0 for no cutmix. Not both are 0.
        probability: float tensor of shape (). How often anything is mixed.
        switch_probability: float. How often by cutmix, if by both.
        by_mixup: function `(images, labels, seed, alpha) -> (images, labels)`.
        by_cutmix: the same.

    Returns:
        `(images, labels)`.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    if not mixup_alpha or not cutmix_alpha:
        switch_probability = float(bool(cutmix_alpha))
    is_cutmix = tf.random.stateless_uniform([], seeds[1]) < switch_probability

    def mixed():
        return tf.cond(
            is_cutmix,
            lambda: by_cutmix(images, labels, seeds[2], cutmix_alpha or 1.0),
            lambda: by_mixup(images, labels, seeds[2], mixup_alpha or 1.0),
        )

    drawn = tf.random.stateless_uniform([], seeds[0]) < probability
    return tf.cond(drawn, mixed, lambda: (images, labels))


def mix_up(images, labels, seed, alpha):
    """Timm's mixup: all images by the same share, which is Beta(alpha, alpha)."""
    return mixup(images, labels, draw_share(seed, alpha, 1.0))


def cut_mix(images, labels, seed, alpha):
    """Timm's cutmix: the same rectangle in all images, see `cutmix`."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    centre = tf.random.stateless_uniform([2], seeds[1])
    return cutmix(images, labels, draw_share(seeds[0], alpha, 1.0), centre)


def cutmix(images, labels, share, centre):
    """Put a rectangle of every image's partner in its place.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        labels: float tensor `(batch, classes)`.
        share: float tensor of shape (), in [0, 1]. What is to be kept of an image; the
            rectangle has the same shape as the image, and is cut off at the border.
        centre: float tensor `(2,)` in [0, 1): row and column of its middle, as a share
            of height and width.

    Returns:
        `(images, labels)`; labels are mixed by the area that is really kept.

    Example: the middle of 4 rows and columns.
    >>> images = tf.reshape([0.0, 1.0], (2, 1, 1, 1)) * tf.ones((2, 4, 4, 1))
    >>> images, labels = cutmix(images, tf.eye(2), 0.75, [0.5, 0.5])
    >>> int(images[0, :, :, 0].numpy().sum()), labels.numpy().tolist()
    (4, [[0.75, 0.25], [0.25, 0.75]])
    """
    # In float64, as timm: a length must not be rounded down from just below itself.
    side = tf.sqrt(1.0 - tf.cast(share, tf.float64))
    edges, masks = [], []
    for axis, size in enumerate(tf.unstack(tf.shape(images)[1:3])):
        exact = tf.cast(size, tf.float32)
        length = tf.cast(tf.cast(size, tf.float64) * side, tf.int32)
        middle = tf.minimum(tf.cast(centre[axis] * exact, tf.int32), size - 1)
        low = tf.clip_by_value(middle - length // 2, 0, size)
        high = tf.clip_by_value(middle + (length + 1) // 2, 0, size)
        place = tf.range(size)
        masks.append((place >= low) & (place < high))
        edges.append(tf.cast(high - low, tf.float32) / exact)
    inside = (masks[0][:, None] & masks[1][None, :])[None, ..., None]
    kept = 1.0 - edges[0] * edges[1]
    images = tf.where(inside, images[::-1], images)
    return images, kept * labels + (1.0 - kept) * labels[::-1]

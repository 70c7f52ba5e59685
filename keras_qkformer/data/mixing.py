"""Mixup, CutMix and label smoothing, of images and of event frames."""

import numpy as np
import tensorflow as tf


def smooth(labels, label_smoothing):
    """Spread a fraction of every label over all classes.

    Args:
        labels: float tensor `(batch, classes)`, probabilities `p`.
        label_smoothing: float in [0, 1), `s`.

    Returns:
        `(1 - s) * p + s / classes`.

    Raises:
        ValueError: if `label_smoothing` is not in [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            "label_smoothing must be in [0, 1). "
            f"Received: label_smoothing={label_smoothing}"
        )
    return (1 - label_smoothing) * labels + label_smoothing / labels.shape[-1]


def as_probabilities(labels, num_classes):
    """Convert labels to probabilities; probabilities stay.

    Args:
        labels: int tensor `(batch,)`, or probabilities `(batch, num_classes)` of any
            numeric type.
        num_classes: int > 0.

    Returns:
        float32 tensor `(batch, num_classes)`.

    Raises:
        ValueError: if labels have another shape or type, or lie outside
            `[0, num_classes)`.
        tf.errors.InvalidArgumentError: if a label lies outside, in a graph in which
            its value is not known when it is traced.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 1 and labels.dtype.is_integer:
        rule = f"labels must lie from 0 to {num_classes - 1}. Received: "
        known = tf.get_static_value(labels)
        if known is not None and not np.all((0 <= known) & (known < num_classes)):
            raise ValueError(f"{rule}{known.tolist()}")
        # For a label out of range, one_hot would return zeros.
        inside = tf.reduce_all((labels >= 0) & (labels < num_classes))
        with tf.control_dependencies([tf.debugging.Assert(inside, [rule, labels])]):
            return tf.one_hot(labels, num_classes)
    if labels.shape.rank == 2 and labels.shape[1] == num_classes:
        return tf.cast(labels, tf.float32)
    raise ValueError(
        f"labels must be whole numbers (batch,) or probabilities (batch, {num_classes})"
        f". Received: {labels.dtype.name} {tuple(labels.shape)}"
    )


def mixing_probability(settings, epoch):
    """Return the probability that a batch of an epoch is mixed.

    Args:
        settings: `ImageAugmentation` or `EventAugmentation`.
        epoch: int or int tensor. Number of the epoch, from 0.

    Returns:
        float in [0, 1], or float tensor of shape ().
    """
    if settings.mixup_off_epoch is None:
        return settings.mixup_probability
    is_on = epoch < settings.mixup_off_epoch
    return tf.where(is_on, settings.mixup_probability, 0.0)


def draw_weight(seed, alpha, probability=1.0):
    """Draw the weight of the first partner of mixup from Beta(alpha, alpha).

    Args:
        seed: int tensor of two numbers.
        alpha: float > 0.
        probability: float in [0, 1], or float tensor of shape (). Probability of
            mixup; otherwise the weight is 1.

    Returns:
        float32 tensor of shape (), in [0, 1].
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    # Beta is a ratio of two gammas; small alphas need the range of float64.
    gammas = tf.random.stateless_gamma([2], seeds[0], alpha, dtype=tf.float64)
    weight = tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1])
    is_mixed = tf.random.stateless_uniform([], seeds[1]) < probability
    return tf.where(is_mixed, tf.cast(weight, tf.float32), 1.0)


def mixup(inputs, labels, weight):
    """Mix a batch `x` with itself reversed: `weight * x + (1 - weight) * x[::-1]`.

    Args:
        inputs: float tensor `(batch, ...)` of images or frames.
        labels: float tensor `(batch, classes)`.
        weight: float tensor of shape (), in [0, 1]. 1 leaves the batch unchanged.

    Returns:
        `(inputs, labels)`.

    Example:
    >>> inputs, labels = mixup(tf.constant([[8.0], [0.0]]), tf.eye(2), 0.75)
    >>> inputs.numpy().tolist(), labels.numpy().tolist()
    ([[6.0], [2.0]], [[0.75, 0.25], [0.25, 0.75]])
    """

    def mixed(values):
        own = tf.cast(weight, values.dtype)
        return own * values + (1 - own) * values[::-1]

    return tf.cond(
        tf.convert_to_tensor(weight) < 1,
        lambda: (mixed(inputs), mixed(labels)),
        lambda: (inputs, labels),
    )


def cutmix(images, labels, kept, centre):
    """Replace one rectangle of every image by its partner's, from the reversed batch.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        labels: float tensor `(batch, classes)`.
        kept: float tensor of shape (), in [0, 1]. Fraction of an image's area to keep.
            The rectangle has the proportions of the image and is clipped at the border.
        centre: float tensor `(2,)` in [0, 1). Row and column of the middle of the
            rectangle, as fractions of height and width.

    Returns:
        `(images, labels)`; labels are mixed by the area kept after clipping.

    Example: replace the middle 2x2 of 4x4 pixels.
    >>> images = tf.reshape([0.0, 1.0], (2, 1, 1, 1)) * tf.ones((2, 4, 4, 1))
    >>> images, labels = cutmix(images, tf.eye(2), 0.75, [0.5, 0.5])
    >>> int(images[0, :, :, 0].numpy().sum()), labels.numpy().tolist()
    (4, [[0.75, 0.25], [0.25, 0.75]])
    """
    # float64, as in timm: in float32 a whole length may come out just below itself,
    # and the cast would truncate it.
    side = tf.sqrt(1.0 - tf.cast(kept, tf.float64))
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


def random_mixup(images, labels, seed, alpha):
    """Apply timm's mixup: one weight for all images, drawn from Beta(alpha, alpha).

    Args:
        images: float tensor `(batch, height, width, channels)`.
        labels: float tensor `(batch, classes)`.
        seed: int tensor of two numbers.
        alpha: float > 0.

    Returns:
        `(images, labels)`.
    """
    return mixup(images, labels, draw_weight(seed, alpha))


def random_cutmix(images, labels, seed, alpha):
    """Apply timm's CutMix: one rectangle for all images, see `cutmix`.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        labels: float tensor `(batch, classes)`.
        seed: int tensor of two numbers.
        alpha: float > 0. The kept area is drawn from Beta(alpha, alpha).

    Returns:
        `(images, labels)`.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    centre = tf.random.stateless_uniform([2], seeds[1])
    return cutmix(images, labels, draw_weight(seeds[0], alpha), centre)


def mix_images(
    images,
    labels,
    seed,
    settings,
    epoch,
    by_mixup=random_mixup,
    by_cutmix=random_cutmix,
):
    """Mix a batch of images by mixup, by CutMix, or not at all.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        labels: float tensor `(batch, classes)`.
        seed: int tensor of two numbers.
        settings: `ImageAugmentation`.
        epoch: int or int tensor. Number of the epoch, from 0.
        by_mixup: function `(images, labels, seed, alpha) -> (images, labels)`.
        by_cutmix: function with the same arguments.

    Returns:
        `(images, labels)`.
    """
    alphas = settings.mixup_alpha, settings.cutmix_alpha
    if not any(alphas):
        return images, labels
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    switch = settings.mixup_switch_probability if all(alphas) else float(alphas[1] > 0)
    is_cutmix = tf.random.stateless_uniform([], seeds[1]) < switch

    # tf.cond traces both branches, so the one that is disabled needs an alpha, too.
    def mixed():
        return tf.cond(
            is_cutmix,
            lambda: by_cutmix(images, labels, seeds[2], alphas[1] or 1.0),
            lambda: by_mixup(images, labels, seeds[2], alphas[0] or 1.0),
        )

    probability = mixing_probability(settings, epoch)
    is_mixed = tf.random.stateless_uniform([], seeds[0]) < probability
    return tf.cond(is_mixed, mixed, lambda: (images, labels))

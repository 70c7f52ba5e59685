"""The published augmentation of event frames, in tf.data: flip, one operation, mixup.

`augment` changes a batch `(batch, time, height, width, 2)` of frames and its labels, in
this order:

1. it flips recordings left to right, each with probability 1/2;
2. it applies one of six operations to each recording, the same to all its frames and
   both polarities;
3. it smooths labels and mixes half of the batches by mixup.

| operation     | magnitude, each value equally likely                         |
|---------------|--------------------------------------------------------------|
| `identity`    | none                                                         |
| `shear_x`     | -0.3, -0.28, ..., 0.3 rad: a slope of at most tan(0.3)       |
| `translate_x` | -5, -4 2/3, ..., 5 pixels to the right, rounded towards 0    |
| `translate_y` | the same, down                                               |
| `rotate`      | -30, -28, ..., 30 degrees, counter-clockwise                 |
| `cutout`      | a square of side round(sqrt(u height width)), u uniform from |
|               | 0.001 to 0.11, at any place inside                           |

Shear and rotation are about the middle of the frame. Interpolation is nearest
neighbour; pixels from outside are zero.

Differences from the source: a flipped gesture gets the label of its mirror image,
unless `flip="published"`; counts may be multiplied by a random factor (`max_gain`), as
a faster movement or a stronger contrast would change them; the square of `cutout` is at
most as large as the frame, where the source leaves a very long frame unchanged.

Reference:
    The authors' code, `SNNAugmentWide` and its transforms, with torchvision's
    geometry; timm 1.0, `Mixup` in its mode "batch".
"""

import math

import tensorflow as tf

from keras_qkformer.data.mixing import (
    as_probabilities,
    draw_weight,
    mixing_probability,
    mixup,
    smooth,
)

OPERATIONS = (
    "identity",
    "shear_x",
    "translate_x",
    "translate_y",
    "rotate",
    "cutout",
)
MIRRORED_GESTURES = (0, 2, 1, 6, 5, 4, 3, 7, 8, 9, 10)
"""Label of the mirror image of each gesture of DVS128 Gesture; a label is its code - 1.

Right and left hand wave (codes 2, 3) change places; so do the right arm clockwise and
the left arm counter-clockwise (4, 7), and the right arm counter-clockwise and the left
arm clockwise (5, 6). Clapping, arm roll, drums, guitar and "other" stay.
"""
_BINS = 15  # Magnitudes on either side of zero.
_CUTOUT_AREA = (0.001, 0.11)  # As a fraction of the frame.


def augment(
    frames, labels, seed, settings, *, num_classes, label_smoothing=0.0, epoch=0
):
    """Flip, transform and mix a batch of event frames, and smooth its labels.

    Deterministic: the same seed gives the same batch. The published runs use the
    defaults of `EventAugmentation` with `flip="published"`, `mixup_off_epoch=75` and a
    label smoothing of 0.1, which stays on after mixup ends.

    Args:
        frames: tensor `(batch, time, height, width, 2)` of any numeric type.
        labels: int tensor `(batch,)`, or probabilities `(batch, num_classes)`.
        seed: int tensor of two numbers.
        settings: `EventAugmentation`.
        num_classes: int > 0.
        label_smoothing: float in [0, 1).
        epoch: int or int tensor. Number of the epoch, from 0.

    Returns:
        `(frames, labels)`: frames of the same shape, float32 unless they were float
        before; smoothed float32 labels `(batch, num_classes)`, so the cross-entropy
        must not smooth them again.

    Raises:
        ValueError: if an argument is out of range or does not fit the classes.
        tf.errors.InvalidArgumentError: if a label is out of range in a graph in which
            its value is not known when it is traced.

    Example:
    >>> import functools
    >>> from keras_qkformer.data.settings import EventAugmentation
    >>> settings = EventAugmentation(flip="gestures", mixup_off_epoch=75)
    >>> hook = functools.partial(augment, settings=settings, num_classes=11)
    >>> frames, labels = hook(tf.ones((2, 16, 128, 128, 2)), [1, 4], seed=(0, 7))
    >>> frames.shape, labels.shape
    ((2, 16, 128, 128, 2), (2, 11))
    """
    frames = tf.convert_to_tensor(frames)
    if not frames.dtype.is_floating:
        frames = tf.cast(frames, tf.float32)
    labels = as_probabilities(labels, num_classes)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))

    check_flip(settings.flip, num_classes)
    drawn = draw_operations(tf.shape(frames), seeds[0])
    if not settings.operations:
        none = OPERATIONS.index("identity")
        drawn["operation"] = tf.fill(tf.shape(frames)[:1], none)
    flipped = draw_flips(tf.shape(frames)[0], seeds[1], settings.flip)
    frames = transform(frames, flipped=flipped, **drawn)
    if settings.flip == "gestures":
        labels = mirror_labels(labels, flipped)
    if settings.max_gain != 1:
        seed = tf.random.experimental.stateless_fold_in(seed, 3)
        gains = draw_gains(tf.shape(frames)[0], seed, settings.max_gain)
        frames *= tf.cast(gains, frames.dtype)[:, None, None, None, None]
    probability = mixing_probability(settings, epoch)
    weight = draw_weight(seeds[2], settings.mixup_alpha, probability)
    return mixup(frames, smooth(labels, label_smoothing), weight)


def check_flip(flip, num_classes):
    """Raise `ValueError` if a flip does not fit the number of classes.

    Args:
        flip: str. See `EventAugmentation`.
        num_classes: int. Only 11 fits `flip="gestures"`.
    """
    classes = len(MIRRORED_GESTURES)
    if flip == "gestures" and num_classes != classes:
        raise ValueError(
            f"flip='gestures' swaps labels of the {classes} gestures of DVS128 "
            "Gesture; for other classes choose 'published' (labels stay) or 'none'. "
            f"Received: {num_classes} classes"
        )


def draw_flips(batch, seed, flip="published"):
    """Draw which recordings are flipped, each with probability 1/2.

    Args:
        batch: int. Number of recordings.
        seed: int tensor of two numbers.
        flip: str. See `EventAugmentation`.

    Returns:
        bool tensor `(batch,)`.
    """
    if flip == "none":
        return tf.zeros([batch], bool)
    return tf.random.stateless_uniform([batch], seed) < 0.5


def draw_gains(batch, seed, max_gain):
    """Draw the factor by which to multiply the counts of each recording.

    Its logarithm is uniform.

    Args:
        batch: int. Number of recordings.
        seed: int tensor of two numbers.
        max_gain: float >= 1. The largest factor; the smallest is 1 / max_gain.

    Returns:
        float32 tensor `(batch,)`.
    """
    bound = math.log(max_gain)
    return tf.exp(tf.random.stateless_uniform([batch], seed, -bound, bound))


def draw_operations(shape, seed):
    """Draw one operation for each recording, with its magnitude.

    Args:
        shape: int tensor or tuple `(batch, time, height, width, 2)`. Shape of frames.
        seed: int tensor of two numbers.

    Returns:
        Dict of `operation`, int32 `(batch,)`, indices in `OPERATIONS`; `magnitude`,
        float32 `(batch,)` in the unit of the operation; and `corner`, int32
        `(batch, 2)`, row and column of the upper left pixel of a cut-out square.
    """
    batch, _, height, width, _ = tf.unstack(shape)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    count = len(OPERATIONS)
    operation = tf.random.stateless_uniform([batch], seeds[0], 0, count, tf.int32)
    step = tf.random.stateless_uniform([batch], seeds[1], -_BINS, _BINS + 1, tf.int32)
    linear = tf.cast(step, tf.float32) / _BINS
    pixels = tf.cast(tf.sign(step) * (tf.abs(step) // 3), tf.float32)

    area = tf.cast(height * width, tf.float32)
    fraction = tf.random.stateless_uniform([batch], seeds[2], *_CUTOUT_AREA)
    side = tf.round(tf.sqrt(fraction * area))
    side = tf.minimum(side, tf.cast(tf.minimum(height, width), tf.float32))
    room = tf.stack([height, width]) - tf.cast(side, tf.int32)[:, None] + 1
    place = tf.random.stateless_uniform([batch, 2], seeds[3])
    corner = tf.cast(place * tf.cast(room, tf.float32), tf.int32)
    # Rounding may lift a number just below 1 to 1.
    corner = tf.minimum(corner, room - 1)

    of_each = tf.stack(
        [tf.zeros_like(linear), 0.3 * linear, pixels, pixels, 30 * linear, side], 1
    )
    magnitude = tf.gather(of_each, operation, batch_dims=1)
    return {"operation": operation, "magnitude": magnitude, "corner": corner}


def transform(frames, *, flipped, operation, magnitude, corner):
    """Flip recordings, then apply one operation to each.

    Flip and operation make one table per recording with the source of every pixel, so
    frames are gathered once, and only those of recordings that change.

    Args:
        frames: tensor `(batch, time, height, width, channels)`.
        flipped: bool tensor `(batch,)`. Whether to flip left to right first.
        operation: int tensor `(batch,)`. Indices in `OPERATIONS`.
        magnitude: float tensor `(batch,)`. In rad, pixels or degrees, see the table
            above; side of the square in pixels for `cutout`.
        corner: int tensor `(batch, 2)`. Row and column of the square's upper left
            pixel; only `cutout` uses it.

    Returns:
        Tensor like `frames`.

    Example: move 1 pixel to the right.
    >>> frames = tf.reshape(tf.range(1, 5), (1, 1, 1, 4, 1))
    >>> place = OPERATIONS.index("translate_x")
    >>> moved = transform(frames, flipped=[False], operation=[place], magnitude=[1.0],
    ...                   corner=[[0, 0]])
    >>> moved.numpy().ravel().tolist()
    [0, 1, 2, 3]
    """
    flipped = tf.convert_to_tensor(flipped)
    operation = tf.convert_to_tensor(operation)
    changed = tf.where(flipped | (operation != OPERATIONS.index("identity")))[:, 0]
    shape = tf.shape(frames)
    _, time, height, width, channels = tf.unstack(shape)
    source, inside = _sources(
        height,
        width,
        tf.gather(flipped, changed),
        tf.gather(operation, changed),
        tf.gather(magnitude, changed),
        tf.gather(corner, changed),
    )
    pixels = tf.reshape(
        tf.gather(frames, changed), [-1, time, height * width, channels]
    )
    pixels = tf.gather(pixels, source, batch_dims=1, axis=2)
    pixels *= tf.cast(inside, frames.dtype)[:, None, :, None]
    pixels = tf.reshape(pixels, tf.concat([[-1], shape[1:]], 0))
    result = tf.tensor_scatter_nd_update(frames, changed[:, None], pixels)
    return tf.ensure_shape(result, frames.shape)


def _sources(height, width, flipped, operation, magnitude, corner):
    """Return the source of each pixel, int32 `(batch, pixels)`, and which are inside.

    Pixels not inside become zero.
    """

    def where(name):
        return operation == OPERATIONS.index(name)

    # In float64: which of two pixels is nearest must not depend on rounding.
    magnitude = tf.cast(magnitude, tf.float64)
    nothing = tf.zeros_like(magnitude)
    angle = tf.where(where("rotate"), magnitude * (math.pi / 180), nothing)
    shear = tf.where(where("shear_x"), tf.tan(magnitude), nothing)
    shift_x = tf.where(where("translate_x"), magnitude, nothing)
    shift_y = tf.where(where("translate_y"), magnitude, nothing)
    cosine, sine, shear, shift_x, shift_y = (
        value[:, None, None]
        for value in (tf.cos(angle), tf.sin(angle), shear, shift_x, shift_y)
    )
    row, column = tf.range(height)[:, None], tf.range(width)[None, :]
    middle_y = (tf.cast(height, tf.float64) - 1) / 2
    middle_x = (tf.cast(width, tf.float64) - 1) / 2
    y = tf.cast(row, tf.float64) - middle_y
    x = tf.cast(column, tf.float64) - middle_x
    source_x = tf.round(cosine * x + (shear - sine) * y - shift_x + middle_x)
    source_y = tf.round(sine * x + cosine * y - shift_y + middle_y)
    source_x = tf.cast(source_x, tf.int32)
    source_y = tf.cast(source_y, tf.int32)

    inside = (source_x >= 0) & (source_x < width)
    inside &= (source_y >= 0) & (source_y < height)
    side = tf.where(where("cutout"), tf.cast(magnitude, tf.int32), 0)[:, None, None]
    top, left = corner[:, 0, None, None], corner[:, 1, None, None]
    inside &= ~(
        (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    )
    source_x = tf.where(flipped[:, None, None], width - 1 - source_x, source_x)
    source = tf.where(inside, source_y * width + source_x, 0)
    flat = [-1, height * width]
    return tf.reshape(source, flat), tf.reshape(inside, flat)


def mirror_labels(labels, flipped):
    """Give flipped gestures the probabilities of their mirror images.

    Args:
        labels: float tensor `(batch, 11)`.
        flipped: bool tensor `(batch,)`.

    Returns:
        Tensor like `labels`.
    """
    mirrored = tf.gather(labels, MIRRORED_GESTURES, axis=1)
    return tf.where(tf.convert_to_tensor(flipped)[:, None], mirrored, labels)

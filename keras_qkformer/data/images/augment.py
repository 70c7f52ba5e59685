"""Augmentation of training images as timm does it, in tf.data.

`random_window` chooses a window of every image; only this window is decoded and resized
to the input size of the model. `augment` then changes the batch, in this order:

1. it flips images left to right, each with probability 1/2;
2. it applies the operations of a policy: RandAugment of timm or of keras_cv, or none;
3. it smooths labels and mixes the batch with itself reversed, by mixup or CutMix;
4. it normalizes images;
5. it erases a rectangle of some images.

Differences from the source: mixed pixels are not rounded to whole numbers.

Reference:
    timm 1.0: `transforms_factory.py`, `mixup.py` in its mode "batch" and with
    prefetcher, `random_erasing.py`.
"""

import math

import tensorflow as tf

from keras_qkformer.data.images.randaugment import randaugment
from keras_qkformer.data.mixing import mix_images, smooth

ERASED_AREA = (0.02, 1 / 3)
"""Smallest and largest area that is erased, as a fraction of the image's area."""
ERASED_SHAPE = (0.3, 1 / 0.3)
"""Smallest and largest height/width of an erased rectangle."""
_ATTEMPTS = 10


def augment(
    images,
    labels,
    seed,
    settings,
    *,
    num_classes,
    mean,
    std,
    label_smoothing=0.0,
    epoch=0,
):
    """Augment and normalize a batch of images, and smooth its labels.

    Deterministic, but for `policy="keras_cv"`: the same seed gives the same batch.

    Args:
        images: uint8 tensor `(batch, height, width, channels)` of 1 or 3 channels.
        labels: int tensor `(batch,)`.
        seed: int tensor of two numbers.
        settings: `ImageAugmentation`.
        num_classes: int > 0.
        mean: floats, one per channel. Mean of the values in [0, 1].
        std: floats > 0, one per channel. Standard deviation of the values in [0, 1].
        label_smoothing: float in [0, 1).
        epoch: int or int tensor. Number of the epoch, from 0.

    Returns:
        `(images, labels)`: normalized float32 images; smoothed float32 labels
        `(batch, num_classes)`, so the cross-entropy must not smooth them again.

    Example:
    >>> from keras_qkformer.data.settings import ImageAugmentation
    >>> images, labels = tf.zeros((4, 32, 32, 3), tf.uint8), tf.constant([0, 1, 2, 3])
    >>> options = {"num_classes": 10, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    >>> settings = ImageAugmentation(mixup_alpha=0.5)
    >>> images, labels = augment(images, labels, (0, 7), settings, **options)
    >>> images.shape, labels.shape, float(images[0, 0, 0, 0])
    ((4, 32, 32, 3), (4, 10), -2.0)
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
    labels = smooth(tf.one_hot(labels, num_classes), label_smoothing)
    mixers = {}
    if settings.flip:
        images = flip_some(images, seeds[0])
    if settings.policy == "randaugment":
        images = randaugment(
            images,
            seeds[1],
            num_ops=settings.num_ops,
            magnitude=settings.magnitude,
            magnitude_std=settings.magnitude_std,
            fill=[min(255, round(255 * value)) for value in mean],
            interpolation=settings.interpolation,
        )
    elif settings.policy == "keras_cv":
        # keras_cv takes seconds to import, and its layers need TensorFlow.
        from keras_qkformer.data.images import keras_cv_policy

        images = keras_cv_policy.randaugment(
            images, settings.num_ops, settings.magnitude, settings.magnitude_std
        )
        mixers = keras_cv_policy.MIXERS
    images = tf.cast(images, tf.float32)
    images, labels = mix_images(images, labels, seeds[2], settings, epoch, **mixers)
    images = normalize(images, mean, std)
    if settings.erase_probability:
        images = erase(
            images, seeds[3], settings.erase_probability, settings.erase_mode
        )
    return images, labels


def normalize(images, mean, std):
    """Subtract the mean from images and divide them by the standard deviation.

    Args:
        images: float32 tensor `(batch, height, width, channels)`, from 0 to 255.
        mean: floats, one per channel. Mean of the values in [0, 1].
        std: floats > 0, one per channel. Standard deviation of the values in [0, 1].

    Returns:
        Tensor like `images`.
    """
    # One vector per row of pixels: TensorFlow is slow to broadcast three numbers.
    shape = tf.shape(images)
    mean, std = (
        tf.tile(255.0 * tf.constant(values, tf.float32), [shape[2]])
        for values in (mean, std)
    )
    rows = tf.reshape(images, [shape[0], shape[1], -1])
    return tf.ensure_shape(tf.reshape((rows - mean) / std, shape), images.shape)


def random_window(height, width, draws, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Choose a window of random area and shape, see `training_dataset`.

    The first of ten attempts that fits into the image is used; if none fits, the
    largest window of an allowed shape, in the middle of the image.

    Args:
        height: int or int tensor. Height of the image, in pixels.
        width: int or int tensor. Width of the image, in pixels.
        draws: float tensor `(10, 4)` in [0, 1): area, shape, top, left of each attempt.
        scale: smallest and largest area, as a fraction of the image's area.
        ratio: smallest and largest width/height.

    Returns:
        int32 tensor `(4,)`: top, left, height, width.

    Example:
    >>> draws = tf.fill((10, 4), 0.5)
    >>> random_window(100, 200, draws, (0.25, 0.25), (1.0, 1.0)).numpy().tolist()
    [15, 65, 71, 71]
    """
    area, shape, top, left = tf.unstack(tf.cast(draws, tf.float64), 4, axis=1)
    height, width = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    area = height * width * (scale[0] + area * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = tf.exp(low + shape * (high - low))
    tall, wide = tf.round(tf.sqrt(area / shape)), tf.round(tf.sqrt(area * shape))
    fits = (0 < wide) & (wide <= width) & (0 < tall) & (tall <= height)
    top, left = top * (height - tall + 1), left * (width - wide + 1)
    attempt = tf.stack([top, left, tall, wide], 1)[tf.argmax(fits)]
    tall = tf.minimum(height, tf.round(width / ratio[0]))
    wide = tf.minimum(width, tf.round(height * ratio[1]))
    middle = tf.stack([(height - tall) / 2, (width - wide) / 2, tall, wide])
    return tf.cast(tf.where(tf.reduce_any(fits), attempt, middle), tf.int32)


def flip_some(images, seed):
    """Flip images left to right, each with probability 1/2.

    Args:
        images: tensor `(batch, height, width, channels)`.
        seed: int tensor of two numbers.

    Returns:
        Tensor like `images`.
    """
    shape = tf.shape(images)
    flipped = tf.where(tf.random.stateless_uniform(shape[:1], seed) < 0.5)
    # TensorFlow reverses the middle of three axes many times faster.
    rows = tf.reshape(tf.gather_nd(images, flipped), [-1, shape[2], shape[3]])
    mirrored = tf.reshape(tf.reverse(rows, [1]), tf.concat([[-1], shape[1:]], 0))
    result = tf.tensor_scatter_nd_update(images, flipped, mirrored)
    return tf.ensure_shape(result, images.shape)


def erase(images, seed, probability, mode="pixel"):
    """Erase a rectangle of some normalized images.

    The first of ten random rectangles that is smaller than the image in both directions
    is used; if none is, nothing is erased.

    Args:
        images: float tensor `(batch, height, width, channels)`.
        seed: int tensor of two numbers.
        probability: float in [0, 1]. Probability that an image is changed.
        mode: str. Fills the rectangle with normal noise per pixel (`"pixel"`), one
            normally distributed colour (`"rand"`) or 0, the mean colour (`"const"`).

    Returns:
        Tensor like `images`.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    batch, height, width, channels = tf.unstack(tf.shape(images))
    drawn = tf.random.stateless_uniform([batch], seeds[0]) < probability
    top, left, tall, wide = draw_rectangles(batch, height, width, seeds[1])
    chosen = tf.where(drawn & (tall > 0))[:, 0]
    top, left, tall, wide = (
        tf.gather(value, chosen)[:, None] for value in (top, left, tall, wide)
    )
    row, column = tf.range(height)[None], tf.range(width)[None]
    rows = (row >= top) & (row < top + tall)
    columns = (column >= left) & (column < left + wide)
    inside = rows[:, :, None] & columns[:, None, :]
    # Draw colours and write pixels only inside the rectangles.
    places = tf.where(inside)
    number, pixel = places[:, 0], places[:, 1:]
    if mode == "pixel":
        colour = tf.random.stateless_normal([tf.size(number), channels], seeds[2])
    elif mode == "rand":
        colour = tf.random.stateless_normal([tf.size(chosen), channels], seeds[2])
        colour = tf.gather(colour, number)
    else:
        colour = tf.zeros([tf.size(number), channels])
    places = tf.concat([tf.gather(chosen, number)[:, None], pixel], 1)
    return tf.ensure_shape(
        tf.tensor_scatter_nd_update(images, places, colour), images.shape
    )


def draw_rectangles(batch, height, width, seed):
    """Draw a rectangle to erase for each image.

    Args:
        batch: int or int tensor. Number of images.
        height: int or int tensor. Height of the images, in pixels.
        width: int or int tensor. Width of the images, in pixels.
        seed: int tensor of two numbers.

    Returns:
        List of int32 tensors `(batch,)`: top, left, height and width in pixels; all 0
        where none of ten attempts fits.
    """
    draws = tf.random.stateless_uniform([4, batch, _ATTEMPTS], seed)
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    low, high = ERASED_AREA
    area = height * width * (low + draws[0] * (high - low))
    low, high = (math.log(value) for value in ERASED_SHAPE)
    shape = tf.exp(low + draws[1] * (high - low))
    tall, wide = tf.round(tf.sqrt(area * shape)), tf.round(tf.sqrt(area / shape))
    fits = (tall < height) & (wide < width)
    first = tf.argmax(fits, 1, tf.int32)
    tall, wide, top, left = (
        tf.gather(value, first, batch_dims=1)
        for value in (tall, wide, draws[2], draws[3])
    )
    # Rounding may lift a number just below 1 to 1.
    top = tf.minimum(tf.floor(top * (height - tall + 1)), height - tall)
    left = tf.minimum(tf.floor(left * (width - wide + 1)), width - wide)
    none = ~tf.reduce_any(fits, 1)
    return [
        tf.where(none, 0, tf.cast(value, tf.int32)) for value in (top, left, tall, wide)
    ]

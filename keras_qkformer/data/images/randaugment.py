"""RandAugment as timm has it, in tf.data: `rand-m9-n2-mstd0.5-inc1` and the like.

`num_ops` of fifteen operations are drawn for every image, with replacement. Each is
then applied with probability 1/2, at a magnitude L that is drawn from a normal
distribution and clipped to [0, 10]:

| operation       | argument                                                  |
|-----------------|-----------------------------------------------------------|
| `auto_contrast` | none                                                      |
| `equalize`      | none                                                      |
| `invert`        | none                                                      |
| `rotate`        | +-3 L degrees                                             |
| `posterize`     | bits to keep, 4 - floor(0.4 L)                            |
| `solarize`      | least value to invert, 256 - floor(25.6 L)                |
| `solarize_add`  | added to pixels below 128, min(128, floor(11 L))          |
| `color`         | factor, max(0.1, 1 +- 0.09 L)                             |
| `contrast`      | the same                                                  |
| `brightness`    | the same                                                  |
| `sharpness`     | the same                                                  |
| `shear_x`       | +-0.03 L                                                  |
| `shear_y`       | +-0.03 L                                                  |
| `translate_x`   | +-0.045 L of the width                                    |
| `translate_y`   | +-0.045 L of the height                                   |

Images of a batch that drew the same operation are processed together, so operations
that none drew are not computed. Pixels equal those of Pillow, which timm uses.

Differences from the source: interpolation uses float32, where Pillow uses float64 and
truncates. A value may differ by 1, and a pixel at the edge of the area filled from
outside by more.

Reference:
    Cubuk et al., 2019, https://arxiv.org/abs/1909.13719; timm 1.0, `auto_augment.py`;
    Pillow, `ImageOps`, `ImageEnhance` and `Image.transform`.
"""

import math

import tensorflow as tf

OPERATIONS = (
    "auto_contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
NOTHING = len(OPERATIONS)
"""Index that stands for no operation."""
_MAX_MAGNITUDE = 10.0


def randaugment(
    images,
    seed,
    *,
    num_ops=2,
    magnitude=9.0,
    magnitude_std=0.5,
    fill=(124, 116, 104),
    interpolation="bicubic",
):
    """Draw and apply operations to every image of a batch.

    Deterministic: the same seed gives the same images.

    Args:
        images: uint8 tensor `(batch, height, width, channels)` of 1 or 3 channels.
        seed: int tensor of two numbers.
        num_ops: int > 0. Operations per image.
        magnitude: float in [0, 10]. Mean magnitude.
        magnitude_std: float >= 0. Standard deviation of the magnitude.
        fill: numbers from 0 to 255, one per channel. Colour of pixels from outside.
        interpolation: `"bilinear"` or `"bicubic"`.

    Returns:
        Tensor like `images`.

    Example:
    >>> images = tf.zeros((8, 32, 32, 3), tf.uint8)
    >>> randaugment(images, (0, 7), num_ops=1).shape
    (8, 32, 32, 3)
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, num_ops))
    for slot in seeds:
        operation, argument = draw(
            tf.shape(images)[0], slot, magnitude=magnitude, magnitude_std=magnitude_std
        )
        images = apply(images, operation, argument, fill, interpolation)
    return images


def draw(batch, seed, *, magnitude=9.0, magnitude_std=0.5):
    """Draw one operation for each image, or none, with its argument.

    Args:
        batch: int. Number of images.
        seed: int tensor of two numbers.
        magnitude: float in [0, 10]. Mean magnitude.
        magnitude_std: float >= 0. Standard deviation of the magnitude.

    Returns:
        `(operation, argument)`: int32 and float32 tensors `(batch,)`. An operation is
        an index in `OPERATIONS`, or `NOTHING`; its argument is as in the table above,
        or 0 if there is none.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    operation = tf.random.stateless_uniform([batch], seeds[0], 0, NOTHING, tf.int32)
    applied = tf.random.stateless_uniform([batch], seeds[1]) < 0.5
    level = magnitude + magnitude_std * tf.random.stateless_normal([batch], seeds[2])
    level = tf.clip_by_value(level, 0.0, _MAX_MAGNITUDE)
    positive = tf.random.stateless_uniform([batch], seeds[3]) < 0.5
    argument = arguments(level, tf.where(positive, 1.0, -1.0))
    argument = tf.gather(argument, operation, axis=1, batch_dims=1)
    return tf.where(applied, operation, NOTHING), tf.where(applied, argument, 0.0)


def arguments(level, sign):
    """Compute the argument of every operation at given magnitudes.

    Args:
        level: float tensor `(batch,)`. Magnitudes in [0, 10].
        sign: float tensor `(batch,)`. 1 or -1, for operations with a direction.

    Returns:
        float tensor `(batch, operations)`, in the order of `OPERATIONS`.

    Example:
    >>> values = arguments(tf.constant([9.0]), tf.constant([-1.0]))[0].numpy()
    >>> dict(zip(OPERATIONS, values.round(3).tolist(), strict=True))["posterize"]
    1.0
    """
    fraction = level / _MAX_MAGNITUDE
    none = tf.zeros_like(fraction)
    factor = tf.maximum(0.1, 1 + sign * 0.9 * fraction)
    shear, shift = sign * 0.3 * fraction, sign * 0.45 * fraction
    of_each = {
        "auto_contrast": none,
        "equalize": none,
        "invert": none,
        "rotate": sign * 30.0 * fraction,
        "posterize": 4 - tf.floor(4 * fraction),
        "solarize": 256 - tf.floor(256 * fraction),
        "solarize_add": tf.minimum(128.0, tf.floor(110 * fraction)),
        "color": factor,
        "contrast": factor,
        "brightness": factor,
        "sharpness": factor,
        "shear_x": shear,
        "shear_y": shear,
        "translate_x": shift,
        "translate_y": shift,
    }
    return tf.stack([of_each[name] for name in OPERATIONS], 1)


def apply(images, operation, argument, fill, interpolation="bicubic"):
    """Apply one operation to each image.

    Args:
        images: uint8 tensor `(batch, height, width, channels)` of 1 or 3 channels.
        operation: int tensor `(batch,)`. Indices in `OPERATIONS`, or `NOTHING`.
        argument: float tensor `(batch,)`. See the table above.
        fill: numbers from 0 to 255, one per channel. Colour of pixels from outside.
        interpolation: `"bilinear"` or `"bicubic"`.

    Returns:
        Tensor like `images`.

    Raises:
        ValueError: if images have other than 1 or 3 channels, `fill` has another
            number of them, or `interpolation` is unknown.

    Example:
    >>> pixels = tf.constant([[[[0], [200]]]], tf.uint8)
    >>> place = OPERATIONS.index("invert")
    >>> apply(pixels, [place], [0.0], (0,)).numpy().ravel().tolist()
    [255, 55]
    """
    images = tf.convert_to_tensor(images)
    channels = images.shape[-1]
    if channels not in (1, 3) or len(fill) != channels:
        raise ValueError(
            "Images must have 1 or 3 channels, and the fill colour as many. "
            f"Received: {channels} and {fill}"
        )
    if interpolation not in _TAPS:
        raise ValueError(
            f"interpolation must be one of {tuple(_TAPS)}. Received: {interpolation!r}"
        )
    operation = tf.convert_to_tensor(operation)
    argument = tf.convert_to_tensor(argument)
    group_of, functions = [], []
    for names, function in _GROUPS:
        group_of += [(name, len(functions)) for name in names]
        functions.append(function)
    group_of = dict(group_of)
    table = [group_of[name] for name in OPERATIONS] + [len(functions)]
    groups = tf.gather(table, operation)
    places = tf.dynamic_partition(
        tf.range(tf.shape(images)[0]), groups, len(functions) + 1
    )

    def run(function, place):
        chosen = tf.gather(images, place)
        return tf.cond(
            tf.size(place) > 0,
            lambda: function(
                chosen,
                tf.gather(operation, place),
                tf.gather(argument, place),
                fill=fill,
                interpolation=interpolation,
            ),
            lambda: chosen,
        )

    results = [
        run(function, place)
        for function, place in zip(functions, places[:-1], strict=True)
    ]
    results.append(tf.gather(images, places[-1]))
    return tf.ensure_shape(tf.dynamic_stitch(places, results), images.shape)


def _is(operation, name):
    return operation == OPERATIONS.index(name)


def _flat(images):
    """Reshape to `(batch, pixels * channels)`, to broadcast a number per image fast."""
    return tf.reshape(images, [tf.shape(images)[0], -1])


def _look_up(images, table):
    """Map pixels through a table of each image, `(batch, channels, 256)`."""
    batch, channels = tf.shape(images)[0], images.shape[-1]
    table = tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8)
    offset = 256 * tf.reshape(tf.range(batch * channels), [batch, 1, 1, channels])
    return tf.gather(tf.reshape(table, [-1]), tf.cast(images, tf.int32) + offset)


def _auto_contrast(images, operation, argument, **_):
    shape = tf.shape(images)
    # Reduce over rows first: TensorFlow is faster on long vectors.
    rows = tf.reshape(images, [shape[0], shape[1], -1])
    low, high = (
        reduce(tf.reshape(reduce(rows, 1), [shape[0], shape[2], images.shape[-1]]), 1)
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    low, high = tf.cast(low, tf.float64), tf.cast(high, tf.float64)
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1.0)
    low = tf.where(high > low, low, 0.0)
    # All rows of an image share one row of factors.
    scale, low = (
        tf.tile(tf.cast(value, tf.float32), [1, shape[2]])[:, None]
        for value in (scale, low)
    )
    values = (tf.cast(rows, tf.float32) - low) * scale
    # A whole number that was rounded to just below itself must not be truncated.
    values = tf.clip_by_value(values + 1e-3, 0.0, 255.0)
    return tf.reshape(tf.cast(values, tf.uint8), shape)


def _equalize(images, operation, argument, **_):
    batch, channels = tf.shape(images)[0], images.shape[-1]
    offset = 256 * tf.reshape(tf.range(batch * channels), [batch, 1, 1, channels])
    counts = tf.math.bincount(
        tf.reshape(tf.cast(images, tf.int32) + offset, [-1]),
        minlength=batch * channels * 256,
        maxlength=batch * channels * 256,
    )
    counts = tf.reshape(counts, [batch, channels, 256])
    highest = tf.cast(tf.reduce_max(images, (1, 2)), tf.int32)
    of_highest = tf.gather(counts, highest, batch_dims=2)[..., None]
    step = (tf.reduce_sum(counts, -1, keepdims=True) - of_highest) // 255
    below = tf.cumsum(counts, -1, exclusive=True)
    table = tf.where(
        step > 0, (step // 2 + below) // tf.maximum(step, 1), tf.range(256)
    )
    return _look_up(images, table)


def _invert(images, operation, argument, **_):
    return 255 - images


def _posterize(images, operation, argument, **_):
    lost = tf.clip_by_value(8 - tf.cast(argument, tf.int32), 0, 8)
    kept = tf.cast(256 - tf.bitwise.left_shift(1, lost), tf.uint8)
    kept = tf.bitwise.bitwise_and(_flat(images), kept[:, None])
    return tf.reshape(kept, tf.shape(images))


def _solarize(images, operation, argument, **_):
    # XOR with 255 inverts a value, XOR with 0 keeps it.
    threshold = tf.cast(argument, tf.int32)[:, None]
    pixels = _flat(images)
    above = tf.cast(pixels, tf.int32) >= threshold
    mask = 255 * tf.cast(above, tf.uint8)
    return tf.reshape(tf.bitwise.bitwise_xor(pixels, mask), tf.shape(images))


def _solarize_add(images, operation, argument, **_):
    pixels = _flat(images)
    added = tf.cast(argument, tf.uint8)[:, None]  # Sums up to 127 + 128 fit uint8.
    dark = tf.cast(pixels < 128, tf.uint8)
    return tf.reshape(pixels + dark * added, tf.shape(images))


def _brightness(images, operation, argument, **_):
    value = argument[:, None] * tf.cast(_flat(images), tf.float32)
    value = tf.cast(tf.minimum(value, 255.0), tf.uint8)
    return tf.reshape(value, tf.shape(images))


def _luma(images):
    """Compute grey values as Pillow rounds them: int32 `(batch, height, width, 1)`."""
    images = tf.cast(images, tf.int32)
    if images.shape[-1] == 1:
        return images
    red, green, blue = tf.split(images, 3, -1)
    return tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 32768, 16)


def _blend(start, end, factor):
    """Blend or extrapolate from `start` to `end`, truncated to uint8 as in Pillow."""
    value = start + factor * (end - start)
    return tf.cast(tf.clip_by_value(value, 0.0, 255.0), tf.uint8)


def _contrast(images, operation, argument, **_):
    luma = tf.cast(_luma(images), tf.float64)
    mean = tf.cast(tf.floor(tf.reduce_mean(luma, (1, 2)) + 0.5), tf.float32)
    pixels = tf.cast(_flat(images), tf.float32)
    return tf.reshape(_blend(mean, pixels, argument[:, None]), tf.shape(images))


def _color(images, operation, argument, **_):
    grey = tf.cast(_luma(images), tf.float32)
    factor = argument[:, None, None, None]
    return _blend(grey, tf.cast(images, tf.float32), factor)


def _sharpness(images, operation, argument, **_):
    # A 3x3 kernel smooths, with weight 5 in the middle, 1 elsewhere; the border stays.
    exact = tf.cast(images, tf.float32)
    rows = exact[:, :-2] + exact[:, 1:-1] + exact[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    middle = exact[:, 1:-1, 1:-1]
    smooth = tf.floor((total + 4 * middle) / 13 + 0.5)
    sharp = _blend(smooth, middle, argument[:, None, None, None])
    rows = tf.concat([images[:, 1:-1, :1], sharp, images[:, 1:-1, -1:]], 2)
    return tf.concat([images[:, :1], rows, images[:, -1:]], 1)


def _rows(images, operation, argument, fill, interpolation):
    """Apply `shear_x` or `translate_x`: shift every row by its own amount."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    shear = tf.where(_is(operation, "shear_x"), argument, 0.0)[:, None, None]
    shift = tf.where(_is(operation, "translate_x"), argument * width, 0.0)
    row = tf.range(height)[None, :, None]
    shift = shear * (row + 0.5) + shift[:, None, None]
    x = tf.range(width)[None, None, :] + tf.floor(shift), shift - tf.floor(shift)
    return _sample(images, x, (row, None), fill, interpolation)


def _columns(images, operation, argument, fill, interpolation):
    """Apply `shear_y` or `translate_y`: shift every column by its own amount."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    shear = tf.where(_is(operation, "shear_y"), argument, 0.0)[:, None, None]
    shift = tf.where(_is(operation, "translate_y"), argument * height, 0.0)
    column = tf.range(width)[None, None, :]
    shift = shear * (column + 0.5) + shift[:, None, None]
    y = tf.range(height)[None, :, None] + tf.floor(shift), shift - tf.floor(shift)
    return _sample(images, (column, None), y, fill, interpolation)


def _rotate(images, operation, argument, fill, interpolation):
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    angle = (argument * (-math.pi / 180))[:, None, None]
    cosine, sine = tf.cos(angle), tf.sin(angle)
    y = tf.range(height)[None, :, None] + 0.5 - height / 2
    x = tf.range(width)[None, None, :] + 0.5 - width / 2
    source = (
        cosine * x + sine * y + width / 2 - 0.5,
        cosine * y - sine * x + height / 2 - 0.5,
    )
    x, y = ((tf.floor(value), value - tf.floor(value)) for value in source)
    return _sample(images, x, y, fill, interpolation)


def _linear(d):
    return (1 - d, d)


def _cubic(d):
    # Pillow's transforms use the cubic kernel with a = -1, unlike its resize.
    return (
        d * (-1 + d * (2 - d)),
        1 + d * d * (-2 + d),
        d * (1 + d * (1 - d)),
        d * d * (-1 + d),
    )


_TAPS = {"bilinear": (0, _linear), "bicubic": (-1, _cubic)}
"""By interpolation: offset of the first neighbour, function of the weights of all."""


def _sample(images, x, y, fill, interpolation):
    """Sample images at points between pixels.

    Args:
        images: uint8 tensor `(batch, height, width, channels)`.
        x: `(column, fraction)`, float tensors that broadcast to `(batch, height,
            width)`: a whole column, and the distance to the right of it in [0, 1), or
            `None` for 0.
        y: `(row, fraction)`, likewise.
        fill: colour outside the image.
        interpolation: see `apply`.

    Returns:
        Tensor like `images`.
    """
    batch, height, width, channels = tf.unstack(tf.shape(images))
    first, weights_of = _TAPS[interpolation]
    inside, taps = [], []
    for (low, fraction), size in ((x, width), (y, height)):
        middle = low + 0.5 if fraction is None else low + fraction + 0.5
        inside.append((middle >= 0) & (middle < tf.cast(size, tf.float32)))
        low = tf.cast(low, tf.int32)
        if fraction is None:
            taps.append([(low, None)])
            continue
        weights = weights_of(fraction)
        if fraction.shape[-1] != 1:  # Rows are vectors of width * channels below.
            weights = [tf.repeat(weight, channels, axis=-1) for weight in weights]
        taps.append(
            [
                (tf.clip_by_value(low + first + i, 0, size - 1), weight)
                for i, weight in enumerate(weights)
            ]
        )
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, channels])
    of_image = height * width * tf.range(batch)[:, None, None]
    total = 0.0
    for row, row_weight in taps[1]:
        start, in_row = row * width + of_image, 0.0
        for column, weight in taps[0]:
            value = tf.gather(pixels, start + column)
            value = tf.reshape(value, [batch, height, width * channels])
            in_row += value if weight is None else value * weight
        total += in_row if row_weight is None else in_row * row_weight
    values = tf.reshape(tf.clip_by_value(total, 0.0, 255.0), tf.shape(images))
    colour = tf.constant(fill, tf.float32)
    values = tf.where((inside[0] & inside[1])[..., None], values, colour)
    return tf.cast(values, tf.uint8)


_GROUPS = (
    (("auto_contrast",), _auto_contrast),
    (("equalize",), _equalize),
    (("invert",), _invert),
    (("posterize",), _posterize),
    (("solarize",), _solarize),
    (("solarize_add",), _solarize_add),
    (("brightness",), _brightness),
    (("contrast",), _contrast),
    (("color",), _color),
    (("sharpness",), _sharpness),
    (("shear_x", "translate_x"), _rows),
    (("shear_y", "translate_y"), _columns),
    (("rotate",), _rotate),
)
"""Operations that are computed together, and the function that does so."""

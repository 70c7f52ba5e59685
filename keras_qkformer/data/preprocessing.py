"""From pixels or counts to what a model takes: size, scale and normalization."""

import dataclasses
import math

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Turns pixels or counts into what a model takes: resized, scaled, normalized.

    Args:
        image_size: (height, width) in pixels.
        mean: floats, one per channel, of the values in [0, 1].
        std: floats, one per channel, of the values in [0, 1].
        max_value: float > 0. The value that is scaled to 1: 255 for pixels. With 1,
            counts of events stay what they are.
        crop: see `resize`.
        interpolation: see `resize`.

    Example:
    >>> preprocessing = Preprocessing((224, 224), (0.5,) * 3, (0.25,) * 3, crop=0.875)
    >>> preprocessing(tf.zeros((2, 300, 400, 3), "uint8")).shape
    (2, 224, 224, 3)
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value: float = 255.0
    crop: float | None = None
    interpolation: str = "bilinear"

    def __post_init__(self):
        for name in ("image_size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def from_dict(cls, values):
        """The preprocessing that `to_dict` has written.

        Raises:
            ValueError: if a value is missing or unknown.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        needed = {"image_size", "mean", "std"}
        if not needed <= {*values} <= {*fields}:
            raise ValueError(
                f"The preprocessing of a model must have {sorted(needed)}, and may "
                f"have {sorted({*fields} - needed)}. Received: {sorted(values)}"
            )
        return cls(**values)

    def to_dict(self):
        """The values as a dict that JSON can hold; event frames are never cropped."""
        values = dataclasses.asdict(self)
        if self.crop is None and self.interpolation == "bilinear":
            del values["crop"], values["interpolation"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def __call__(self, images):
        """Resize and normalize.

        Args:
            images: tensor `(..., height, width, channels)` of any numeric type, with
                values from 0 to `max_value`.

        Returns:
            float32 tensor `(..., *image_size, channels)`.
        """
        return self.normalized(self.resized(images))

    def resized(self, images):
        """Resize alone: float32, with values from 0 to `max_value`."""
        images = tf.cast(images, tf.float32)
        if images.shape.rank > 4:  # tf.image takes one axis in front of the height.
            shape = tf.shape(images)
            flat = self.resized(tf.reshape(images, tf.concat([[-1], shape[-3:]], 0)))
            result = tf.reshape(flat, tf.concat([shape[:-3], tf.shape(flat)[1:]], 0))
            return tf.ensure_shape(result, images.shape[:-3] + flat.shape[1:])
        images = resize(images, self.image_size, self.crop, self.interpolation)
        if self.interpolation == "bicubic":  # It overshoots at edges.
            images = tf.clip_by_value(images, 0.0, self.max_value)
        return images

    def normalized(self, images):
        """Scale and normalize alone, whatever the size: float32."""
        images = tf.cast(images, tf.float32)
        mean, std = (tf.constant(x, tf.float32) for x in (self.mean, self.std))
        return (images / self.max_value - mean) / std

    def pixels(self, images):
        """Resize alone, `([batch,] height, width, channels)`, rounded to uint8."""
        images = resize(images, self.image_size, self.crop, self.interpolation)
        if images.dtype == tf.uint8:
            return images
        return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)

    def uncropped(self):
        """The same with the border that the crop cuts off.

        What its `pixels` gives comes out of this preprocessing as the images would.
        """
        if self.crop is None:
            return self
        size = [math.floor(side / self.crop) for side in self.image_size]
        return dataclasses.replace(self, image_size=size, crop=1.0)


def resize(images, image_size, crop=None, interpolation="bilinear"):
    """Images of another size, smoothed where they become smaller.

    Args:
        images: tensor `([batch,] height, width, channels)`.
        image_size: (height, width) in pixels.
        crop: float in (0, 1], the fraction of height and width that is taken out of the
            middle once the shorter side is image size / crop, as timm and torchvision
            do; or `None` to squeeze all of an image into the size.
        interpolation: `"bilinear"` or `"bicubic"`.

    Returns:
        Tensor `([batch,] *image_size, channels)`, float32 unless nothing had to be
        done.

    Example:
    >>> resize(tf.zeros((1, 300, 400, 3)), (224, 224), 0.875, "bicubic").shape
    (1, 224, 224, 3)
    """
    images = tf.convert_to_tensor(images)
    height, width = image_size
    if crop is None:
        return _squeeze(images, image_size, interpolation)
    had, larger, half = images.shape[-3:-1], max, lambda value: round(value / 2)
    if None in had:
        had, larger = tf.unstack(tf.shape(images)[-3:-1]), tf.maximum
        half = lambda value: tf.cast(tf.round(value / 2), tf.int32)  # noqa: E731
    tall, wide = math.floor(height / crop), math.floor(width / crop)
    # Whichever side is shorter for that shape decides; the other keeps the proportion.
    size = larger(tall, wide * had[0] // had[1]), larger(wide, tall * had[1] // had[0])
    images = _squeeze(images, size, interpolation)
    top, left = half(size[0] - height), half(size[1] - width)
    images = images[..., top : top + height, left : left + width, :]
    return tf.ensure_shape(images, [*images.shape[:-3], height, width, None])


def _squeeze(images, size, interpolation):
    """`tf.image.resize` with antialiasing, bit for bit, in a third of the time.

    Its operation is fast along the height, where it adds whole rows, and slow along the
    width, where it adds single pixels: so it does the height twice, the second time
    with height and width exchanged.
    """
    if tuple(images.shape[-3:-1]) == tuple(size):
        return images
    if images.shape.rank == 3:
        return _squeeze(images[None], size, interpolation)[0]
    for length in size:
        images = tf.transpose(
            _resize_height(images, length, interpolation), (0, 2, 1, 3)
        )
    return images


def _resize_height(images, length, interpolation):
    shape, channels = tf.shape(images), images.shape[-1]
    rows = tf.reshape(images, [shape[0], shape[1], 1, shape[2] * shape[3]])
    scale = tf.cast(length, tf.float32) / tf.cast(shape[1], tf.float32)
    rows = tf.raw_ops.ScaleAndTranslate(
        images=rows,
        size=tf.stack([length, 1]),
        scale=tf.stack([scale, 1.0]),
        translation=[0.0, 0.0],
        kernel_type={"bilinear": "triangle", "bicubic": "keyscubic"}[interpolation],
        antialias=True,
    )
    rows = tf.reshape(rows, [shape[0], length, shape[2], shape[3]])
    static = length if isinstance(length, int) else None
    return tf.ensure_shape(rows, [images.shape[0], static, images.shape[2], channels])

"""Preprocessing of images and event frames for a model: size, scale, normalization."""

import dataclasses
import math
from typing import Annotated, Literal

import tensorflow as tf
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from keras_qkformer.json_files import explain
from keras_qkformer.printable import printable

_Side = Annotated[int, Field(gt=0, le=100_000)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Preprocessing:
    """Resizes, scales and normalizes images or event frames for a model.

    Args:
        image_size: (height, width) in pixels.
        mean: floats, one per channel. Mean of the scaled values.
        std: floats > 0, one per channel. Standard deviation of the scaled values.
        max_value: float > 0. The value that is scaled to 1: 255 for pixels; 1 leaves
            counts of events unscaled.
        crop: see `resize`.
        interpolation: see `resize`.

    Example:
    >>> preprocessing = Preprocessing((224, 224), (0.5,) * 3, (0.25,) * 3, crop=0.875)
    >>> preprocessing(tf.zeros((2, 300, 400, 3), "uint8")).shape
    (2, 224, 224, 3)
    """

    image_size: tuple[_Side, _Side]
    mean: tuple[_Finite, ...]
    std: tuple[_Positive, ...]
    max_value: _Positive = 255.0
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @classmethod
    def from_dict(cls, values):
        """Make the preprocessing that `to_dict` described.

        Args:
            values: dict, see `to_dict`.

        Returns:
            `Preprocessing`.

        Raises:
            ValueError: if a value is missing, unknown or out of range.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        needed = {"image_size", "mean", "std"}
        if not needed <= {*values} <= {*fields}:
            raise ValueError(
                f"The preprocessing of a model must have {sorted(needed)}, and may "
                f"have {sorted({*fields} - needed)}. "
                f"Received: {printable(str(sorted(values)))}"
            )
        try:
            made = cls(**values)
        except ValidationError as error:
            raise ValueError(f"preprocessing.{explain(error)}") from error
        if len(made.mean) != len(made.std):
            raise ValueError(
                "mean and std of a preprocessing must have a value for each channel. "
                f"Received: {len(made.mean)} and {len(made.std)}"
            )
        return made

    def to_dict(self):
        """Return the arguments as a dict for JSON.

        `crop` and `interpolation` are left out if both have their defaults, as for
        event frames.
        """
        values = dataclasses.asdict(self)
        if self.crop is None and self.interpolation == "bilinear":
            del values["crop"], values["interpolation"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def __call__(self, images):
        """Resize and normalize.

        Args:
            images: tensor `(..., height, width, channels)` of any numeric type.

        Returns:
            float32 tensor `(..., *image_size, channels)`.
        """
        return self.normalized(self.resized(images))

    def resized(self, images):
        """Resize without scaling, to float32 `(..., *image_size, channels)`."""
        images = tf.cast(images, tf.float32)
        if images.shape.rank > 4:  # `resize` takes at most one axis before the height.
            shape = tf.shape(images)
            flat = self.resized(tf.reshape(images, tf.concat([[-1], shape[-3:]], 0)))
            result = tf.reshape(flat, tf.concat([shape[:-3], tf.shape(flat)[1:]], 0))
            return tf.ensure_shape(result, images.shape[:-3] + flat.shape[1:])
        images = resize(images, self.image_size, self.crop, self.interpolation)
        if self.interpolation == "bicubic":  # It overshoots at edges.
            images = tf.clip_by_value(images, 0.0, self.max_value)
        return images

    def normalized(self, images):
        """Scale and normalize images of any size without resizing, to float32."""
        images = tf.cast(images, tf.float32)
        mean, std = (tf.constant(x, tf.float32) for x in (self.mean, self.std))
        return (images / self.max_value - mean) / std

    def pixels(self, images):
        """Resize `([batch,] height, width, channels)` and round to uint8."""
        images = resize(images, self.image_size, self.crop, self.interpolation)
        if images.dtype == tf.uint8:
            return images
        return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)

    def uncropped(self):
        """Return this preprocessing with the border that its crop cuts off.

        The `pixels` of the result can be preprocessed in place of the images: this
        preprocessing then only crops and normalizes them.
        """
        if self.crop is None:
            return self
        size = [math.floor(side / self.crop) for side in self.image_size]
        return dataclasses.replace(self, image_size=size, crop=1.0)


def resize(images, image_size, crop=None, interpolation="bilinear"):
    """Resize images, with antialiasing where they become smaller.

    Args:
        images: tensor `([batch,] height, width, channels)`.
        image_size: (height, width) in pixels.
        crop: float in (0, 1] or `None`. Resizes the shorter side to image size / crop
            and takes the middle, this fraction of height and width, as timm and
            torchvision do. `None` squeezes the whole image into the size.
        interpolation: `"bilinear"` or `"bicubic"`.

    Returns:
        Tensor `([batch,] *image_size, channels)`: float32, or of the type of `images`
        if no pixel had to be interpolated.

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
    # The side that is shorter, relative to the target, decides; the other follows.
    size = larger(tall, wide * had[0] // had[1]), larger(wide, tall * had[1] // had[0])
    images = _squeeze(images, size, interpolation)
    top, left = half(size[0] - height), half(size[1] - width)
    images = images[..., top : top + height, left : left + width, :]
    return tf.ensure_shape(images, [*images.shape[:-3], height, width, None])


def _squeeze(images, size, interpolation):
    """Resize as `tf.image.resize` with antialiasing, bit for bit, three times faster.

    TensorFlow's kernel is fast along the height, where it adds whole rows, and slow
    along the width, where it adds single pixels. So resize the height, exchange height
    and width, and resize the height again.
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

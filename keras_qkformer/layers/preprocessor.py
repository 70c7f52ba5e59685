"""Preprocessing as a layer: pixels of any size in, inputs of a model out."""

import math
from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_qkformer")
class Preprocessor(keras.layers.Layer):
    """Resizes, scales and normalizes images or event frames for a model.

    With x the resized input, `(x / max_value - mean) / std`. It has no weights. In
    `tf.data` it works with the TensorFlow backend alone; `TrainedModel.preprocessing`
    works there on every backend, and computes the same but for rounding.

    Args:
        image_size: (height, width) in pixels, of the output.
        mean: floats, one per channel. Mean of the scaled values.
        std: floats > 0, one per channel. Standard deviation of the scaled values.
        max_value: float > 0. The value that is scaled to 1: 255 for pixels; 1 leaves
            counts of events unscaled.
        crop: float in (0, 1], or `None`. Resizes the shorter side to image size / crop
            and takes the middle, as timm and torchvision do; then the input's height
            and width must be known. `None` squeezes the whole image into the size.
        interpolation: `"bilinear"` or `"bicubic"`, with antialiasing.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(..., height, width, channels)` with at least one axis before the height: any
        numeric type, values from 0 to `max_value`, or counts of events.

    Output shape:
        `(..., *image_size, channels)`, float.

    Raises:
        ValueError: if an argument is out of range, the number of channels is another
            than that of `mean`, or the size is unknown where `crop` needs it.

    Example:
    >>> pixels = np.full((2, 30, 40, 3), 255, "uint8")
    >>> inputs = Preprocessor((8, 12), mean=[0.5] * 3, std=[0.25] * 3)(pixels)
    >>> tuple(inputs.shape), round(float(ops.max(inputs)), 3)
    ((2, 8, 12, 3), 2.0)
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        max_value: float = 255.0,
        crop: float | None = None,
        interpolation: str = "bilinear",
        **kwargs,
    ):
        # Integers are cast here: Keras would leave them, and cast floats to 16 bits.
        super().__init__(autocast=False, **kwargs)
        self.image_size = tuple(image_size)
        self.mean, self.std = list(mean), list(std)
        self.max_value = max_value
        self.crop = crop
        self.interpolation = interpolation
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError(
                "mean and std must have one value per channel, and std be above 0. "
                f"Received: mean={self.mean}, std={self.std}"
            )
        if not max_value > 0:
            raise ValueError(f"max_value must be above 0. Received: {max_value}")
        if crop is not None and not 0 < crop <= 1:
            raise ValueError(f"crop must be in (0, 1] or None. Received: {crop}")
        if interpolation not in ("bilinear", "bicubic"):
            raise ValueError(
                "interpolation must be 'bilinear' or 'bicubic'. "
                f"Received: {interpolation!r}"
            )

    def build(self, input_shape):
        self._check(input_shape)

    def call(self, inputs):
        self._check(inputs.shape)
        *lead, height, width, channels = inputs.shape
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        x = ops.cast(inputs, dtype)
        if self.crop is not None or (height, width) != self.image_size:
            x = self._resized(ops.reshape(x, (-1, *ops.shape(x)[-3:])), height, width)
            x = ops.reshape(x, (-1, *lead[1:], *self.image_size, channels))
            if self.interpolation == "bicubic":  # It overshoots at edges.
                x = ops.clip(x, 0.0, self.max_value)
        mean, std = (ops.convert_to_tensor(v, dtype) for v in (self.mean, self.std))
        return ops.cast((x / self.max_value - mean) / std, self.compute_dtype)

    def _resized(self, x, height, width):
        size, target = self.image_size, self.image_size
        if self.crop is not None:
            tall, wide = (math.floor(side / self.crop) for side in target)
            # The side that is shorter, relative to the target, decides.
            size = max(tall, wide * height // width), max(wide, tall * width // height)
        if size != (height, width):
            x = ops.image.resize(
                x,
                size,
                interpolation=self.interpolation,
                antialias=True,
                data_format="channels_last",
            )
        top, left = (round((a - b) / 2) for a, b in zip(size, target, strict=True))
        return x[:, top : top + target[0], left : left + target[1]]

    def _check(self, input_shape):
        if len(input_shape) < 4 or input_shape[-1] != len(self.mean):
            raise ValueError(
                "Inputs must have the shape (batch, ..., height, width, "
                f"{len(self.mean)}). Received: {tuple(input_shape)}"
            )
        if None in input_shape[1:-3] or (
            self.crop is not None and None in input_shape[-3:-1]
        ):
            raise ValueError(
                "All axes but the batch must be known, except that height and width "
                "may be unknown without a crop. Received: shape "
                f"{tuple(input_shape)}, crop={self.crop}"
            )

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        return (*input_shape[:-3], *self.image_size, input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": list(self.image_size),
            "mean": self.mean,
            "std": self.std,
            "max_value": self.max_value,
            "crop": self.crop,
            "interpolation": self.interpolation,
        }

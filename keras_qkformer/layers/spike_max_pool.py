"""Max pooling of the spikes of every time step."""

import math

import keras
from keras import ops

from keras_qkformer.layers.computation import Selection
from keras_qkformer.layers.conv_bn_lif import check_divisible
from keras_qkformer.ops.spatial import max_pool2d, max_pool_windows


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikeMaxPool(keras.layers.Layer):
    """Halve height and width by maxima of spikes, or of numbers of spikes.

    Differences from the source: none intended.

    Args:
        size: int. Rows and columns of a window: 3, padded by one row and column as in
            PyTorch, or 2.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        `(batch, time, height / 2, width / 2, channels)`.

    Raises:
        ValueError: if `size` is neither 2 nor 3, or height or width is odd.

    Example:
    >>> SpikeMaxPool(size=2)(np.ones((1, 4, 8, 6, 3), "float32")).shape
    (1, 4, 4, 3, 3)

    Reference:
        [Fang et al., 2021](https://arxiv.org/abs/2102.04159): 3 in the model for
        ImageNet, 2 in those for events.
    """

    def __init__(self, size: int = 3, **kwargs):
        super().__init__(**kwargs)
        if size not in (2, 3):
            raise ValueError(f"size must be 2 or 3. Received: size={size}")
        self.size = size

    def build(self, input_shape):
        check_divisible(input_shape, 2)

    def call(self, inputs):
        if self.size == 3:
            return max_pool2d(inputs)
        time, *map_shape = inputs.shape[1:]
        x = max_pool_windows(ops.reshape(inputs, (-1, *map_shape)), size=2)
        return ops.reshape(x, (-1, time, *x.shape[1:]))

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        return [Selection(kept=math.prod(self.get_build_config()["input_shape"][1:]))]

    def compute_output_shape(self, input_shape):
        batch, time, height, width, channels = input_shape
        return (batch, time, height // 2, width // 2, channels)

    def get_config(self):
        return {**super().get_config(), "size": self.size}

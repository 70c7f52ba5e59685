"""Mix neighbouring tokens, each channel alone: the early mixer of Max-Former."""

import keras

from keras_qkformer.layers.conv_bn_lif import ConvBNLIF, check_odd
from keras_qkformer.layers.neurons import neuron_for, serialize_neuron


@keras.saving.register_keras_serializable(package="keras_qkformer")
class DepthwiseMixer(keras.layers.Layer):
    """Depthwise convolution of spikes, between potentials.

        output = BN(dw(SN(x)) + b)

    where dw convolves every channel with a kernel of its own. The neuron receives x
    alone, so it runs as an operation of its own.

    Differences from the source: none intended.

    Args:
        kernel_size: odd int. Rows and columns of the kernels.
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if `kernel_size` is even.

    Example:
    >>> DepthwiseMixer(kernel_size=5)(np.ones((1, 4, 8, 8, 16), "float32")).shape
    (1, 4, 8, 8, 16)

    Reference:
        [Fang et al., 2025](https://arxiv.org/abs/2505.18608), Max-Former's DWC.
    """

    def __init__(
        self,
        kernel_size: int = 3,
        neuron: str | keras.layers.Layer | dict = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_odd(kernel_size)
        self.kernel_size = kernel_size
        self.neuron = serialize_neuron(neuron)
        self.input_neuron = neuron_for(self, "input_neuron")

    def build(self, input_shape):
        self.input_neuron.build(input_shape)
        self.unit = ConvBNLIF(
            input_shape[-1],
            self.kernel_size,
            use_bias=True,
            depthwise=True,
            neuron=None,
            dtype=self.dtype_policy,
            name="unit",
        )
        self.unit.build(input_shape)

    def call(self, inputs, training=None):
        return self.unit(self.input_neuron(inputs), training=training)

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        return self.unit.computations()

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "neuron": self.neuron,
        }

"""The feed-forward half of a block: two linear spiking units."""

import keras
from keras import ops

from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.layers.neurons import neuron_for, serialize_neuron


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikingMLP(keras.layers.Layer):
    """Two linear units over the channels, with `mlp_ratio` times as many in between.

        y = SN(BN(x W1 + b1))
        output = SN(BN(y W2 + b2))

    With `pre_activation`:

        y = BN(SN(x) W1 + b1)
        output = BN(SN(y) W2 + b2)

    where the first BatchNorm and the second neuron run as one operation. With
    `pre_activation`, `inner_shortcut` and `mlp_ratio` 1, each unit has a residual
    connection of its own:

        y = BN(SN(x) W1 + b1)
        output = y + BN(SN(x + y) W2 + b2)

    because the block adds x to the output.

    Args:
        mlp_ratio: float > 0. Number of hidden channels over number of input channels.
        pre_activation: bool. If true, the layer starts with a neuron and ends without
            one, so that its input and output are potentials (MS-QKFormer).
        inner_shortcut: bool. Whether there are these connections with `pre_activation`
            and `mlp_ratio` 1. Spikingformer has none.
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if `mlp_ratio` times the channels is not a whole number above 0.

    Example:
    >>> SpikingMLP(mlp_ratio=4)(np.ones((1, 4, 8, 8, 16), "float32")).shape
    (1, 4, 8, 8, 16)

    Reference:
        `MLP` of the authors' code; `MLP` of MaxFormer for `pre_activation`.
    """

    def __init__(
        self,
        mlp_ratio: float = 4,
        pre_activation: bool = False,
        inner_shortcut: bool = True,
        neuron: str | keras.layers.Layer | dict = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mlp_ratio = mlp_ratio
        self.pre_activation = pre_activation
        self.inner_shortcut = inner_shortcut
        self.neuron = serialize_neuron(neuron)
        self.input_neuron = neuron_for(self, "input_neuron") if pre_activation else None
        self.hidden_neuron = (
            neuron_for(self, "hidden_neuron") if pre_activation else None
        )

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = channels * self.mlp_ratio
        if hidden < 1 or hidden != int(hidden):
            raise ValueError(
                "mlp_ratio times the number of channels must be a whole number above "
                f"0. Received: mlp_ratio={self.mlp_ratio}, channels={channels}"
            )
        self.expand = self._unit("expand", int(hidden))
        self.reduce = self._unit("reduce", channels)
        hidden_shape = (*input_shape[:-1], int(hidden))
        if self.pre_activation:
            self.input_neuron.build(input_shape)
            self.hidden_neuron.build(hidden_shape)
        self.expand.build(input_shape)
        self.reduce.build(hidden_shape)

    def _unit(self, name, filters):
        return ConvBNLIF(
            filters,
            kernel_size=1,
            use_bias=True,
            neuron=None if self.pre_activation else self.neuron,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs, training=None):
        if not self.pre_activation:
            return self.reduce(
                self.expand(inputs, training=training), training=training
            )
        spikes = self.input_neuron(inputs)
        if not self.inner_shortcut or self.expand.filters != inputs.shape[-1]:
            hidden = self.expand(spikes, training=training, neuron=self.hidden_neuron)
            return self.reduce(hidden, training=training)
        y = self.expand(spikes, training=training)
        hidden = self.hidden_neuron(ops.add(inputs, y))
        return ops.add(y, self.reduce(hidden, training=training))

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        return self.expand.computations() + self.reduce.computations()

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "mlp_ratio": self.mlp_ratio,
            "pre_activation": self.pre_activation,
            "inner_shortcut": self.inner_shortcut,
            "neuron": self.neuron,
        }

"""The base class of the attention layers: linear units, a neuron, a projection."""

import dataclasses

import keras

from keras_qkformer.layers.computation import Selection
from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.layers.neurons import neuron_for, serialize_neuron


class SpikingAttention(keras.layers.Layer):
    """Base class of the attention layers.

    A subclass combines the spikes of its linear `units` in `call`, with the help of
    `attention_neuron`, and passes the result through the projection `proj`.

    Args:
        pre_activation: bool. If true, the layer starts with a neuron and ends without
            one, so that its input and output are potentials (MS-QKFormer).
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.
    """

    units = ("query", "key")
    use_bias = False

    def __init__(
        self,
        pre_activation: bool = False,
        neuron: str | keras.layers.Layer | dict = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.pre_activation = pre_activation
        self.neuron = serialize_neuron(neuron)
        self.input_neuron = neuron_for(self, "input_neuron") if pre_activation else None
        self.attention_neuron = neuron_for(self, "attention_neuron", v_threshold=0.5)

    def build(self, input_shape):
        if self.input_neuron is not None:
            self.input_neuron.build(input_shape)
        for name in self.units:
            setattr(self, name, self._linear_unit(name, input_shape, self.neuron))
        self.attention_neuron.build(self.attention_shape(input_shape))
        self.proj = self._linear_unit("proj", input_shape, self.projection_neuron())

    def attention_shape(self, input_shape):
        """Return the input shape of the attention neuron."""
        return input_shape

    def projection_neuron(self):
        """Return the template of the neuron after the projection, or `None`."""
        return None if self.pre_activation else self.neuron

    def _linear_unit(self, name, input_shape, neuron):
        unit = ConvBNLIF(
            input_shape[-1],
            kernel_size=1,
            use_bias=self.use_bias or name == "proj",
            neuron=neuron,
            dtype=self.dtype_policy,
            name=name,
        )
        unit.build(input_shape)
        return unit

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        (first,), *others = (getattr(self, n).computations() for n in self.units)
        others = [dataclasses.replace(each, shares_input=True) for (each,) in others]
        return [first, *others, *self.products(first), *self.proj.computations()]

    def products(self, unit):
        """List the products of the attention: here, a mask that selects keys.

        Args:
            unit: `Convolution` of the query.
        """
        return [Selection(kept=unit.outputs)]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "pre_activation": self.pre_activation,
            "neuron": self.neuron,
        }


def check_heads(num_heads, channels):
    """Raise `ValueError` unless the number of heads divides the channels.

    Args:
        num_heads: int.
        channels: int > 0.
    """
    if num_heads < 1 or channels % num_heads:
        raise ValueError(
            "num_heads must divide the number of channels. "
            f"Received: num_heads={num_heads}, channels={channels}"
        )

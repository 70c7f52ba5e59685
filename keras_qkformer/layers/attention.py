"""What the three attention layers share: spiking linear units in, a projection out."""

import dataclasses

import keras

from keras_qkformer.layers.computation import Product
from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.layers.neurons import neuron_for, serialize_neuron


class SpikingAttention(keras.layers.Layer):
    """Base of the attention layers: their units, and the neuron that attends.

    Args:
        pre_activation: bool. If true, a neuron comes first and the last one is left
            out, so that potentials go in and out (MS-QKFormer).
        neuron: a neuron layer used as template, or its name.
        **kwargs: passed to `keras.layers.Layer`.
    """

    units = ("query", "key")

    def __init__(self, pre_activation=False, neuron="lif", **kwargs):
        super().__init__(**kwargs)
        self.pre_activation = pre_activation
        self.neuron = serialize_neuron(neuron)
        self.first = neuron_for(self, "first") if pre_activation else None
        self.attend = neuron_for(self, "attend", v_threshold=0.5)

    def build(self, input_shape):
        if self.first is not None:
            self.first.build(input_shape)
        for name in self.units:
            setattr(self, name, self._linear_unit(name, input_shape, self.neuron))
        self.attend.build(self.attention_shape(input_shape))
        self.proj = self._linear_unit("proj", input_shape, self.last_neuron())

    def attention_shape(self, input_shape):
        """Shape of what the attending neuron receives."""
        return input_shape

    def last_neuron(self):
        """Template of the neuron behind the projection, or `None`."""
        return None if self.pre_activation else self.neuron

    def _linear_unit(self, name, input_shape, neuron):
        unit = ConvBNLIF(
            input_shape[-1],
            kernel_size=1,
            use_bias=name == "proj",
            neuron=neuron,
            dtype=self.dtype_policy,
            name=name,
        )
        unit.build(input_shape)
        return unit

    def computations(self):
        """What the built layer computes, see `layers.computation`."""
        (first,), *others = (getattr(self, n).computations() for n in self.units)
        others = [dataclasses.replace(each, shares_input=True) for (each,) in others]
        return [first, *others, self.product(first), *self.proj.computations()]

    def product(self, unit):
        """The `Product` of attention: keys that are let pass, which are kept.

        Args:
            unit: the `Convolution` of the query.
        """
        return Product(macs=0, kept=unit.outputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "pre_activation": self.pre_activation,
            "neuron": self.neuron,
        }


def check_heads(num_heads, channels):
    """Raise `ValueError` unless the channels can be shared among the heads."""
    if num_heads < 1 or channels % num_heads:
        raise ValueError(
            "num_heads must divide the number of channels. "
            f"Received: num_heads={num_heads}, channels={channels}"
        )

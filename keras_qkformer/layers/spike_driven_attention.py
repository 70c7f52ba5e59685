"""Spike-driven attention: masks and sums of spikes, without a product."""

import keras
from keras import ops

from keras_qkformer.layers.attention import SpikingAttention, check_heads
from keras_qkformer.layers.computation import Selection
from keras_qkformer.layers.operation_scope import record_operation
from keras_qkformer.ops.spatial import max_filter2d


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikeDrivenAttention(SpikingAttention):
    """Spike-driven self-attention: the sum of K * V over tokens decides which Q pass.

    With SN a neuron over time, BN a batch normalization, and * the product of entries,
    which selects spikes:

        Q, K, V = SN(BN(x W)), one W each
        g = SN(sum over the tokens of K * V)                threshold 0.5
        output = SN(BN((Q * g) Wp + b))

    g is one bit per channel and time step, so the cost is linear in the number of
    tokens and of channels, and nothing is multiplied.

    With `dilate`, 3x3 maxima of stride 1 widen the spikes: those of K and of V over the
    plane, and those of K * V and Q * g over the tokens, row by row, and the channels of
    a head. The latter mix what is only next to each other in memory.

    Differences from the source: none intended.

    Args:
        num_heads: int > 0. Divides the channels of the input. Without `dilate` it
            changes nothing.
        dilate: bool. Whether maxima widen the spikes, as in their models for
            CIFAR10-DVS (`dvs_mode`).
        pre_activation: bool. If true, the layer starts with a neuron and ends without
            one, so that its input and output are potentials, as published.
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if `num_heads` does not divide the channels.

    Example:
    >>> SpikeDrivenAttention(num_heads=2)(np.ones((1, 4, 8, 8, 16), "float32")).shape
    (1, 4, 8, 8, 16)

    Reference:
        [Yao et al., 2023](https://arxiv.org/abs/2307.01694); `MS_SSA_Conv` of the
        authors' code.
    """

    units = ("query", "key", "value")

    def __init__(self, num_heads: int, dilate: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dilate = dilate

    def build(self, input_shape):
        check_heads(self.num_heads, input_shape[-1])
        super().build(input_shape)

    def attention_shape(self, input_shape):
        return (*input_shape[:2], 1, 1, input_shape[-1])

    def call(self, inputs, training=None):
        x = inputs if self.input_neuron is None else self.input_neuron(inputs)
        query, key, value = (
            unit(x, training=training) for unit in (self.query, self.key, self.value)
        )
        key_value = self._over_heads(self._over_plane(key) * self._over_plane(value))
        mask = self.attention_neuron(ops.sum(key_value, (2, 3), keepdims=True))
        record_operation(self, query=query, key=key, value=value, mask=mask)
        return self.proj(self._over_heads(query * mask), training=training)

    def _over_plane(self, x):
        if not self.dilate:
            return x
        shape = x.shape[1:]
        return ops.reshape(max_filter2d(ops.reshape(x, (-1, *shape[1:]))), (-1, *shape))

    def _over_heads(self, x):
        """Maxima over tokens and the channels of a head."""
        if not self.dilate:
            return x
        height, width, channels = x.shape[2:]
        heads = (height * width, self.num_heads, channels // self.num_heads)
        # As maps: one row per token, one column per channel of a head.
        maps = ops.swapaxes(ops.reshape(x, (-1, *heads)), 2, 3)
        maps = ops.swapaxes(max_filter2d(maps), 2, 3)
        return ops.reshape(maps, (-1, *x.shape[1:]))

    def products(self, unit):
        # Q, K and V; what the four maxima take and give but for the projection's input.
        return [Selection(kept=(8 if self.dilate else 3) * unit.outputs)]

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dilate": self.dilate,
        }

"""Q-K token attention: which tokens matter, at linear cost."""

import keras
from keras import ops

from keras_qkformer.layers.attention import SpikingAttention, check_heads
from keras_qkformer.layers.operation_scope import record_operation


@keras.saving.register_keras_serializable(package="keras_qkformer")
class TokenQKAttention(SpikingAttention):
    """Q-K token attention: Q decides which tokens of K pass.

    With SN a neuron over time and BN a batch normalization, for every head:

        Q = SN(BN(x Wq))                 binary, as are K and A
        K = SN(BN(x Wk))
        A = SN(sum over the channels of the head of Q)      threshold 0.5
        output = SN(BN((A * K) Wp + b))

    A is one bit per token, head and time step. So the cost is linear in the number of
    tokens; no tensor of size tokens x tokens exists.

    Differences from the source: none intended.

    Args:
        num_heads: int > 0. Divides the channels of the input.
        pre_activation: bool. If true, the layer starts with a neuron and ends without
            one, so that its input and output are potentials (MS-QKFormer).
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
    >>> layer = TokenQKAttention(num_heads=2)
    >>> x = np.ones((1, 4, 8, 8, 16), "float32")
    >>> layer(x).shape, layer.mask(x).shape
    ((1, 4, 8, 8, 16), (1, 4, 8, 8, 2))

    Reference:
        [Zhou et al., 2024](https://openreview.net/forum?id=AVd7DpiooC), equations for
        Q-K token attention; `Token_QK_Attention` of the authors' code.
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        check_heads(self.num_heads, input_shape[-1])
        super().build(input_shape)

    def attention_shape(self, input_shape):
        return (*input_shape[:-1], self.num_heads)

    def call(self, inputs, training=None):
        x = inputs if self.input_neuron is None else self.input_neuron(inputs)
        query = self.query(x, training=training)
        mask = self._mask_of(query)
        key = self.key(x, training=training)
        record_operation(self, query=query, key=key, mask=mask)
        masked = ops.expand_dims(mask, -1) * self._split_heads(key)
        return self.proj(ops.reshape(masked, (-1, *key.shape[1:])), training=training)

    def mask(self, inputs):
        """Compute the mask A of a built layer, in inference.

        Args:
            inputs: tensor `(batch, time, height, width, channels)`.

        Returns:
            Tensor `(batch, time, height, width, num_heads)` of 0 and 1.
        """
        x = ops.cast(inputs, self.compute_dtype)
        x = x if self.input_neuron is None else self.input_neuron(x)
        return self._mask_of(self.query(x, training=False))

    def _mask_of(self, query):
        return self.attention_neuron(ops.sum(self._split_heads(query), -1))

    def _split_heads(self, x):
        *shape, channels = x.shape[1:]
        head_dim = channels // self.num_heads
        return ops.reshape(x, (-1, *shape, self.num_heads, head_dim))

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}

"""Q-K channel attention: which channels matter, at linear cost."""

import keras
from keras import ops

from keras_qkformer.layers.attention import SpikingAttention
from keras_qkformer.layers.operation_scope import record_operation


@keras.saving.register_keras_serializable(package="keras_qkformer")
class ChannelQKAttention(SpikingAttention):
    """Q-K channel attention: Q decides which channels of K pass.

    With SN a neuron over time and BN a batch normalization:

        Q = SN(BN(x Wq))
        K = SN(BN(x Wk))
        A = SN(sum over the tokens of Q)                    threshold 0.5
        output = SN(BN((A * K) Wp + b))

    A is one bit per channel and time step. There is no argument `num_heads`, because
    heads would change nothing: channels are never summed.

    Differences from the source: the paper defines this attention; the authors' code
    lacks it.

    Args:
        pre_activation: bool. If true, the layer starts with a neuron and ends without
            one, so that its input and output are potentials (MS-QKFormer).
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        Same as the input.

    Example:
    >>> ChannelQKAttention()(np.ones((1, 4, 8, 8, 16), "float32")).shape
    (1, 4, 8, 8, 16)

    Reference:
        [Zhou et al., 2024](https://openreview.net/forum?id=AVd7DpiooC), equations for
        Q-K channel attention.
    """

    def attention_shape(self, input_shape):
        return (*input_shape[:2], 1, 1, input_shape[-1])

    def call(self, inputs, training=None):
        x = inputs if self.input_neuron is None else self.input_neuron(inputs)
        query = self.query(x, training=training)
        mask = self.attention_neuron(ops.sum(query, (2, 3), keepdims=True))
        key = self.key(x, training=training)
        record_operation(self, query=query, key=key, mask=mask)
        return self.proj(mask * key, training=training)

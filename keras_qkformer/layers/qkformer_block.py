"""One block of a stage: attention and MLP, each with a residual connection."""

import keras
from keras import ops

from keras_qkformer.layers.channel_qk_attention import ChannelQKAttention
from keras_qkformer.layers.neurons import serialize_neuron
from keras_qkformer.layers.spiking_mlp import SpikingMLP
from keras_qkformer.layers.spiking_self_attention import SpikingSelfAttention
from keras_qkformer.layers.token_qk_attention import TokenQKAttention

ATTENTIONS = ("token", "channel", "self")


@keras.saving.register_keras_serializable(package="keras_qkformer")
class QKFormerBlock(keras.layers.Layer):
    """Attention, then MLP, each added to its input.

        x = x + attention(x)
        output = x + mlp(x)

    As published, the residual connections add spikes, which gives values 0, 1, 2, ...
    With `pre_activation`, they add potentials.

    Args:
        attention: `"token"` or `"channel"` for Q-K attention, or `"self"`.
        num_heads: int > 0. Divides the channels. Channel attention has no heads.
        mlp_ratio: float > 0. Hidden channels of the MLP over input channels.
        drop_path: float in [0, 1). Probability of dropping a branch for a sample in
            training (stochastic depth). The published models have 0: their code takes a
            rate but never applies it.
        membrane_state: see `SpikingSelfAttention`. Other attentions ignore it.
        pre_activation: bool. Whether to add potentials instead of spikes (MS-QKFormer).
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if the attention is unknown or an argument is out of range.

    Example:
    >>> QKFormerBlock("token", num_heads=2)(np.ones((1, 4, 8, 8, 16), "float32")).shape
    (1, 4, 8, 8, 16)

    Reference:
        `TokenSpikingTransformer` and `SpikingTransformer` of the authors' code.
    """

    def __init__(
        self,
        attention,
        num_heads,
        mlp_ratio=4,
        drop_path=0.0,
        membrane_state="sample",
        pre_activation=False,
        neuron="lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if attention not in ATTENTIONS:
            raise ValueError(
                f"attention must be one of {ATTENTIONS}. "
                f"Received: attention={attention!r}"
            )
        if not 0 <= drop_path < 1:
            raise ValueError(
                f"drop_path must be in [0, 1). Received: drop_path={drop_path}"
            )
        self.attention = attention
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.drop_path = drop_path
        self.membrane_state = membrane_state
        self.pre_activation = pre_activation
        self.neuron = serialize_neuron(neuron)
        shared = {
            "pre_activation": pre_activation,
            "neuron": self.neuron,
            "dtype": self.dtype_policy,
        }
        if attention == "token":
            self.mix = TokenQKAttention(num_heads, name="attention", **shared)
        elif attention == "channel":
            self.mix = ChannelQKAttention(name="attention", **shared)
        else:
            self.mix = SpikingSelfAttention(
                num_heads, membrane_state, name="attention", **shared
            )
        self.mlp = SpikingMLP(mlp_ratio, name="mlp", **shared)
        self.drop = (
            keras.layers.Dropout(
                drop_path, noise_shape=(None, 1, 1, 1, 1), dtype=self.dtype_policy
            )
            if drop_path
            else None
        )

    def build(self, input_shape):
        self.mix.build(input_shape)
        self.mlp.build(input_shape)

    def call(self, inputs, training=None):
        x = inputs
        for branch in (self.mix, self.mlp):
            y = branch(x, training=training)
            if self.drop is not None:
                y = self.drop(y, training=training)
            x = ops.add(x, y)
        return x

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        return self.mix.computations() + self.mlp.computations()

    @property
    def token_attention(self):
        """The block's `TokenQKAttention`, which takes its input, or `None`."""
        return self.mix if self.attention == "token" else None

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "attention": self.attention,
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "drop_path": self.drop_path,
            "membrane_state": self.membrane_state,
            "pre_activation": self.pre_activation,
            "neuron": self.neuron,
        }

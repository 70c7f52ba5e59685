"""One block of a stage: attention and MLP, each with a residual connection."""

import keras

from keras_qkformer.layers.channel_qk_attention import ChannelQKAttention
from keras_qkformer.layers.neurons import serialize_neuron
from keras_qkformer.layers.residual_block import ResidualBlock
from keras_qkformer.layers.spiking_mlp import SpikingMLP
from keras_qkformer.layers.spiking_self_attention import SpikingSelfAttention
from keras_qkformer.layers.token_qk_attention import TokenQKAttention

ATTENTIONS = ("token", "channel", "self")


@keras.saving.register_keras_serializable(package="keras_qkformer")
class QKFormerBlock(ResidualBlock):
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
        attention: str,
        num_heads: int,
        mlp_ratio: float = 4,
        drop_path: float = 0.0,
        membrane_state: str = "sample",
        pre_activation: bool = False,
        neuron: str | keras.layers.Layer | dict = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if attention not in ATTENTIONS:
            raise ValueError(
                f"attention must be one of {ATTENTIONS}. "
                f"Received: attention={attention!r}"
            )
        self.attention = attention
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.membrane_state = membrane_state
        self.pre_activation = pre_activation
        self.neuron = serialize_neuron(neuron)
        shared = {
            "pre_activation": pre_activation,
            "neuron": self.neuron,
            "dtype": self.dtype_policy,
        }
        if attention == "token":
            mix = TokenQKAttention(num_heads, name="attention", **shared)
        elif attention == "channel":
            mix = ChannelQKAttention(name="attention", **shared)
        else:
            mix = SpikingSelfAttention(
                num_heads, membrane_state, name="attention", **shared
            )
        mlp = SpikingMLP(mlp_ratio, name="mlp", **shared)
        self.set_branches(mix, mlp, drop_path)

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

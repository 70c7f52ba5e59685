"""Spikformer: the backbone."""

import keras

from keras_qkformer.layers.neurons import get_neuron
from keras_qkformer.layers.spiking_block import SpikingBlock
from keras_qkformer.layers.spiking_mlp import SpikingMLP
from keras_qkformer.layers.spiking_patch_splitting import SpikingPatchSplitting
from keras_qkformer.layers.spiking_self_attention import SpikingSelfAttention
from keras_qkformer.models.backbone import (
    SpikingBackbone,
    spiking_input,
    stem_pools,
    stochastic_depth_rates,
)
from keras_qkformer.models.preset import register_family
from keras_qkformer.presets.spikformer import FAMILY, PRESETS, check_ranges


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikformerBackbone(SpikingBackbone):
    """Spiking transformer of one stage: spiking patch splitting, then blocks.

    With SN a neuron over time, BN a batch normalization over time and batch, and C the
    width `embed_dim`:

        x = pool(SN(BN(conv3x3(x))))      four units of widths C/8, C/4, C/2, C, the
                                          last log2(reduction) of which pool
        x = x + SN(BN(conv3x3(x)))        position unit

    and in every block, with heads of contiguous channels:

        Q, K, V = SN(BN(x W)), one W each
        Y = SN(scale * Q (K^T V))                          threshold 0.5
        x = x + SN(BN(Y Wp + bp))
        x = x + SN(BN(SN(BN(x W1 + b1)) W2 + b2))

    So x counts spikes: 0, 1, 2, ... The classifier takes its mean over tokens and time.

    | | Spikformer | QKFormer |
    |---|---|---|
    | stages | one, of one width | two or three, each twice as wide as the last |
    | attention | self-attention everywhere | linear Q-K attention in the first stages |
    | patch embedding | a chain, plus the position unit | shortcut from its middle |
    | pooling | of spikes, behind the neuron | of potentials, before it (as CML) |
    | heads | 12 or 8; scale 1/8 or 1/4 | 6 to 16; scale 1/8 |
    | batch state in the authors' code | none | in self-attention |

    CML (`downsampling="cml"`) pools before the neuron, `x = SN(pool(BN(conv3x3(x))))`,
    because the gradient of a maximum of spikes reaches only one of many equal values.

    Differences from the source: their code takes a rate of stochastic depth but never
    applies it; here `drop_path` is applied, and is 0 by default.

    Args:
        image_size: int or (height, width), in pixels; a multiple of `reduction`.
        in_channels: int > 0. 1 for grey images, 3 for colour images, 2 for event frames
            (OFF, ON).
        static: bool. If true, the input is an image, shown for `time_steps` time steps;
            if false, it has one frame per time step.
        time_steps: int > 0. Number of time steps T.
        reduction: int. Pixels per token along each side: 1, 2, 4, 8 or 16.
        downsampling: `"spikes"` as published, or `"cml"`.
        embed_dim: int > 0. Channels C, a multiple of 8.
        depth: int > 0. Number of blocks.
        num_heads: int > 0. Divides `embed_dim`.
        mlp_ratio: float > 0. Hidden channels of the MLPs over their input channels.
        attention_scale: float > 0. Factor of the attention's product.
        attention_bias: bool. Whether the units of Q, K and V have a bias, as in their
            code for CIFAR.
        neuron: `"lif"`, `"if"` or `"plif"`.
        tau: float > 1, or `None` for 2. Membrane time constant, in time steps.
        surrogate: str. Name of the surrogate derivative.
        drop_path: float in [0, 1). Rate of stochastic depth in the last block; the
            rates grow linearly from 0 in the first block.
        dtype: a dtype or policy for all layers, or `None` for the global policy.
        **kwargs: passed to `keras.Model`.

    Input shape:
        `(batch, height, width, in_channels)` if static, else
        `(batch, time_steps, height, width, in_channels)`.

    Output shape:
        Dictionary from `"stage1"` to
        `(batch, time_steps, height / reduction, width / reduction, embed_dim)`.

    Raises:
        ValueError: if an argument is out of range, or two do not fit together.

    Example:
    >>> backbone = SpikformerBackbone((32, 48), reduction=4, embed_dim=48, depth=1)
    >>> tuple(backbone(np.zeros((1, 32, 48, 3), "float32"))["stage1"].shape)
    (1, 4, 8, 12, 48)

    Reference:
        [Zhou et al., 2023](https://arxiv.org/abs/2209.15425); CML:
        [Zhou et al., 2023](https://arxiv.org/abs/2305.05954).
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        in_channels: int = 3,
        static: bool = True,
        time_steps: int = 4,
        reduction: int = 16,
        downsampling: str = "spikes",
        embed_dim: int = 384,
        depth: int = 8,
        num_heads: int = 12,
        mlp_ratio: float = 4,
        attention_scale: float = 0.125,
        attention_bias: bool = False,
        neuron: str = "lif",
        tau: float | None = None,
        surrogate: str = "sigmoid",
        drop_path: float = 0.0,
        dtype: "str | keras.DTypePolicy | None" = None,
        **kwargs,
    ):
        arguments = {
            "image_size": image_size,
            "in_channels": in_channels,
            "static": static,
            "time_steps": time_steps,
            "reduction": reduction,
            "downsampling": downsampling,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "attention_scale": attention_scale,
            "attention_bias": attention_bias,
            "neuron": neuron,
            "tau": tau,
            "surrogate": surrogate,
            "drop_path": drop_path,
        }
        check_ranges(arguments)
        pools = stem_pools(reduction, downsampling)
        inputs, x, image_size = spiking_input(
            image_size, in_channels, static, time_steps
        )
        arguments["image_size"] = image_size
        shared = {"neuron": get_neuron(neuron, tau, surrogate), "dtype": dtype}
        x = SpikingPatchSplitting(
            [embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim],
            pools,
            time_steps=time_steps if static else None,
            name="patch_embed",
            **shared,
        )(x)
        rates = stochastic_depth_rates(drop_path, depth)
        for i, rate in enumerate(rates):
            x = SpikingBlock(
                SpikingSelfAttention(
                    num_heads,
                    scale=attention_scale,
                    use_bias=attention_bias,
                    name="attention",
                    **shared,
                ),
                SpikingMLP(mlp_ratio, name="mlp", **shared),
                drop_path=rate,
                dtype=dtype,
                name=f"block{i + 1}",
            )(x)
        super().__init__(inputs, {"stage1": x}, arguments, dtype, **kwargs)


register_family(FAMILY, SpikformerBackbone, presets=PRESETS)

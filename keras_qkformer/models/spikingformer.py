"""Spikingformer: the backbone."""

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
from keras_qkformer.presets.spikingformer import FAMILY, PRESETS, check_ranges


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikingformerBackbone(SpikingBackbone):
    """Spiking transformer of one stage whose residual connections add potentials.

    With SN a neuron over time, BN a batch normalization over time and batch, and C the
    width `embed_dim`:

        x = BN(conv3x3(image))            width C/8
        x = BN(conv3x3(pool(SN(x))))      four units of widths C/4, C/2, C, C, the last
                                          log2(reduction) of which pool

    and in every block, with heads of contiguous channels:

        Q, K, V = SN(BN(SN(x) W)), one W each, SN(x) shared
        Y = SN(0.125 * Q (K^T V))                          threshold 0.5
        x = x + BN(Y Wp + bp)
        x = x + BN(SN(BN(SN(x) W1 + b1)) W2 + b2)

    So every convolution but the first multiplies spikes, and x is real. The classifier
    takes its mean over tokens and time: no neuron stands before the head.

    | | Spikingformer | QKFormer | MS-QKFormer |
    |---|---|---|---|
    | residual connections add | potentials | spikes | potentials |
    | stages | one, of one width | two or three | two or three |
    | attention | self-attention | Q-K attention first | Q-K attention first |
    | patch embedding | a chain | shortcut inside | shortcut inside |
    | pooling | of spikes | of potentials | of potentials |
    | MLP of ratio 1 | one shortcut | one shortcut | one for each unit |
    | neuron before the head | no | no | yes |
    | tau | 2; 1.5 for events, 1.75 with CML | 2 | 2 |

    CML (`downsampling="cml"`) pools before the neuron: `BN(conv3x3(SN(pool(x))))`.

    A neuron that receives x alone runs as one operation. Every other one runs together
    with the BatchNorm in front of it: in the patch embedding, which is the same chain
    as units `conv, BN, SN`, in Q, K and V, and in the MLP.

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
    >>> backbone = SpikingformerBackbone(
    ...     (32, 48), reduction=4, embed_dim=48, depth=1, num_heads=4
    ... )
    >>> tuple(backbone(np.zeros((1, 32, 48, 3), "float32"))["stage1"].shape)
    (1, 4, 8, 12, 48)

    Reference:
        [Zhou et al., 2023](https://arxiv.org/abs/2304.11954); CML:
        [Zhou et al., 2023](https://arxiv.org/abs/2305.05954).
    """

    has_potentials = True

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
        num_heads: int = 8,
        mlp_ratio: float = 4,
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
            [embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim, embed_dim],
            (*pools, None),
            position_unit=False,
            pre_activation=True,
            time_steps=time_steps if static else None,
            name="patch_embed",
            **shared,
        )(x)
        rates = stochastic_depth_rates(drop_path, depth)
        for i, rate in enumerate(rates):
            x = SpikingBlock(
                SpikingSelfAttention(
                    num_heads, pre_activation=True, name="attention", **shared
                ),
                SpikingMLP(
                    mlp_ratio,
                    pre_activation=True,
                    inner_shortcut=False,
                    name="mlp",
                    **shared,
                ),
                drop_path=rate,
                dtype=dtype,
                name=f"block{i + 1}",
            )(x)
        super().__init__(inputs, {"stage1": x}, arguments, dtype, **kwargs)


register_family(FAMILY, SpikingformerBackbone, presets=PRESETS)

"""The spike-driven Transformer: the backbone."""

import keras

from keras_qkformer.layers.neurons import get_neuron
from keras_qkformer.layers.spike_driven_attention import SpikeDrivenAttention
from keras_qkformer.layers.spiking_block import SpikingBlock
from keras_qkformer.layers.spiking_mlp import SpikingMLP
from keras_qkformer.layers.spiking_patch_splitting import SpikingPatchSplitting
from keras_qkformer.models.backbone import (
    SpikingBackbone,
    spiking_input,
    stem_pools,
    stochastic_depth_rates,
)
from keras_qkformer.models.preset import register_family
from keras_qkformer.presets.spike_driven_transformer import (
    FAMILY,
    PRESETS,
    check_ranges,
)


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikeDrivenTransformerBackbone(SpikingBackbone):
    """Transformer of one stage that adds potentials and multiplies no two tensors.

    With SN a neuron over time, BN a batch normalization over time and batch, and C the
    width `embed_dim`:

        x = pool(SN(BN(conv3x3(x))))      three units of widths C/8, C/4, C/2
        x = pool(BN(conv3x3(x)))          one of width C; of the four units, the last
                                          log2(reduction) pool
        x = x + BN(conv3x3(SN(x)))        position unit

    and in every block, with * the product of entries, which selects spikes:

        Q, K, V = SN(BN(SN(x) W)), one W each, SN(x) shared
        g = SN(sum over the tokens of K * V)               threshold 0.5
        x = x + BN((Q * g) Wp + bp)
        x = x + BN(SN(BN(SN(x) W1 + b1)) W2 + b2)

    With `mlp_ratio` 1, each of the MLP's two units has its own residual connection, see
    `SpikingMLP`. The classifier is `mean over time of SN(mean over tokens of x) W + b`.

    | | spike-driven Transformer | QKFormer | MS-QKFormer |
    |---|---|---|---|
    | residual connections add | potentials | spikes | potentials |
    | stages | one, of one width | two or three | two or three |
    | attention | mask from K * V | mask from Q, self-attention | as QKFormer |
    | its mask | per channel: Q passes | per token: K passes | as QKFormer |
    | patch embedding | chain, position unit | shortcut inside | shortcut inside |
    | pooling | of spikes, last of potentials | of potentials | of potentials |
    | MLP of ratio 1 | one shortcut for each unit | one shortcut | one for each unit |
    | neuron before the head | yes | no | yes |

    BatchNorm and the neuron behind it run as one operation in the first three units, in
    Q, K and V, and in the MLP.

    Differences from the source: their code takes a rate of stochastic depth but never
    applies it; here `drop_path` is applied, and is 0 by default. Kernels are
    initialised as in PyTorch, there by a truncated normal distribution.

    Args:
        image_size: int or (height, width), in pixels; a multiple of `reduction`.
        in_channels: int > 0. 1 for grey images, 3 for colour images, 2 for event frames
            (OFF, ON).
        static: bool. If true, the input is an image, shown for `time_steps` time steps;
            if false, it has one frame per time step.
        time_steps: int > 0. Number of time steps T.
        reduction: int. Pixels per token along each side: 1, 2, 4, 8 or 16.
        embed_dim: int > 0. Channels C, a multiple of 8.
        depth: int > 0. Number of blocks.
        num_heads: int > 0. Divides `embed_dim`. Without `dilate` it changes nothing.
        dilate: bool. Whether maxima widen the spikes in attention, see
            `SpikeDrivenAttention`, as in their models for CIFAR10-DVS.
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
    >>> backbone = SpikeDrivenTransformerBackbone(
    ...     (32, 48), reduction=4, embed_dim=48, depth=1
    ... )
    >>> tuple(backbone(np.zeros((1, 32, 48, 3), "float32"))["stage1"].shape)
    (1, 4, 8, 12, 48)

    Reference:
        [Yao et al., 2023](https://arxiv.org/abs/2307.01694).
    """

    has_potentials = True

    def __init__(
        self,
        image_size: int | tuple[int, int],
        in_channels: int = 3,
        static: bool = True,
        time_steps: int = 4,
        reduction: int = 16,
        embed_dim: int = 384,
        depth: int = 8,
        num_heads: int = 8,
        dilate: bool = False,
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
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "dilate": dilate,
            "mlp_ratio": mlp_ratio,
            "neuron": neuron,
            "tau": tau,
            "surrogate": surrogate,
            "drop_path": drop_path,
        }
        check_ranges(arguments)
        *pools, last = stem_pools(reduction, "spikes")
        inputs, x, image_size = spiking_input(
            image_size, in_channels, static, time_steps
        )
        arguments["image_size"] = image_size
        shared = {"neuron": get_neuron(neuron, tau, surrogate), "dtype": dtype}
        x = SpikingPatchSplitting(
            [embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim],
            # The last unit has no neuron.
            (*pools, last and "potentials"),
            pre_activation=True,
            time_steps=time_steps if static else None,
            name="patch_embed",
            **shared,
        )(x)
        shared["pre_activation"] = True
        rates = stochastic_depth_rates(drop_path, depth)
        for i, rate in enumerate(rates):
            x = SpikingBlock(
                SpikeDrivenAttention(num_heads, dilate, name="attention", **shared),
                SpikingMLP(mlp_ratio, name="mlp", **shared),
                drop_path=rate,
                dtype=dtype,
                name=f"block{i + 1}",
            )(x)
        super().__init__(inputs, {"stage1": x}, arguments, dtype, **kwargs)

    def head_neuron(self):
        return get_neuron(self.neuron, self.tau, self.surrogate)


register_family(FAMILY, SpikeDrivenTransformerBackbone, presets=PRESETS)

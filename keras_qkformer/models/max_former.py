"""Max-Former: the backbone."""

import keras

from keras_qkformer.layers.depthwise_mixer import DepthwiseMixer
from keras_qkformer.layers.neurons import get_neuron
from keras_qkformer.layers.patch_embedding import PatchEmbedding
from keras_qkformer.layers.spiking_block import SpikingBlock
from keras_qkformer.layers.spiking_mlp import SpikingMLP
from keras_qkformer.layers.spiking_self_attention import SpikingSelfAttention
from keras_qkformer.models.backbone import (
    SpikingBackbone,
    spiking_input,
    stochastic_depth_rates,
)
from keras_qkformer.models.preset import register_family
from keras_qkformer.presets.arguments import per_stage
from keras_qkformer.presets.max_former import DEPTHWISE, FAMILY, PRESETS, check_ranges

# Stem -> the `family` of its `PatchEmbedding`.
_EMBEDDINGS = {"imagenet": "max", "cifar": "cifar", "events": "dvs"}


@keras.saving.register_keras_serializable(package="keras_qkformer")
class MaxFormerBackbone(SpikingBackbone):
    """Spiking transformer that keeps high frequencies: Max-Former.

    Spiking neurons are low-pass filters. Max-Former restores high frequencies with max
    pooling in every patch embedding, and with depthwise convolutions in place of
    attention in the early stages.

    With SN a neuron over time, BN a batch normalization over time and batch, dw a
    depthwise convolution, and x of real potentials, each stage starts with an embedding
    of C channels, half as many as the next,

        s = SN(x)                                          but see the stems below
        x = BN(conv3x3(SN(pool(BN(conv3x3(s)))))) + pool(BN(conv1x1(s)))

    and has blocks of one mixer and an MLP:

        x = x + BN(dw(SN(x)) + b)                          `"depthwise3"`, 5 or 7
        x = x + BN(Y Wp + bp)                              `"self"`
            Q, K, V = SN(BN(SN(x) W)), one W each; Y = SN(0.125 * Q (K^T V)), of
            threshold 0.5, with heads of contiguous channels
        x = x                                              `"identity"`
        x = x + BN(SN(BN(SN(x) W1 + b1)) W2 + b2)          MLP, see `SpikingMLP`

    The first embedding, of the image, has no pool in its shortcut:

    | stem | reduction | chain | shortcut from s |
    |---|---|---|---|
    | `imagenet` | 4 | C/2 stride 2, SN = s, C stride 2, SN, C | 1x1 stride 2 |
    | `cifar` | 1 | C/2, SN = s, C | 1x1 |
    | `events` | 8 | C/8, SN, C/4 pool, SN = s, C/2 pool, SN, C pool | 1x1 stride 4 |

    One neuron follows the mean over tokens, in front of the classifier's head.

    | | Max-Former | QKFormer | MS-QKFormer |
    |---|---|---|---|
    | residual connections add | potentials | spikes | potentials |
    | early stages mix by | depthwise convolution | Q-K attention | Q-K attention |
    | last stage mixes by | self-attention | self-attention | self-attention |
    | shortcut of embeddings | 1x1, then max pool | 1x1 stride 2 | 1x1 stride 2 |
    | stem for ImageNet halves by | strides | pools | pools |
    | neuron before the head | yes | no | yes |

    A neuron that receives x alone runs as one operation; in the chains of the
    embeddings, Q, K and V and the MLP, neurons run together with their BatchNorm.

    Differences from the source: their code takes a rate of stochastic depth but never
    applies it; here `drop_path` is applied, and is 0 by default. In the stem for CIFAR
    they fire two neurons of the same input, which are one here.

    Args:
        image_size: int or (height, width), in pixels; a multiple of the reduction of
            all stages: the stem's, and 2 of each later stage.
        in_channels: int > 0. 1 for grey images, 3 for colour images, 2 for event frames
            (OFF, ON).
        static: bool. If true, the input is an image, shown for `time_steps` time steps;
            if false, it has one frame per time step.
        time_steps: int > 0. Number of time steps T.
        stem: `"imagenet"`, `"cifar"` or `"events"`. Selects the first embedding.
        embed_dim: int > 0. Channels of the last stage.
        depths: tuple of int > 0. Number of blocks in each stage; its length is the
            number of stages.
        mixers: str, or a tuple with one per stage: `"identity"`, `"depthwise3"`,
            `"depthwise5"`, `"depthwise7"` or `"self"`.
        num_heads: int > 0. Divides the channels of stages with self-attention.
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
        Dictionary from `"stage1"`, `"stage2"`, ... to
        `(batch, time_steps, height / reduction, width / reduction, channels)`.

    Raises:
        ValueError: if an argument is out of range, or two do not fit together.

    Example:
    >>> backbone = MaxFormerBackbone((32, 48), stem="cifar", embed_dim=32, num_heads=2)
    >>> features = backbone(np.zeros((1, 32, 48, 3), "float32"))
    >>> {stage: tuple(x.shape) for stage, x in features.items()}  # doctest: +ELLIPSIS
    {'stage1': (1, 4, 32, 48, 8), ..., 'stage3': (1, 4, 8, 12, 32)}

    Reference:
        [Fang et al., 2025](https://arxiv.org/abs/2505.18608).
    """

    has_potentials = True

    def __init__(
        self,
        image_size: int | tuple[int, int],
        in_channels: int = 3,
        static: bool = True,
        time_steps: int = 4,
        stem: str = "imagenet",
        embed_dim: int = 384,
        depths: tuple[int, ...] = (1, 2, 7),
        mixers: str | tuple[str, ...] = ("depthwise7", "depthwise5", "self"),
        num_heads: int = 6,
        mlp_ratio: float = 4,
        neuron: str = "lif",
        tau: float | None = None,
        surrogate: str = "sigmoid",
        drop_path: float = 0.0,
        dtype: "str | keras.DTypePolicy | None" = None,
        **kwargs,
    ):
        depths = tuple(depths)
        arguments = {
            "image_size": image_size,
            "in_channels": in_channels,
            "static": static,
            "time_steps": time_steps,
            "stem": stem,
            "embed_dim": embed_dim,
            "depths": depths,
            "mixers": mixers,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "neuron": neuron,
            "tau": tau,
            "surrogate": surrogate,
            "drop_path": drop_path,
        }
        check_ranges(arguments)
        mixers = per_stage("mixers", mixers, len(depths))
        inputs, x, image_size = spiking_input(
            image_size, in_channels, static, time_steps
        )
        arguments.update(image_size=image_size, mixers=mixers)
        widths = [embed_dim // 2**i for i in reversed(range(len(depths)))]
        shared = {"neuron": get_neuron(neuron, tau, surrogate), "dtype": dtype}
        rates = stochastic_depth_rates(drop_path, sum(depths))
        features = {}
        for stage, (width, mixer) in enumerate(zip(widths, mixers, strict=True)):
            x = PatchEmbedding(
                width,
                family="max" if stage else _EMBEDDINGS[stem],
                stem=stage == 0,
                pre_activation=True,
                time_steps=time_steps if static and stage == 0 else None,
                name=f"patch_embed{stage + 1}",
                **shared,
            )(x)
            for i in range(depths[stage]):
                x = SpikingBlock(
                    _mixer(mixer, num_heads, shared),
                    SpikingMLP(mlp_ratio, pre_activation=True, name="mlp", **shared),
                    drop_path=rates.pop(0),
                    dtype=dtype,
                    name=f"stage{stage + 1}_block{i + 1}",
                )(x)
            features[f"stage{stage + 1}"] = x
        super().__init__(inputs, features, arguments, dtype, **kwargs)

    def head_neuron(self):
        return get_neuron(self.neuron, self.tau, self.surrogate)


def _mixer(mixer, num_heads, shared):
    if mixer == "identity":
        return None
    if mixer == "self":
        return SpikingSelfAttention(
            num_heads, pre_activation=True, name="attention", **shared
        )
    return DepthwiseMixer(DEPTHWISE[mixer], name="mixer", **shared)


register_family(FAMILY, MaxFormerBackbone, presets=PRESETS)

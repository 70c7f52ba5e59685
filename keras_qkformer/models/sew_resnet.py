"""SEW ResNet: the backbone."""

from types import MappingProxyType

import keras

from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.layers.neurons import get_neuron
from keras_qkformer.layers.sew_block import SEWBlock
from keras_qkformer.layers.spike_max_pool import SpikeMaxPool
from keras_qkformer.models.backbone import SpikingBackbone, spiking_input
from keras_qkformer.models.preset import register_family
from keras_qkformer.presets.arguments import per_stage
from keras_qkformer.presets.sew_resnet import FAMILY, PRESETS, check_ranges


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SEWResNetBackbone(SpikingBackbone):
    """Spiking residual network without attention, whose blocks connect spikes.

    In a ResNet with neurons in place of its activations, x = SN(branch + x), the
    neuron behind the sum can neither pass its input on unchanged nor keep gradients
    from vanishing. SEW ResNet (spike-element-wise) connects the spikes in front of and
    behind a branch instead, with SN a neuron over time and BN a batch normalization
    over time and batch:

        A = SN(BN(conv3x3(SN(BN(conv3x3(x))))))
        A = SN(BN(conv1x1(SN(BN(conv3x3(SN(BN(conv1x1(x)))))))))     bottleneck
        x = A + s, A * s or s * (1 - A)                    "add", "and", "iand"

    where s = x, or SN(BN(conv1x1(x))) where the size or the channels change. So x
    counts spikes with `"add"`, and is spikes with the others. The blocks stand in one
    of two networks, with C the width of a stage (of a bottleneck's output, 4 C):

    | | for ImageNet | for events, `stem_width=None` |
    |---|---|---|
    | in front | SN(BN(conv7x7 stride 2)), pool 3x3 | nothing |
    | a stage starts with | nothing | SN(BN(conv1x1)) if C changes |
    | its first block | has stride 2 but in stage 1 | has stride 1 |
    | a stage ends with | nothing | pool 2x2 |
    | reduction | 4, then 2 by each later stage | 2 by each stage |
    | neurons | integrate-and-fire | LIF with learnable time constants |

    Everything pools spikes. An image passes the first convolution and its BatchNorm
    once, as in the source, and is repeated T times for the neuron. The classifier takes
    the mean over tokens and time.

    | | SEW ResNet | QKFormer |
    |---|---|---|
    | tokens mix by | convolutions 3x3 | Q-K attention, self-attention |
    | residual connections | add, AND or IAND of spikes | add spikes |
    | stages | four, or seven for events | two or three |
    | the map halves by | strides; pools of spikes for events | pools of potentials |
    | neuron | IF, or parametric LIF | LIF |
    | surrogate | arctangent, 1 / (1 + (pi x)^2) | sigmoid |
    | parameters for ImageNet | 11.7 to 60.2 million | 16.5 to 65.0 million |

    BatchNorm and the neuron behind it run as one operation in every unit.

    Differences from the source: kernels are initialised by PyTorch's default, there by
    Kaiming's normal distribution. For events their head takes all tokens, and the
    published models end with one, of which the mean here is the same.

    Args:
        image_size: int or (height, width), in pixels; a multiple of 4 with a stem,
            after which strides round up, and else of 2 to the number of stages.
        in_channels: int > 0. 1 for grey images, 3 for colour images, 2 for event frames
            (OFF, ON).
        static: bool. If true, the input is an image, shown for `time_steps` time steps;
            if false, it has one frame per time step.
        time_steps: int > 0. Number of time steps T.
        stem_width: int > 0. Channels of the stem, or `None` for the network for events.
        widths: int > 0, or a tuple with one per stage. Channels C.
        depths: tuple of int > 0. Number of blocks in each stage; its length is the
            number of stages.
        bottleneck: bool. Whether the blocks are bottlenecks.
        connect: `"add"`, `"and"` or `"iand"`.
        neuron: `"lif"`, `"if"` or `"plif"`.
        tau: float > 1, or `None` for 2. Membrane time constant, in time steps; `"if"`
            has none.
        surrogate: str. Name of the surrogate derivative.
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
    >>> backbone = SEWResNetBackbone(
    ...     (32, 48), widths=(8, 16), depths=(1, 1), bottleneck=True
    ... )
    >>> features = backbone(np.zeros((1, 32, 48, 3), "float32"))
    >>> {stage: tuple(x.shape) for stage, x in features.items()}
    {'stage1': (1, 4, 8, 12, 32), 'stage2': (1, 4, 4, 6, 64)}

    Reference:
        [Fang et al., 2021](https://arxiv.org/abs/2102.04159).
    """

    repeats_image = False
    # Devices exchange nothing between the first two units of a block.
    layout = MappingProxyType(
        {
            r"block\d+/unit0/conv/kernel": (None, None, None, "model"),
            r"block\d+/unit0/norm/.*": ("model",),
            r"block\d+/unit1/conv/kernel": (None, None, "model", None),
        }
    )

    def __init__(
        self,
        image_size: int | tuple[int, int],
        in_channels: int = 3,
        static: bool = True,
        time_steps: int = 4,
        stem_width: int | None = 64,
        widths: int | tuple[int, ...] = (64, 128, 256, 512),
        depths: tuple[int, ...] = (3, 4, 6, 3),
        bottleneck: bool = False,
        connect: str = "add",
        neuron: str = "if",
        tau: float | None = None,
        surrogate: str = "atan",
        dtype: "str | keras.DTypePolicy | None" = None,
        **kwargs,
    ):
        depths = tuple(depths)
        arguments = {
            "image_size": image_size,
            "in_channels": in_channels,
            "static": static,
            "time_steps": time_steps,
            "stem_width": stem_width,
            "widths": widths,
            "depths": depths,
            "bottleneck": bottleneck,
            "connect": connect,
            "neuron": neuron,
            "tau": tau,
            "surrogate": surrogate,
        }
        check_ranges(arguments)
        widths = per_stage("widths", widths, len(depths))
        inputs, x, image_size = spiking_input(
            image_size, in_channels, static, time_steps
        )
        arguments.update(image_size=image_size, widths=widths)
        has_stem = stem_width is not None
        shared = {"neuron": get_neuron(neuron, tau, surrogate), "dtype": dtype}
        repeats = {"time_steps": time_steps if static else None}
        if has_stem:
            x = ConvBNLIF(stem_width, 7, 2, name="stem", **repeats, **shared)(x)
            x = SpikeMaxPool(3, dtype=dtype, name="stem_pool")(x)
        features = {}
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            name = f"stage{stage + 1}"
            if not has_stem and (stage == 0 or width != widths[stage - 1]):
                options = repeats if stage == 0 else {}
                x = ConvBNLIF(width, 1, name=f"{name}_unit", **options, **shared)(x)
            for i in range(depth):
                x = SEWBlock(
                    width,
                    strides=2 if has_stem and stage > 0 and i == 0 else 1,
                    bottleneck=bottleneck,
                    connect=connect,
                    name=f"{name}_block{i + 1}",
                    **shared,
                )(x)
            if not has_stem:
                x = SpikeMaxPool(2, dtype=dtype, name=f"{name}_pool")(x)
            features[name] = x
        super().__init__(inputs, features, arguments, dtype, **kwargs)


register_family(FAMILY, SEWResNetBackbone, presets=PRESETS)

"""The presets of published models of Max-Former, and the ranges of its arguments."""

from types import SimpleNamespace

from keras_qkformer.presets.arguments import check, per_stage
from keras_qkformer.presets.preset import PublishedModel, published_presets
from keras_qkformer.presets.ranges import (
    check_depths,
    check_heads,
    check_hidden,
    check_input,
    check_neuron,
    check_sides,
    check_width,
)

FAMILY = "max_former"
# Stem -> factor by which it divides height and width, and over which share of the
# channels it starts.
STEMS = {"imagenet": (4, 2), "cifar": (1, 2), "events": (8, 8)}
DEPTHWISE = {"depthwise3": 3, "depthwise5": 5, "depthwise7": 7}
MIXERS = ("identity", *DEPTHWISE, "self")

_CIFAR = {
    "image_size": 32,
    "time_steps": 4,
    "stem": "cifar",
    "depths": (1, 1, 2),
    "mixers": ("identity", "depthwise3", "self"),
}
_EVENTS = {
    "image_size": 128,
    "in_channels": 2,
    "static": False,
    "time_steps": 16,
    "stem": "events",
    "depths": (1, 1),
    "mixers": ("depthwise3", "self"),
    "mlp_ratio": 1,
}
# Blocks, mixers and heads are written into the authors' constructors.
_ARGUMENTS = {
    "imagenet": {
        "image_size": 224,
        "time_steps": 4,
        "depths": (1, 2, 7),
        "num_classes": 1000,
    },
    "cifar10": {**_CIFAR, "num_classes": 10},
    "cifar100": {**_CIFAR, "num_classes": 100},
    "cifar10_dvs": {**_EVENTS, "num_classes": 10},
    "dvs128_gesture": {**_EVENTS, "num_classes": 11},
}
_TABLE = (
    PublishedModel(10, 384, 6, "imagenet", 16_237_240, 77.78, "77.49 % at last"),
    PublishedModel(10, 512, 8, "imagenet", 28_653_480),
    PublishedModel(10, 768, 12, "imagenet", 63_992_200, 82.39, "82.27 % at last"),
    PublishedModel(4, 384, 8, "cifar10", 6_568_282, 97.04, "96.79 % at last"),
    PublishedModel(4, 384, 8, "cifar100", 6_602_932, 82.65, "82.44 % at last"),
    PublishedModel(2, 256, 16, "cifar10_dvs", 1_455_626, 84.2, "82.3 % at last"),
    PublishedModel(2, 256, 16, "dvs128_gesture", 1_455_883, 98.61, "96.53 % at last"),
)
_T1_TABLE = (
    PublishedModel(10, 512, 8, "imagenet", 28_653_480, 75.43, "75.21 % at last"),
    PublishedModel(10, 768, 12, "imagenet", 63_992_200, 78.60, "78.60 % at last"),
)
_SOURCE = (
    *("Fang et al., 2025, https://arxiv.org/abs/2505.18608",),
    "by the logs of the authors' code, at the best epoch on the test set",
)
PRESETS = {
    **published_presets(FAMILY, "Max-Former", _TABLE, _ARGUMENTS, *_SOURCE),
    **published_presets(
        FAMILY, "Max-Former", _T1_TABLE, _ARGUMENTS, *_SOURCE, "t1", time_steps=1
    ),
}


def check_ranges(arguments):
    """Raise `ValueError` unless there is such a `MaxFormerBackbone`.

    Args:
        arguments: dict of all its arguments.
    """
    a = SimpleNamespace(**arguments)
    check_depths(a.depths, a.drop_path)
    stages = len(a.depths)
    mixers = per_stage("mixers", a.mixers, stages)
    check({*mixers} <= {*MIXERS}, f"mixers must be of {MIXERS}", mixers=mixers)
    check(a.stem in STEMS, f"stem must be one of {(*STEMS,)}", stem=a.stem)
    reduction, part = STEMS[a.stem]
    check_width(a.embed_dim, part * 2 ** (stages - 1))
    check(a.num_heads > 0, "num_heads must be above 0", num_heads=a.num_heads)
    for i, mixer in enumerate(reversed(mixers)):
        width = a.embed_dim // 2**i
        check_hidden(a.mlp_ratio, width)
        if mixer == "self":
            check_heads(a.num_heads, width)
    check_input(a.image_size, a.in_channels, a.time_steps)
    check_sides(a.image_size, reduction * 2 ** (stages - 1))
    check_neuron(a.neuron, a.tau)

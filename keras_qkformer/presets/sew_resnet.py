"""The presets of published models of SEW ResNet, and the ranges of its arguments."""

from types import SimpleNamespace

from keras_qkformer.presets.arguments import check, per_stage
from keras_qkformer.presets.preset import Preset
from keras_qkformer.presets.ranges import (
    check_depths,
    check_input,
    check_neuron,
    check_sides,
)
from keras_qkformer.published_data import PUBLISHED, TITLES

FAMILY = "sew_resnet"
CONNECTIONS = ("add", "and", "iand")

_EVENTS = {
    "image_size": 128,
    "in_channels": 2,
    "static": False,
    "time_steps": 16,
    "stem_width": None,
    "depths": (1,) * 7,
    "neuron": "plif",
}
_ARGUMENTS = {
    "imagenet": {"image_size": 224, "time_steps": 4, "num_classes": 1000},
    "cifar10_dvs": {**_EVENTS, "widths": (64,) * 4 + (128,) * 3, "num_classes": 10},
    "dvs128_gesture": {**_EVENTS, "widths": (32,) * 7, "num_classes": 11},
}


def _imagenet(*depths, bottleneck=True):
    return {"depths": depths, "bottleneck": bottleneck}


# Layers or blocks in the name, data, own arguments, parameters, reported, and further
# numbers of the same source.
_TABLE = (
    (18, "imagenet", _imagenet(2, 2, 2, 2, bottleneck=False), 11_689_512, 63.18, ""),
    (34, "imagenet", _imagenet(3, 4, 6, 3, bottleneck=False), 21_797_672, 67.04, ""),
    (50, "imagenet", _imagenet(3, 4, 6, 3), 25_557_032, 67.78, ""),
    (101, "imagenet", _imagenet(3, 4, 23, 3), 44_549_160, 68.76, ""),
    (152, "imagenet", _imagenet(3, 8, 36, 3), 60_192_808, 69.26, ""),
    (7, "cifar10_dvs", {}, 1_192_218, 74.4, "64.8 % with T=4, 70.2 % with T=8"),
    (7, "dvs128_gesture", {}, 130_426, 97.92, ""),
)
_SOURCE = "Fang et al., 2021, https://arxiv.org/abs/2102.04159"
PRESETS = {
    f"{FAMILY}_{number}_{data}": Preset(
        family=FAMILY,
        description=f"SEW ResNet-{number} for {TITLES[data]}, "
        f"{_ARGUMENTS[data]['image_size']} px, "
        f"{_ARGUMENTS[data]['time_steps']} time steps",
        source="; ".join(filter(None, (_SOURCE, others))),
        parameters=parameters,
        arguments={**_ARGUMENTS[data], **own},
        reported=reported,
        reported_note="by the paper, quoted from a summary of it",
        **PUBLISHED[data],
    )
    for number, data, own, parameters, reported, others in _TABLE
}


def check_ranges(arguments):
    """Raise `ValueError` unless there is such a `SEWResNetBackbone`.

    Args:
        arguments: dict of all its arguments.
    """
    a = SimpleNamespace(**arguments)
    check_depths(a.depths, 0.0)
    widths = per_stage("widths", a.widths, len(a.depths))
    check(
        0 < min(widths) and max(widths) <= 8192,
        "widths must be in 1 to 8192",
        widths=widths,
    )
    check(
        a.stem_width is None or 0 < a.stem_width <= 8192,
        "stem_width must be in 1 to 8192, or None for no stem",
        stem_width=a.stem_width,
    )
    check(
        a.connect in CONNECTIONS,
        f"connect must be one of {CONNECTIONS}",
        connect=a.connect,
    )
    check_input(a.image_size, a.in_channels, a.time_steps)
    check_sides(a.image_size, 2 ** len(a.depths) if a.stem_width is None else 4)
    check_neuron(a.neuron, a.tau)

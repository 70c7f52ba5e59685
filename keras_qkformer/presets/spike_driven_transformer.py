"""The presets of published models of the spike-driven Transformer."""

from keras_qkformer.presets.preset import PublishedModel, published_presets
from keras_qkformer.presets.ranges import check_chain

FAMILY = "spike_driven_transformer"
check_ranges = check_chain

_CIFAR = {"image_size": 32, "time_steps": 4, "reduction": 4}
_EVENTS = {"in_channels": 2, "static": False}
_CIFAR10_DVS = {"image_size": 64, "time_steps": 10, "reduction": 4, "dilate": True}
_GESTURE = {"image_size": 128, "time_steps": 16, "reduction": 8}
_ARGUMENTS = {
    "imagenet": {"image_size": 224, "time_steps": 4, "num_classes": 1000},
    "cifar10": {**_CIFAR, "num_classes": 10},
    "cifar100": {**_CIFAR, "num_classes": 100},
    "cifar10_dvs": {**_EVENTS, **_CIFAR10_DVS, "num_classes": 10},
    "dvs128_gesture": {**_EVENTS, **_GESTURE, "num_classes": 11},
}
_TABLE = (
    PublishedModel(8, 384, 8, "imagenet", 16_816_024, 72.28),
    PublishedModel(6, 512, 8, "imagenet", 23_373_352, 74.11),
    PublishedModel(8, 512, 8, "imagenet", 29_689_384, 74.57),
    PublishedModel(10, 512, 8, "imagenet", 36_005_416, 74.66),
    # The number that they compare with those of others at 224 px.
    PublishedModel(8, 768, 8, "imagenet", 66_338_632, None, "77.07 % at 288 px"),
    PublishedModel(2, 256, 8, "cifar10", 2_566_954),
    PublishedModel(2, 256, 8, "cifar100", 2_590_084),
    PublishedModel(2, 256, 8, "cifar10_dvs", 2_566_666),
    PublishedModel(2, 256, 8, "dvs128_gesture", 2_566_923),
)
_QUOTED_TABLE = (
    PublishedModel(2, 512, 8, "cifar10", 10_233_418, 95.6),
    PublishedModel(2, 512, 8, "cifar100", 10_279_588, 78.4),
)
PRESETS = {
    name: preset
    for table, note in (
        (_TABLE, "by the README of the authors' code"),
        (_QUOTED_TABLE, "by the paper, quoted from a table of another paper"),
    )
    for name, preset in published_presets(
        FAMILY,
        "Spike-driven Transformer",
        table,
        _ARGUMENTS,
        "Yao et al., 2023, https://arxiv.org/abs/2307.01694",
        note,
    ).items()
}

"""The presets of published models of Spikingformer."""

from keras_qkformer.presets.preset import PublishedModel, published_presets
from keras_qkformer.presets.ranges import check_chain

FAMILY = "spikingformer"
check_ranges = check_chain

_CIFAR = {"image_size": 32, "time_steps": 4, "reduction": 4}
_EVENTS = {
    "image_size": 128,
    "in_channels": 2,
    "static": False,
    "time_steps": 16,
}


def _arguments(tau):
    """The arguments for each data, with the time constant of the code for events."""
    return {
        "imagenet": {"image_size": 224, "time_steps": 4, "num_classes": 1000},
        "cifar10": {**_CIFAR, "num_classes": 10},
        "cifar100": {**_CIFAR, "num_classes": 100},
        "cifar10_dvs": {**_EVENTS, "tau": tau, "num_classes": 10},
        "dvs128_gesture": {**_EVENTS, "tau": tau, "num_classes": 11},
    }


# Heads are those of their settings files; 8, their default, where 12 does not divide
# the width. A log of theirs has 12 for 8-768.
_TABLE = (
    PublishedModel(8, 384, 8, "imagenet", 16_816_024, 72.45),
    PublishedModel(8, 512, 8, "imagenet", 29_689_384, 74.79),
    PublishedModel(8, 768, 8, "imagenet", 66_338_632, 75.85),
    PublishedModel(4, 256, 8, "cifar10", 4_152_106, 94.77),
    PublishedModel(2, 384, 12, "cifar10", 5_762_746, 95.22),
    PublishedModel(4, 384, 12, "cifar10", 9_320_122, 95.61, "95.81 % in 400 epochs"),
    PublishedModel(4, 256, 8, "cifar100", 4_175_236, 77.43),
    PublishedModel(2, 384, 8, "cifar100", 5_797_396, 78.34),
    PublishedModel(4, 384, 8, "cifar100", 9_354_772, 79.09, "79.21 % in 400 epochs"),
    PublishedModel(2, 256, 16, "cifar10_dvs", 2_566_666, 81.3, "79.9 % with T=10"),
    PublishedModel(2, 256, 16, "dvs128_gesture", 2_566_923, 98.3, "96.2 % with T=10"),
)
_CML_TABLE = (
    PublishedModel(8, 384, 8, "imagenet", 16_816_024, 74.35),
    PublishedModel(8, 512, 8, "imagenet", 29_689_384, 76.54),
    PublishedModel(8, 768, 8, "imagenet", 66_338_632, 77.64, "78.46 % at 288 px"),
    PublishedModel(4, 384, 12, "cifar10", 9_320_122, 95.81, "95.95 % in 400 epochs"),
    PublishedModel(4, 384, 8, "cifar100", 9_354_772, 79.98, "80.37 % in 400 epochs"),
    PublishedModel(2, 256, 16, "cifar10_dvs", 2_566_666, 81.4, "80.5 % with T=10"),
    PublishedModel(2, 256, 16, "dvs128_gesture", 2_566_923, 98.6, "97.2 % with T=10"),
)
PRESETS = {
    **published_presets(
        FAMILY,
        "Spikingformer",
        _TABLE,
        _arguments(tau=1.5),
        "Zhou et al., 2023, https://arxiv.org/abs/2304.11954",
        "by the README of the authors' code",
    ),
    **published_presets(
        FAMILY,
        "CML Spikingformer",
        _CML_TABLE,
        _arguments(tau=1.75),
        "Zhou et al., 2023, https://arxiv.org/abs/2305.05954",
        "by the README of the authors' code of CML",
        variant="cml",
        downsampling="cml",
    ),
}

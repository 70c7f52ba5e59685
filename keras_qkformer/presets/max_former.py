"""The presets of published models of Max-Former."""

from keras_qkformer.presets.preset import PublishedModel, published_presets

FAMILY = "max_former"

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

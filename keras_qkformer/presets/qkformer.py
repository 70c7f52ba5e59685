"""The presets of QKFormer, published or ours."""

import functools

from keras_qkformer.presets.preset import Preset
from keras_qkformer.published_data import (
    CIFAR10_NAMES,
    CIFAR100_NAMES,
    CIFAR_PIXELS,
    DVS128_GESTURE_NAMES,
    IMAGENET_NAMES,
    IMAGENET_PIXELS,
)

FAMILY = "qkformer"

_NOTE = (
    'by the paper, whose code has membrane_state="batch": potentials carry over from '
    "one image to the next, on ImageNet at batch 32 with the images sorted by class"
)
_PAPER = "Zhou et al., 2024, https://openreview.net/forum?id=AVd7DpiooC; {}"
_IMAGENET = {"image_size": 224, "family": "imagenet", "num_classes": 1000}
_published = functools.partial(Preset, family=FAMILY, reported_note=_NOTE)
_CIFAR = {
    "image_size": 32,
    "family": "cifar",
    "embed_dim": 384,
    "depths": (1, 1, 2),
    "num_heads": 8,
}
_DVS = {
    "image_size": 128,
    "in_channels": 2,
    "static": False,
    "time_steps": 16,
    "family": "dvs",
    "embed_dim": 256,
    "depths": (1, 1),
    # The authors' constructor overwrites its num_heads with 16.
    "num_heads": 16,
}
PRESETS = {
    "qkformer_10_384_imagenet": _published(
        description="QKFormer-10-384 for ImageNet-1k, 224 px, 4 time steps",
        class_names=IMAGENET_NAMES,
        **IMAGENET_PIXELS,
        source=_PAPER.format("imagenet/qkformer.py of the authors' code"),
        parameters=16_473_688,
        arguments={**_IMAGENET, "embed_dim": 384, "num_heads": 6},
        reported=78.80,
    ),
    "qkformer_10_512_imagenet": _published(
        description="QKFormer-10-512 for ImageNet-1k, 224 px, 4 time steps",
        class_names=IMAGENET_NAMES,
        **IMAGENET_PIXELS,
        source=_PAPER.format("imagenet/qkformer.py of the authors' code"),
        parameters=29_079_336,
        arguments={**_IMAGENET, "embed_dim": 512, "num_heads": 8},
        reported=82.04,
    ),
    "qkformer_10_768_imagenet": _published(
        description="QKFormer-10-768 for ImageNet-1k, 224 px, 4 time steps",
        class_names=IMAGENET_NAMES,
        **IMAGENET_PIXELS,
        source=_PAPER.format("imagenet/qkformer.py of the authors' code"),
        parameters=64_962_760,
        arguments={**_IMAGENET, "embed_dim": 768, "num_heads": 12},
        reported=84.22,
    ),
    "qkformer_4_384_cifar10": _published(
        description="QKFormer-4-384 for CIFAR-10, 32 px, 4 time steps",
        class_names=CIFAR10_NAMES,
        **CIFAR_PIXELS,
        source=_PAPER.format("cifar10/model.py of the authors' code"),
        parameters=6_706_234,
        arguments={**_CIFAR, "num_classes": 10},
        reported=96.18,
    ),
    "qkformer_4_384_cifar100": _published(
        description="QKFormer-4-384 for CIFAR-100, 32 px, 4 time steps",
        class_names=CIFAR100_NAMES,
        **CIFAR_PIXELS,
        source=_PAPER.format("cifar100/model.py of the authors' code"),
        parameters=6_740_884,
        arguments={**_CIFAR, "num_classes": 100},
        reported=81.15,
    ),
    "qkformer_2_256_dvs128_gesture": _published(
        description="QKFormer-2-256 for DVS128 Gesture, 128 px, 16 time steps",
        class_names=DVS128_GESTURE_NAMES,
        source=_PAPER.format("dvs128-gesture/model.py of the authors' code"),
        parameters=1_999_371,
        arguments={**_DVS, "mlp_ratio": 4, "num_classes": 11},
        reported=98.6,
    ),
    "qkformer_2_256_cifar10_dvs": _published(
        description="QKFormer-2-256 for CIFAR10-DVS, 128 px, 16 time steps",
        class_names=CIFAR10_NAMES,
        source=_PAPER.format("cifar10-dvs/model.py of the authors' code"),
        parameters=1_504_138,
        arguments={**_DVS, "mlp_ratio": 1, "num_classes": 10},
        reported=84.0,
    ),
    "qkformer_tiny": Preset(
        family=FAMILY,
        description="A small model for demonstrations: 8 px grey images, 4 time steps",
        source="ours",
        parameters=498_666,
        arguments={
            "image_size": 8,
            "in_channels": 1,
            "family": "cifar",
            "embed_dim": 128,
            "depths": (1, 1),
            "num_heads": 4,
            "num_classes": 10,
        },
    ),
}

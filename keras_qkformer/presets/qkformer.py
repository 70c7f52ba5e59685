"""The presets of QKFormer, published or ours, and the ranges of its arguments."""

from types import SimpleNamespace

from keras_qkformer.presets.arguments import check, per_stage
from keras_qkformer.presets.preset import Preset, PublishedModel, published_presets
from keras_qkformer.presets.ranges import (
    check_depths,
    check_heads,
    check_hidden,
    check_input,
    check_neuron,
    check_width,
    pair,
)

FAMILY = "qkformer"
# Family of stems and embeddings -> factor by which its stem divides height and width.
STEM_REDUCTIONS = {"imagenet": 4, "cifar": 1, "dvs": 8}
RESIDUALS = ("add", "pre_activation")
ATTENTIONS = ("token", "channel", "self")
MEMBRANE_STATES = ("sample", "batch")

_SIZES = {
    "imagenet": {"image_size": 224, "time_steps": 4, "depths": (1, 2, 7)},
    "cifar": {"image_size": 32, "time_steps": 4, "depths": (1, 1, 2)},
    "dvs": {
        "image_size": 128,
        "in_channels": 2,
        "static": False,
        "time_steps": 16,
        "depths": (1, 1),
    },
}
_ARGUMENTS = {
    data: {"family": family, **_SIZES[family], **more}
    for data, family, more in (
        ("imagenet", "imagenet", {"num_classes": 1000}),
        ("cifar10", "cifar", {"num_classes": 10}),
        ("cifar100", "cifar", {"num_classes": 100}),
        ("dvs128_gesture", "dvs", {"mlp_ratio": 4, "num_classes": 11}),
        ("cifar10_dvs", "dvs", {"mlp_ratio": 1, "num_classes": 10}),
    )
}
_CODE = "{} of the authors' code"
_IMAGENET = _CODE.format("imagenet/qkformer.py")
_CIFAR10, _CIFAR100, _GESTURE, _CIFAR10_DVS = (
    _CODE.format(f"{folder}/model.py")
    for folder in ("cifar10", "cifar100", "dvs128-gesture", "cifar10-dvs")
)
_TABLE = (
    PublishedModel(10, 384, 6, "imagenet", 16_473_688, 78.80, _IMAGENET),
    PublishedModel(10, 512, 8, "imagenet", 29_079_336, 82.04, _IMAGENET),
    PublishedModel(10, 768, 12, "imagenet", 64_962_760, 84.22, _IMAGENET),
    PublishedModel(4, 384, 8, "cifar10", 6_706_234, 96.18, _CIFAR10),
    PublishedModel(4, 384, 8, "cifar100", 6_740_884, 81.15, _CIFAR100),
    # The authors' constructor for events overwrites its num_heads with 16.
    PublishedModel(2, 256, 16, "dvs128_gesture", 1_999_371, 98.6, _GESTURE),
    PublishedModel(2, 256, 16, "cifar10_dvs", 1_504_138, 84.0, _CIFAR10_DVS),
)
PRESETS = {
    **published_presets(
        FAMILY,
        "QKFormer",
        _TABLE,
        _ARGUMENTS,
        "Zhou et al., 2024, https://openreview.net/forum?id=AVd7DpiooC",
        'by the paper, whose code has membrane_state="batch": potentials carry over '
        "from one image to the next, on ImageNet at batch 32 with the images sorted by "
        "class",
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


def check_ranges(arguments):
    """Raise `ValueError` unless there is such a `QKFormerBackbone`.

    Args:
        arguments: dict of all its arguments.
    """
    a = SimpleNamespace(**arguments)
    families, stages = (*STEM_REDUCTIONS,), len(a.depths)
    check(a.family in families, f"family must be one of {families}", family=a.family)
    check(
        a.residual in RESIDUALS,
        f"residual must be one of {RESIDUALS}",
        residual=a.residual,
    )
    check(
        a.membrane_state in MEMBRANE_STATES,
        f"membrane_state must be one of {MEMBRANE_STATES}",
        membrane_state=a.membrane_state,
    )
    check_depths(a.depths, a.drop_path)
    check_width(a.embed_dim, 2 ** (stages - 1), f" with {stages} stages")
    for stage, heads in enumerate(per_stage("num_heads", a.num_heads, stages), 1):
        width = a.embed_dim // 2 ** (stages - stage)
        check_heads(heads, width, f" of stage {stage}")
        check_hidden(a.mlp_ratio, width)
    attention = ATTENTIONS[0] if a.attention is None else a.attention
    attention = per_stage("attention", attention, stages)
    check(
        {*attention} <= {*ATTENTIONS},
        f"attention must be one of {ATTENTIONS}",
        attention=attention,
    )
    check_input(a.image_size, a.in_channels, a.time_steps)
    multiple = STEM_REDUCTIONS[a.family] * 2 ** (stages - 1)
    check(
        not any(side % multiple for side in pair(a.image_size)),
        f"image_size must be a multiple of {multiple} in family {a.family!r} with "
        f"{stages} stages",
        image_size=pair(a.image_size),
    )
    check_neuron(a.neuron, a.tau)

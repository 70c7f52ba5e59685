"""A small model of every family beside QKFormer, which tests of all families share."""

import dataclasses

from keras_qkformer.models import (
    MaxFormerBackbone,
    SEWResNetBackbone,
    SpikeDrivenTransformerBackbone,
    SpikformerBackbone,
    SpikingClassifier,
    SpikingformerBackbone,
)


@dataclasses.dataclass(frozen=True)
class Small:
    """A small model of a family, and a change of each argument.

    Attributes:
        backbone: class.
        arguments: dict of the arguments of the small model.
        changes: dict from every argument of the backbone but `dtype` to another value.
        macs: int, multiply-accumulates of the small model with 3 classes, by hand.
        along: dict from arguments to others that must change before them.
    """

    backbone: type
    arguments: dict
    changes: dict
    macs: int
    along: dict = dataclasses.field(default_factory=dict)

    def make(self, **changes):
        """A new classifier with 3 classes."""
        arguments = {**self.arguments, **changes}
        return SpikingClassifier(self.backbone(**arguments, name="backbone"), 3)


CHAIN_CHANGES = {
    "image_size": (16, 24),
    "in_channels": 1,
    "static": False,
    "time_steps": 3,
    "reduction": 2,
    "embed_dim": 24,
    "depth": 1,
    "num_heads": 4,
    "mlp_ratio": 3,
    "neuron": "plif",
    "tau": 1.5,
    "surrogate": "atan",
    "drop_path": 0.5,
}
WITH_CML = {**CHAIN_CHANGES, "downsampling": "cml"}
CHAIN = {
    "image_size": (8, 12),
    "in_channels": 2,
    "time_steps": 2,
    "reduction": 4,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 2,
}
SMALL_MODELS = {
    "sew_resnet": Small(
        SEWResNetBackbone,
        {
            "image_size": (8, 12),
            "in_channels": 2,
            "time_steps": 2,
            "stem_width": 8,
            "widths": (8, 16),
            "depths": (1, 1),
        },
        {
            "image_size": (16, 24),
            "in_channels": 1,
            "static": False,
            "time_steps": 3,
            "stem_width": None,
            "widths": (12, 8),
            "depths": (1, 2),
            "bottleneck": True,
            "connect": "iand",
            "neuron": "plif",
            "tau": 1.5,
            "surrogate": "sigmoid",
        },
        # The stem halves the map twice and sees the image once; a stage of 2x3 and one
        # of 1x2 positions, whose first block has a shortcut; the head.
        macs=24 * 49 * 2 * 8
        + 2 * 6 * (2 * 72 * 8)
        + 2 * 2 * (72 * 16 + 144 * 16 + 8 * 16)
        + 3 * 16,
        along={"tau": {"neuron": "lif"}},
    ),
    "max_former": Small(
        MaxFormerBackbone,
        {
            "image_size": (8, 12),
            "in_channels": 2,
            "time_steps": 2,
            "stem": "cifar",
            "embed_dim": 16,
            "depths": (1, 1, 1),
            "mixers": ("identity", "depthwise3", "self"),
            "num_heads": 2,
            "mlp_ratio": 2,
        },
        {
            "image_size": (16, 32),
            "in_channels": 1,
            "static": False,
            "time_steps": 3,
            "stem": "imagenet",
            "embed_dim": 32,
            "depths": (2, 1, 1),
            "mixers": ("depthwise5", "depthwise7", "self"),
            "num_heads": 4,
            "mlp_ratio": 3,
            "neuron": "plif",
            "tau": 1.5,
            "surrogate": "atan",
            "drop_path": 0.5,
        },
        # Per stage: the embedding, whose first convolution of all sees the image once
        # and which pools behind its convolutions; the mixer; the MLP. Then the head.
        macs=96 * 18 * 2
        + 2 * 96 * (18 * 4 + 2 * 4 + 2 * 4 * 8)
        + 2 * (96 * (36 * 8 + 4 * 8) + 24 * 72 * 8 + 24 * 9 * 8 + 24 * 2 * 8 * 16)
        + 2 * (24 * (72 * 16 + 8 * 16) + 6 * 144 * 16)
        + 2 * 6 * (4 * 16 * 16 + 2 * 16 * 8 + 2 * 16 * 32)
        + 3 * 16,
        along={"stem": {"image_size": (16, 32)}},
    ),
    "spike_driven_transformer": Small(
        SpikeDrivenTransformerBackbone,
        # Without `dilate`, heads would change nothing.
        {**CHAIN, "dilate": True},
        {**CHAIN_CHANGES, "dilate": False},
        # As below, without products.
        macs=96 * 18 * 2
        + 2 * (96 * 18 * 4 + 96 * 36 * 8 + 24 * 72 * 16 + 6 * 144 * 16)
        + 2 * 2 * 6 * (4 * 16 * 16 + 2 * 16 * 32)
        + 3 * 16,
    ),
    "spikingformer": Small(
        SpikingformerBackbone,
        CHAIN,
        WITH_CML,
        # The last unit of the stem here makes of 16 channels as many.
        macs=96 * 18 * 2
        + 2 * (96 * 18 * 4 + 96 * 36 * 8 + 24 * 72 * 16 + 6 * 144 * 16)
        + 2 * 2 * 6 * (4 * 16 * 16 + 2 * 16 * 8 + 2 * 16 * 32)
        + 3 * 16,
    ),
    "spikformer": Small(
        SpikformerBackbone,
        CHAIN,
        {**WITH_CML, "attention_scale": 0.25, "attention_bias": True},
        # The first convolution sees the image once, the others two time steps; then
        # of two blocks query, key, value and projection, two products, MLP; the head.
        macs=96 * 18 * 2
        + 2 * (96 * 18 * 4 + 96 * 36 * 8 + 24 * 72 * 16 + 6 * 144 * 16)
        + 2 * 2 * 6 * (4 * 16 * 16 + 2 * 16 * 8 + 2 * 16 * 32)
        + 3 * 16,
    ),
}

"""The presets and ranges of all families of this package, without their classes."""

from keras_qkformer.presets import (
    max_former,
    qkformer,
    sew_resnet,
    spike_driven_transformer,
    spikformer,
    spikingformer,
)

_FAMILIES = (
    *(max_former, qkformer, sew_resnet),
    *(spike_driven_transformer, spikformer, spikingformer),
)
PRESETS = {
    name: preset for family in _FAMILIES for name, preset in family.PRESETS.items()
}
CHECKS = {family.FAMILY: family.check_ranges for family in _FAMILIES}
"""Functions that check the ranges of all arguments of a backbone, by its family."""

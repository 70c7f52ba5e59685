"""The presets of all families of this package, by name, without their classes."""

from keras_qkformer.presets import (
    max_former,
    qkformer,
    sew_resnet,
    spike_driven_transformer,
    spikformer,
    spikingformer,
)

PRESETS = {
    name: preset
    for family in (
        *(max_former, qkformer, sew_resnet),
        *(spike_driven_transformer, spikformer, spikingformer),
    )
    for name, preset in family.PRESETS.items()
}

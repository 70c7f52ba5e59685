"""Models: the backbone and classifier of each family, and streaming."""

from keras_qkformer.models.backbone import (
    SpikingBackbone,
    spiking_input,
    stochastic_depth_rates,
)
from keras_qkformer.models.classifier import SpikingClassifier, count_parameters
from keras_qkformer.models.loading import resolve_preset
from keras_qkformer.models.max_former import MaxFormerBackbone
from keras_qkformer.models.preset import PRESETS, register_family
from keras_qkformer.models.qkformer import QKFormerBackbone, QKFormerClassifier
from keras_qkformer.models.sew_resnet import SEWResNetBackbone
from keras_qkformer.models.spike_driven_transformer import (
    SpikeDrivenTransformerBackbone,
)
from keras_qkformer.models.spikformer import SpikformerBackbone
from keras_qkformer.models.spikingformer import SpikingformerBackbone
from keras_qkformer.models.streaming import StreamingClassifier, StreamingQKFormer
from keras_qkformer.presets.preset import Preset

__all__ = [
    "PRESETS",
    "MaxFormerBackbone",
    "Preset",
    "QKFormerBackbone",
    "QKFormerClassifier",
    "SEWResNetBackbone",
    "SpikeDrivenTransformerBackbone",
    "SpikformerBackbone",
    "SpikingBackbone",
    "SpikingClassifier",
    "SpikingformerBackbone",
    "StreamingClassifier",
    "StreamingQKFormer",
    "count_parameters",
    "register_family",
    "resolve_preset",
    "spiking_input",
    "stochastic_depth_rates",
]

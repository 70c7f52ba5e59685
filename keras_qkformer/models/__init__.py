"""The models: backbone, classifier, presets."""

from keras_qkformer.models.classifier import QKFormerClassifier, count_parameters
from keras_qkformer.models.preset import PRESETS, Preset
from keras_qkformer.models.qkformer import QKFormerBackbone
from keras_qkformer.models.streaming import StreamingQKFormer

__all__ = [
    "PRESETS",
    "Preset",
    "QKFormerBackbone",
    "QKFormerClassifier",
    "StreamingQKFormer",
    "count_parameters",
]

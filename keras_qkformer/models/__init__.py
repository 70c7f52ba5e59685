"""The models: backbone, classifier, presets."""

from keras_qkformer.models.qkformer_backbone import QKFormerBackbone
from keras_qkformer.models.qkformer_classifier import (
    QKFormerClassifier,
    count_parameters,
)
from keras_qkformer.models.qkformer_presets import PRESETS, Preset

__all__ = [
    "PRESETS",
    "Preset",
    "QKFormerBackbone",
    "QKFormerClassifier",
    "count_parameters",
]

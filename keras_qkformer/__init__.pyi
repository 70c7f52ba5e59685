# What type checkers and editors see of `__init__.py`, whose names load at first use.
from keras_qkformer import analysis, convert, data, events, layers, models, ops
from keras_qkformer.models import (
    QKFormerBackbone,
    QKFormerClassifier,
    SpikingClassifier,
)
from keras_qkformer.presets.upload import upload_preset
from keras_qkformer.trained import load_trained

__version__: str
__all__ = [
    "QKFormerBackbone",
    "QKFormerClassifier",
    "SpikingClassifier",
    "analysis",
    "convert",
    "data",
    "events",
    "layers",
    "load_trained",
    "models",
    "ops",
    "upload_preset",
]

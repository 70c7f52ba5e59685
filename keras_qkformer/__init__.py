"""QKFormer, the hierarchical spiking transformer, on Keras 3.

Axes stand in one order everywhere: `(batch, time, height, width, channels)`. Only
`keras_qkformer.convert` knows another one, that of PyTorch checkpoints.
"""

from keras_qkformer import layers, models, ops
from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier

__version__ = "0.1.0"

__all__ = ["QKFormerBackbone", "QKFormerClassifier", "layers", "models", "ops"]

"""Pure functions on tensors: spikes and their surrogate gradients, neurons."""

from keras_qkformer.ops.lif import (
    if_sequence,
    lif_sequence,
    lif_step,
    parametric_lif_sequence,
)
from keras_qkformer.ops.normalization import Normalization
from keras_qkformer.ops.surrogate import (
    register_surrogate,
    spike,
    surrogate_derivative,
    surrogate_names,
)

__all__ = [
    "Normalization",
    "if_sequence",
    "lif_sequence",
    "lif_step",
    "parametric_lif_sequence",
    "register_surrogate",
    "spike",
    "surrogate_derivative",
    "surrogate_names",
]

"""Convert checkpoints of the authors' code, and files of NIR, to models and back."""

from keras_qkformer.convert import (  # noqa: F401  they register themselves
    max_former_checkpoint,
    qkformer_checkpoint,
    sew_resnet_checkpoint,
    spike_driven_transformer_checkpoint,
    spikformer_checkpoint,
    spikingformer_checkpoint,
)
from keras_qkformer.convert.checkpoint_file import read_checkpoint
from keras_qkformer.convert.convert import (
    checkpoint_to_preset,
    preset_to_checkpoint,
    verify_preset,
)
from keras_qkformer.convert.load import load_state_dict, to_state_dict, weight_map
from keras_qkformer.convert.nir_export import export_nir
from keras_qkformer.convert.nir_import import import_nir
from keras_qkformer.convert.torch_file import write_checkpoint

__all__ = [
    "checkpoint_to_preset",
    "export_nir",
    "import_nir",
    "load_state_dict",
    "preset_to_checkpoint",
    "read_checkpoint",
    "to_state_dict",
    "verify_preset",
    "weight_map",
    "write_checkpoint",
]

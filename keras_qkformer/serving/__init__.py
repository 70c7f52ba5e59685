"""Exported models: signatures, files for a server, checks, and a client."""

from pathlib import Path

# Paths within a version's folder.
METADATA_FILE = Path("assets.extra") / "metadata.json"
EXAMPLES_FILE = Path("assets.extra") / "examples.npz"
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"

# Formats of other runtimes, and the types in which each can store weights.
PORTABLE_WEIGHTS = {
    "onnx": ("float32",),
    "litert": ("float32",),
    "openvino": ("float32", "int8"),
}
OUTPUTS = ("logits", "spikes")  # What ONNX returns; other formats return logits.
OPENVINO_MODEL = "model.xml"  # In the folder of an OpenVINO model.


def openvino_hint(weights):
    """Return the end of an error's rule: which format has weights of 8 bits.

    Args:
        weights: str. The type of weights that was received.
    """
    if weights != "int8":
        return ""
    return "; --format openvino --weights int8 multiplies in 8 bits"

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
OPENVINO_MODEL = "model.xml"  # In the folder of an OpenVINO model.

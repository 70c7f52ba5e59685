"""What surrounds an exported model: its signatures, the files for a server, checks."""

from pathlib import Path

# In the folder of a version.
METADATA_FILE = Path("assets.extra") / "metadata.json"
EXAMPLES_FILE = Path("assets.extra") / "examples.npz"
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"

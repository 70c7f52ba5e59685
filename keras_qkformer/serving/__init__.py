"""Exported models: signatures, files for a server, checks, and a client."""

from pathlib import Path

# Paths within a version's folder.
METADATA_FILE = Path("assets.extra") / "metadata.json"
EXAMPLES_FILE = Path("assets.extra") / "examples.npz"
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"

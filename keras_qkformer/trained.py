"""What a training leaves behind, and how it is loaded."""

import json
from pathlib import Path

import numpy as np

from keras_qkformer.models import QKFormerClassifier

RESULTS_FILE = "results.json"
EXAMPLES_FILE = "examples.npz"


def load_best(folder, **overrides):
    """The model of a workdir's best epoch, or of a preset folder, and its metadata.

    Args:
        folder: str or path.
        **overrides: see `QKFormerClassifier.from_preset`.

    Returns:
        `(QKFormerClassifier, dict)`. The dict has `class_names` and `preprocessing`.

    Raises:
        ValueError: if there is no trained model.
    """
    folder = Path(folder)
    if (folder / BEST_FOLDER).is_dir():
        folder = folder / BEST_FOLDER
    try:
        metadata = json.loads((folder / "metadata.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            "A trained model must be a workdir of `fit` with at least one finished "
            f"epoch, or its folder {BEST_FOLDER!r}. Received: {str(folder)!r}"
        ) from error
    missing = {"class_names", "preprocessing"} - {*metadata}
    if missing:
        raise ValueError(
            "The metadata of a preset folder must have class_names and preprocessing: "
            "save_to_preset(folder, metadata) takes them. "
            f"Received: {str(folder)!r} without {', '.join(sorted(missing))}"
        )
    return QKFormerClassifier.from_preset(folder, **overrides), metadata


BEST_FOLDER = "best"


def log_softmax(logits):
    """Logarithms of the class probabilities, over the last axis."""
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

"""What stands beside an exported model: examples, details, versions."""

import contextlib
import datetime
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np

LABELS_FILE = "labels.txt"
# Inputs that go with a bundle, with the model's logits: those of a workdir, or noise.
_EXAMPLES = 8
_NOISE = 2


def load_exportable(folder):
    """The `TrainedModel` of a workdir or of a preset folder.

    Raises:
        ValueError: if there is none, or a prediction depends on its batch.
    """
    from keras_qkformer.trained import load_trained

    trained = load_trained(folder)
    check_exportable(trained.model)
    return trained


def check_exportable(model):
    """Raise `ValueError` if a prediction of the model depends on its batch."""
    state = model.backbone.membrane_state
    if state != "sample":
        raise ValueError(
            "A model must keep every sample's state to itself to be exported. "
            f"Received: membrane_state={state!r}"
        )


def draw_examples(folder, trained):
    """Inputs as the source has them and the model's logits, before anything changes.

    The logits that `fit` has kept are there too, as `trained`: they come from another
    backend perhaps, and from images before these were brought to one size.
    """
    from keras_qkformer.trained import EXAMPLES_FILE as KEPT
    from keras_qkformer.trained import frame_options

    model, path = trained.model, Path(folder) / KEPT
    if path.is_file():
        with np.load(path) as kept:
            examples = {
                "images": kept["images"][:_EXAMPLES],
                "labels": kept["labels"][:_EXAMPLES],
                "trained": kept["logits"][:_EXAMPLES],
            }
    else:
        draw = np.random.default_rng(0)
        if model.backbone.static:
            shape = (_NOISE, *model.input_shape[1:])
            examples = {"images": draw.integers(0, 256, shape, "uint8")}
        else:
            options = frame_options(trained.metadata, model.backbone)
            time_steps, channels = model.input_shape[1], model.input_shape[-1]
            shape = (_NOISE, time_steps, *options["sensor_size"], channels)
            examples = {"images": _noise_frames(draw, shape)}
    inputs = trained.preprocessing(examples["images"])
    # One at a time, because large models need their memory.
    logits = [model(x[None], training=False).numpy()[0] for x in inputs]
    return {**examples, "logits": np.array(logits)}


def _noise_frames(draw, shape):
    """Frames of random counts, 1 on average, with equally many events in every frame.

    Only such frames come back when the check counts their events by number.
    """
    cells = math.prod(shape[2:])
    counts = draw.multinomial(cells, np.full(cells, 1 / cells), shape[:2])
    return counts.reshape(shape).astype("uint16")


def compare_logits(served, examples):
    """How far the logits of the bundle are from those of the model."""
    logits = np.concatenate([served.logits(x[None]) for x in examples["images"]])
    expected, trained = examples["logits"], examples.get("trained")
    return {
        "count": len(logits),
        "of": "noise" if trained is None else "the test split",
        "largest_difference": float(np.abs(logits - expected).max()),
        "largest_logit": float(np.abs(expected).max()),
        "same_top1": int(np.sum(logits.argmax(-1) == expected.argmax(-1))),
        "largest_difference_from_training": None
        if trained is None
        else float(np.abs(logits - trained).max()),
    }


def details_of(folder, model, metadata):
    """What a bundle says about where it comes from."""
    import tensorflow as tf

    from keras_qkformer.files import file_digest
    from keras_qkformer.models import count_parameters
    from keras_qkformer.models.preset_files import WEIGHTS_FILE
    from keras_qkformer.provenance import provenance
    from keras_qkformer.trained import BEST_FOLDER, RESULTS_FILE

    folder = Path(folder)
    results = folder / RESULTS_FILE
    trained = json.loads(results.read_text()) if results.is_file() else {}
    best = folder / BEST_FOLDER
    weights = (best if best.is_dir() else folder) / WEIGHTS_FILE
    recipe = metadata.get("recipe", {})
    return {
        "date": datetime.date.today().isoformat(),
        "source": str(folder.resolve()),
        "preset": recipe.get("preset") or metadata.get("preset"),
        "parameters": count_parameters(model),
        "sha256_of_weights": file_digest(weights),
        "class_names": metadata["class_names"],
        "preprocessing": metadata["preprocessing"],
        "accuracy": trained.get("test", {}).get("accuracy"),
        "accuracy_split": trained.get("test_split"),
        "recipe": recipe or None,
        "trained_with": {k: trained.get(k) for k in ("versions", "commit")},
        "exported_with": {**provenance(), "tensorflow": tf.__version__},
    }


def describe(function):
    """Types and shapes of a signature, by name."""
    import tensorflow as tf

    def entry(spec):
        return {"dtype": spec.dtype.name, "shape": list(spec.shape)}

    inputs = tf.nest.flatten(function.input_signature)
    outputs = function.get_concrete_function().structured_outputs
    return {
        "inputs": {spec.name: entry(spec) for spec in inputs},
        "outputs": {name: entry(spec) for name, spec in outputs.items()},
    }


@contextlib.contextmanager
def next_version(out):
    """A folder to write, and a function that makes it the next version."""
    from keras_qkformer.files import beside

    def publish(path):
        while True:
            taken = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
            version = out / str(max(taken, default=0) + 1)
            try:
                # The rename is what makes it appear: TF Serving polls the folder.
                path.rename(version)
                return version
            except OSError:
                if not version.exists():
                    raise

    with beside(out / "version") as new:
        yield new, publish

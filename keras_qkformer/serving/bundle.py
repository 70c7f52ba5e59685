"""What stands beside an exported model: examples, where it comes from, versions."""

import datetime
import json
import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_qkformer.files import file_digest
from keras_qkformer.models import count_parameters
from keras_qkformer.models.preset_files import WEIGHTS_FILE
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import EXAMPLES_FILE, RESULTS_FILE, load_trained

# Inputs that go with a bundle, with the model's logits: those of a workdir, or noise.
_EXAMPLES = 8
_NOISE = 2


def load_exportable(folder):
    """The `TrainedModel` of a workdir or of a preset folder.

    Args:
        folder: str or path.

    Raises:
        ValueError: if there is none, or a prediction depends on its batch.
    """
    trained = load_trained(folder)
    check_exportable(trained.model)
    return trained


def check_exportable(model):
    """Refuse a model whose predictions depend on their batch.

    Args:
        model: a classifier.

    Raises:
        ValueError: if neurons keep their state from sample to sample.
    """
    state = model.backbone.membrane_state
    if state != "sample":
        raise ValueError(
            "A model must keep every sample's state to itself to be exported. "
            f"Received: membrane_state={state!r}"
        )


def draw_examples(folder, trained):
    """Inputs as the source has them and the model's logits, before anything changes.

    Args:
        folder: str or path of the workdir or preset folder.
        trained: its `TrainedModel`.

    Returns:
        Dict of arrays: `images`, `logits` and, from a workdir, `labels` and `trained`.
        The last are the logits that `fit` has kept: they come from another backend
        perhaps, and from images before these were brought to one size.
    """
    model, path = trained.model, Path(folder) / EXAMPLES_FILE
    if path.is_file():
        with np.load(path) as kept:
            examples = {
                "images": kept["images"][:_EXAMPLES],
                "labels": kept["labels"][:_EXAMPLES],
                "trained": kept["logits"][:_EXAMPLES],
            }
    else:
        examples = {"images": _noise(trained)}
    inputs = trained.preprocessing(examples["images"])
    # One at a time, because large models need their memory.
    logits = [model(x[None], training=False).numpy()[0] for x in inputs]
    return {**examples, "logits": np.array(logits)}


def _noise(trained):
    """Pixels at random, or counts, as the source of a model has them.

    Frames have 1 event per place and polarity on average, and equally many events each:
    only such frames come back when the check counts their events by number.
    """
    draw = np.random.default_rng(0)
    *time_steps, height, width, channels = trained.model.input_shape[1:]
    if trained.model.backbone.static:
        return draw.integers(0, 256, (_NOISE, height, width, channels), "uint8")
    shape = (*trained.frame_options["sensor_size"], channels)
    cells = math.prod(shape)
    counts = draw.multinomial(cells, np.full(cells, 1 / cells), (_NOISE, *time_steps))
    return counts.reshape(_NOISE, *time_steps, *shape).astype("uint16")


def origin(folder, trained):
    """What a bundle says about where it comes from, as a dict for its metadata.

    Args:
        folder: str or path of the workdir or preset folder.
        trained: its `TrainedModel`.
    """
    folder = Path(folder)
    results = folder / RESULTS_FILE
    results = json.loads(results.read_text()) if results.is_file() else {}
    recipe = trained.metadata.get("recipe", {})
    return {
        "date": datetime.date.today().isoformat(),
        "source": str(folder.resolve()),
        "preset": recipe.get("preset") or trained.metadata.get("preset"),
        "parameters": count_parameters(trained.model),
        "sha256_of_weights": file_digest(trained.folder / WEIGHTS_FILE),
        "class_names": trained.class_names,
        "preprocessing": trained.metadata["preprocessing"],
        "accuracy": results.get("test", {}).get("accuracy"),
        "accuracy_split": results.get("test_split"),
        "recipe": recipe or None,
        "trained_with": {k: results.get(k) for k in ("versions", "commit")},
        "exported_with": {**provenance(), "tensorflow": tf.__version__},
    }


def describe_signatures(served):
    """Types and shapes of all signatures.

    Args:
        served: `ServedModel`.

    Returns:
        Dict from names to dicts with `inputs` and `outputs`, which are dicts from names
        to `dtype` and `shape`, where `None` stands for any size.
    """
    return {name: _describe(function) for name, function in served.signatures.items()}


def _describe(function):
    def entry(spec):
        return {"dtype": spec.dtype.name, "shape": list(spec.shape)}

    inputs = tf.nest.flatten(function.input_signature)
    outputs = function.get_concrete_function().structured_outputs
    return {
        "inputs": {spec.name: entry(spec) for spec in inputs},
        "outputs": {name: entry(spec) for name, spec in outputs.items()},
    }


def compare_logits(served, examples):
    """How far the logits of a `ServedModel` are from those of the trained model.

    Args:
        served: `ServedModel`.
        examples: dict from `draw_examples`.
    """
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


def publish(new, out):
    """Make a written folder the next version of a model; returns its path.

    Args:
        new: path of the folder, on the same disk.
        out: path of the model's folder.

    Raises:
        OSError: if the folder can't be moved.
    """
    while True:
        taken = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
        version = out / str(max(taken, default=0) + 1)
        try:
            # The rename is what makes it appear: TF Serving polls the folder.
            return new.rename(version)
        except OSError:  # Another export may have taken the number meanwhile.
            if not version.exists():
                raise

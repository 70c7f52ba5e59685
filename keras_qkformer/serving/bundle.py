"""The parts of a bundle beside the model: examples, origin, version number."""

import datetime
import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_qkformer.files import file_digest, move
from keras_qkformer.kept_examples import read_examples
from keras_qkformer.models import count_parameters
from keras_qkformer.presets.folders import weights_file
from keras_qkformer.provenance import provenance
from keras_qkformer.serving.agreement import close_examples
from keras_qkformer.trained import (
    EXAMPLES_FILE,
    RESULTS_FILE,
    load_trained,
    read_results,
)

# Number of examples in a bundle, from a workdir or else of noise.
_EXAMPLES = 8
_NOISE = 2


def load_exportable(folder):
    """Load the `TrainedModel` of a workdir or preset folder and check it for export.

    Args:
        folder: str or path.

    Raises:
        ValueError: if the folder has no trained model, or its predictions depend on
            the batch.
    """
    trained = load_trained(folder)
    check_exportable(trained.model)
    return trained


def check_exportable(model):
    """Raise an error if a model's predictions depend on the batch.

    Args:
        model: `SpikingClassifier`.

    Raises:
        ValueError: if `membrane_state` is not `"sample"`.
    """
    state = model.backbone.membrane_state
    if state != "sample":
        raise ValueError(
            "A model must keep every sample's state to itself to be exported. "
            f"Received: membrane_state={state!r}"
        )


def draw_examples(folder, trained):
    """Return example inputs and the model's logits for them.

    Call it before the model is folded.

    Args:
        folder: str or path of the workdir or preset folder.
        trained: its `TrainedModel`.

    Returns:
        Dict of arrays, one row per example: `images` before preprocessing, `logits`,
        `close`, see `close_examples`, and, from a workdir, `labels` and `trained`.
        `trained` holds the logits that `fit` saved, perhaps on another backend and from
        the images at their original sizes.
    """
    model, path = trained.model, Path(folder) / EXAMPLES_FILE
    if path.is_file():
        kept = read_examples(path, ("images", "labels", "logits"))
        examples = {
            "images": kept["images"][:_EXAMPLES],
            "labels": kept["labels"][:_EXAMPLES],
            "trained": kept["logits"][:_EXAMPLES],
        }
    else:
        examples = {"images": _noise(trained)}
    inputs = trained.preprocessing(examples["images"])
    return {**examples, **_logits(model, inputs)}


def _logits(model, inputs):
    # One at a time, to limit the memory of large models.
    each = [close_examples(model, x[None]) for x in inputs]
    logits, close = (np.concatenate(part) for part in zip(*each, strict=True))
    return {"logits": logits, "close": close}


def keep_examples(folder, model, images, inputs):
    """Write examples beside a model of another runtime, for its check.

    Args:
        folder: `Path` of the exported model.
        model: `SpikingClassifier` with the weights as they were written.
        images: array `(batch, ...)` of examples before preprocessing.
        inputs: float array `(batch, ...)`: the same, preprocessed.
    """
    logits = _logits(model, tf.cast(inputs, model.input.dtype))
    np.savez_compressed(folder / EXAMPLES_FILE, images=images, **logits)


def kept_inputs(folder, trained):
    """Return the examples that a workdir keeps, preprocessed, or `None` without any.

    Args:
        folder: str or path of the workdir or preset folder.
        trained: its `TrainedModel`.
    """
    path = Path(folder) / EXAMPLES_FILE
    if not path.is_file():
        return None
    return trained.preprocessing(read_examples(path, ("images",))["images"])


def _noise(trained):
    """Return random pixels, or random event counts for a model of event frames.

    Every frame has the same number of events, on average 1 per pixel and polarity:
    otherwise the check could not rebuild the frames by splitting events by number.
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
    """Return the metadata that tells where a bundle comes from, as a dict.

    Args:
        folder: str or path of the workdir or preset folder.
        trained: its `TrainedModel`.
    """
    folder = Path(folder)
    results = read_results(folder) if (folder / RESULTS_FILE).is_file() else {}
    recipe = trained.metadata.get("recipe", {})
    return {
        "date": datetime.date.today().isoformat(),
        "source": str(folder.resolve()),
        "preset": recipe.get("preset") or trained.metadata.get("preset"),
        "parameters": count_parameters(trained.model),
        "sha256_of_weights": file_digest(weights_file(trained.folder)),
        "class_names": trained.class_names,
        "preprocessing": trained.metadata["preprocessing"],
        "accuracy": results.get("test", {}).get("accuracy"),
        "accuracy_split": results.get("test_split"),
        "recipe": recipe or None,
        "trained_with": {k: results.get(k) for k in ("versions", "commit")},
        "exported_with": {**provenance(), "tensorflow": tf.__version__},
    }


def describe_input(trained):
    """Return the metadata that tells what a model takes, as a dict.

    Args:
        trained: `TrainedModel`.
    """
    backbone = trained.model.backbone
    sizes = {
        "static": backbone.static,
        "image_size": list(backbone.image_size),
        "in_channels": backbone.in_channels,
        "time_steps": backbone.time_steps,
    }
    taken = {"input": sizes, "orientation": trained.orientation}
    if "sensor_size" in trained.metadata:
        taken["sensor_size"] = trained.metadata["sensor_size"]
    return taken


def describe_signatures(served):
    """Return the types and shapes of all signatures.

    Args:
        served: `ServedModel`.

    Returns:
        Dict from the name of a signature to a dict with `inputs` and `outputs`. Each of
        these maps the name of a tensor to its `dtype` and `shape`; `None` in a shape
        stands for any size.
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
    """Compare the logits of a `ServedModel` with those of the trained model.

    Args:
        served: `ServedModel`.
        examples: dict from `draw_examples`.

    Returns:
        Dict for the bundle's metadata: the number of examples, their kind, the largest
        differences, and how many examples keep their most probable class.
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
    """Rename a finished folder to the next version of a model; return the new path.

    Args:
        new: path of the finished folder, on the same file system as `out`.
        out: path of the model's folder.

    Raises:
        OSError: if the folder can't be renamed.
    """
    while True:
        taken = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
        version = out / str(max(taken, default=0) + 1)
        try:
            # TF Serving polls the folder, so a version must appear in one step.
            move(new, version)
            return version
        except OSError:  # Another export may have taken the number meanwhile.
            if not version.exists():
                raise

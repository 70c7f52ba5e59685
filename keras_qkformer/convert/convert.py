"""Convert PyTorch checkpoints to preset folders and back, and verify the logits."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qkformer.convert.checkpoint_file import read_checkpoint
from keras_qkformer.convert.load import (
    load_state_dict,
    to_state_dict,
    unused_arrays,
)
from keras_qkformer.convert.published_code import CODES
from keras_qkformer.convert.recognition import recognize
from keras_qkformer.convert.torch_file import write_checkpoint
from keras_qkformer.files import beside, file_digest, move
from keras_qkformer.manifest import write_manifest
from keras_qkformer.models import PRESETS, SpikingClassifier, count_parameters
from keras_qkformer.models.loading import check_finite
from keras_qkformer.models.preset import FAMILIES, family_of
from keras_qkformer.printable import printable
from keras_qkformer.stages import stage

# Holds what a checkpoint has without effect on the model, to be written back.
UNUSED_FILE = "unused.npz"
# Largest difference of a logit between our model and PyTorch's, both in float64.
TOLERANCE = 1e-9


def checkpoint_to_preset(
    path: str | os.PathLike,
    out: str | os.PathLike,
    preset: str | None = None,
    options: dict | None = None,
    entry: str | None = None,
    verify: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Convert a PyTorch checkpoint to a preset folder.

    The folder appears only when it is complete and the check, if any, has passed.

    Args:
        path: str or path of a file, see `read_checkpoint`.
        out: str or path of the folder, which must not exist.
        preset: str, name of the preset that the weights must fit, or `None` to
            recognize it.
        options: dict of arguments that the shapes don't tell, see `recognize`.
        entry: str, entry of the file with the weights, see `read_checkpoint`.
        verify: bool. Whether to compare the logits of the folder's model with those of
            PyTorch, see `verify_preset`.
        on_progress: function `(done, total)`, called after every array with the numbers
            of arrays.

    Returns:
        Dict of `preset`, `arguments`, `assumed`, `unused` (names of arrays without
        effect, which the folder keeps), `parameters`, `entry`, `other_entries`,
        `facts`, `source`, and with `verify` also `largest_difference`.

    Raises:
        ValueError: if the file is damaged or unsafe, the weights are not those of one
            model or not finite, `out` exists, or the logits differ. No folder is
            written then.
        OSError: if a file can't be read or written.
        ImportError: with `verify`, without PyTorch.
    """
    path, out = Path(path), Path(out)
    if out.exists():
        raise ValueError(
            f"The folder to write must not exist yet. Received: {str(out)!r}"
        )
    checkpoint = read_checkpoint(path, entry)
    found = recognize(checkpoint.arrays, preset, options, checkpoint.facts)
    family = FAMILIES[found.code.family]
    model = SpikingClassifier.from_arguments(family, found.arguments)
    # Mistakes, which are told so far, are one line alone.
    stage("loading the weights into the model")
    total, done = len(model.weights), 0

    def on_array():
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    unused = load_state_dict(model, found.arrays, on_array)
    check_finite(model, path)
    summary = {
        "preset": found.preset,
        "source": {"file": path.name, "sha256": file_digest(path)},
        "entry": checkpoint.entry,
        "other_entries": list(checkpoint.others),
        "facts": dict(checkpoint.facts),
        "assumed": {
            key: {"value": found.arguments[key], "because": reason}
            for key, reason in found.assumed.items()
        },
        "unused": sorted(unused),
    }
    stage("writing the preset folder")
    with beside(out) as new:
        model.save_to_preset(new, {**summary, **_for_use(model, found)})
        if unused:
            np.savez(new / UNUSED_FILE, **{k: np.asarray(v) for k, v in unused.items()})
            write_manifest(new)
        if verify:
            summary["largest_difference"] = verify_preset(new, found.arrays)
        move(new, out)
    parameters = count_parameters(model)
    return {**summary, "arguments": found.arguments, "parameters": parameters}


def preset_to_checkpoint(
    folder: str | os.PathLike, path: str | os.PathLike, verify: bool = False
) -> float | None:
    """Write the weights of a preset folder as a plain state dict for PyTorch.

    The names and shapes are those of the authors' code, which loads the file with
    `model.load_state_dict(torch.load(path))`.

    Args:
        folder: str or path of a preset folder, or the address of one.
        path: str or path of the file, which must not exist.
        verify: bool. Whether to compare the logits, see `verify_preset`.

    Returns:
        Float, the largest difference of a logit, or `None` without `verify`.

    Raises:
        ValueError: if there is no such folder, `path` exists, the published code has no
            model like this one, or the logits differ.
        ImportError: with `verify`, without PyTorch.
    """
    path, difference = Path(path), None
    if path.exists():
        raise ValueError(
            f"The file to write must not exist yet. Received: {str(path)!r}"
        )
    if os.fspath(folder) in PRESETS:
        raise ValueError(
            "A preset's name alone has no trained weights; give a folder. "
            f"Received: {os.fspath(folder)!r}"
        )
    stage(f"loading {folder}")
    model = SpikingClassifier.from_preset(folder)
    stage("writing the checkpoint")
    with beside(path) as new:
        write_checkpoint(new, to_state_dict(model, _kept_unused(folder, model)))
        if verify:
            difference = verify_preset(folder, read_checkpoint(new).arrays)
        move(new, path)
    return difference


def verify_preset(folder: str | os.PathLike, arrays: Mapping[str, Any]) -> float:
    """Compare the logits of a preset folder with those of PyTorch for a checkpoint.

    Both compute in float64, on two random inputs.

    Args:
        folder: str or path of a preset folder.
        arrays: dict from the authors' names to arrays.

    Returns:
        Float, the largest difference of a logit.

    Raises:
        ValueError: if it is above `TOLERANCE`, or if both inputs have the same logits,
            so that the check proves nothing.
        ImportError: without PyTorch.
    """
    stage("comparing logits with a plain PyTorch model, in float64")
    with _float64():
        model = SpikingClassifier.from_preset(folder, dtype="float64")
        shape = (2, *model.input_shape[1:])
        random = np.random.default_rng(0)
        # Counts of events, or normalized pixels.
        static = model.backbone.static
        x = random.normal(size=shape) if static else random.poisson(0.5, shape)
        ours = model.predict(x.astype("float64"), batch_size=2, verbose=0)
        arguments = model.backbone.get_config()
        code = CODES[family_of(model.backbone).name]
    theirs = code.twin_logits(code.renamed(arrays), arguments, x)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The logits must be those of PyTorch within {TOLERANCE}. "
            f"Received: a difference of {difference:.3g}"
        )
    if np.ptp(theirs, axis=0).max() == 0.0:
        raise ValueError(
            "The logits must depend on the input for the check to say anything. "
            "Received: the same logits for two random inputs, as if no neuron fired"
        )
    return difference


def _kept_unused(folder, model):
    """The arrays without effect that a converted folder keeps; an address has none."""
    path = Path(folder) / UNUSED_FILE
    if not path.is_file():
        return {}
    arrays = dict(read_checkpoint(path).arrays)
    known = unused_arrays(model)
    for name, array in arrays.items():
        # Another name could take the place of a weight.
        if name not in known or np.asarray(array).dtype.kind not in "fi":
            raise ValueError(
                f"{path} must have numbers without effect on the model alone. "
                f"Received: {printable(name)}"
            )
    return arrays


@contextlib.contextmanager
def _float64():
    """Context in which every backend computes in float64."""
    kept = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        if keras.backend.backend() == "jax":
            import jax

            with jax.enable_x64(True):
                yield
        else:
            yield
    finally:
        keras.config.set_floatx(kept)


def _for_use(model, found):
    """Metadata for prediction, evaluation and export, with the reported accuracy."""
    known = PRESETS[found.alike].class_names if found.alike else ()
    metadata = {
        "class_names": list(known or map(str, range(model.num_classes or 0))),
        **found.code.metadata(model.backbone, found.alike),
    }
    preset = PRESETS.get(found.preset)
    if preset is not None and preset.reported is not None:
        metadata["reported"] = {
            "top_1": preset.reported,
            "note": f"of a model of these sizes {preset.reported_note}. Not measured "
            "with this file; evaluate has --membrane-state sample and batch.",
        }
    return metadata

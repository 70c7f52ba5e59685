"""Exports a trained model: a SavedModel bundle for TF Serving, or ONNX or LiteRT.

On JAX and PyTorch the export runs in a TensorFlow process,
`python -m keras_qkformer.serving.export`: JSON on standard input and output.
"""

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.files import beside, move, write_json
from keras_qkformer.manifest import (
    IntegrityWarning,
    is_trusting,
    trusting,
    write_manifest,
)
from keras_qkformer.mistakes import is_mistake
from keras_qkformer.serving import (
    EXAMPLES_FILE,
    METADATA_FILE,
    OUTPUTS,
    PORTABLE_WEIGHTS,
    openvino_hint,
)
from keras_qkformer.serving.export_process import answer_parent, ask_process
from keras_qkformer.serving.server_files import check_name, write_server_files
from keras_qkformer.stages import stage
from keras_qkformer.user_modules import import_user_module, user_modules

WEIGHTS = ("float32", "bfloat16", "int8")
BATCH_SIZES = (1, 2, 4, 8)


def export_saved_model(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    weights: str = "float32",
    batch_sizes: Iterable[int] = BATCH_SIZES,
    top: int = 5,
    max_megapixels: float = 25.0,
) -> Path:
    """Write the next version of a model for TF Serving.

    The export holds plain TensorFlow operations only. On JAX and PyTorch, a TensorFlow
    process makes it.

    Args:
        folder: str or path of a workdir or preset folder.
        out: str or path of the model's folder, such as `"saved_models/digits"`. The
            version becomes a subfolder with the next free number, and appears whole.
            The folder's name is the model's: letters, digits and `_-.`.
        weights: str. Type in which to store the weights of the convolutions:
            `"float32"`, `"bfloat16"`, or `"int8"` with one scale per output channel.
        batch_sizes: increasing ints > 0. Batch sizes allowed for server-side batching;
            each gets warm-up requests.
        top: int > 0. How many classes an answer names.
        max_megapixels: float > 0. Larger image files are refused before decoding.

    Returns:
        Path of the version, such as `saved_models/digits/1`.

    A model of images has these signatures:

    - `serving_default`: `image_bytes`, string `(batch,)`: JPEG, PNG or WebP files. The
      signature decodes, resizes and normalizes them.
    - `predict_lenient`: the same, with a `status` for every item.
    - `predict_pixels` and `predict_pixels_uint8`: `images`, float32 or uint8
      `(batch, height, width, channels)`, values from 0 to 255, any height and width.

    A model of event frames has these signatures:

    - `serving_default` and `predict_frames`: `frames`, float32
      `(batch, time, height, width, 2)`, counts of events, any height and width.
    - `predict_events`: `t`, int64, and `x`, `y`, `p`, int32, all `(batch, events)`,
      and `num_events`, int32 `(batch,)`: how many events of each row are valid.
    - `predict_events_lenient`: the same, with a `status` for every item.
    - `stream`: one frame at a time, see `StreamingClassifier`. Inputs are `frame`,
      `(batch, height, width, 2)`, and every tensor of the state under its name. Outputs
      are the answer for the frames so far, and the state for the next call under the
      same names. Before the first frame every tensor of the state is zero.

    `ServedModel` describes the outputs. The version's folder `assets.extra` holds
    `metadata.json`, warm-up requests, and examples with the trained model's logits.

    Raises:
        ValueError: if the folder has no trained model, its predictions depend on the
            batch (`membrane_state="batch"`), or an argument is out of range.
        OSError: if a file can't be read or written.
    """
    options = _check_options(weights, batch_sizes, top, max_megapixels)
    out = Path(out)
    name = out.resolve().name
    check_name(name)
    if keras.backend.backend() != "tensorflow":
        version = _run_in_tensorflow(
            export_saved_model, folder=str(folder), out=str(out), **options
        )
        return Path(version)
    # These import TensorFlow, which other backends don't need.
    from keras_qkformer.serving import bundle
    from keras_qkformer.serving.served_model import ServedModel
    from keras_qkformer.serving.warmup import write_warmup

    stage(f"loading {folder}")
    trained = bundle.load_exportable(folder)
    stage("computing the logits of examples, to compare with")
    examples = bundle.draw_examples(folder, trained)
    stage("building the model to serve")
    max_pixels = round(options["max_megapixels"] * 1e6)
    served = ServedModel(trained, weights, options["top"], max_pixels)
    stage("comparing its logits with those of the trained model")
    details = {
        **bundle.origin(folder, trained),
        "weights": weights,
        "max_pixels": max_pixels,
        "batch_sizes": options["batch_sizes"],
        "frames": served.frames,
        "orientation": trained.orientation if served.frames else None,
        "signatures": bundle.describe_signatures(served),
        "examples": bundle.compare_logits(served, examples),
    }
    stage("writing its signatures and warm-up requests")
    with beside(out / "version") as new:
        served.save(new)
        write_warmup(new, name, served, options["batch_sizes"])
        np.savez_compressed(new / EXAMPLES_FILE, **examples)
        write_json(new / METADATA_FILE, details)
        write_manifest(new)
        version = bundle.publish(new, out)
    write_server_files(out, name, int(version.name), options["batch_sizes"])
    return version


def _check_options(weights, batch_sizes, top, max_megapixels):
    """Return the options of `export_saved_model` as a dict of plain values.

    Raises:
        ValueError: if one is out of range.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {WEIGHTS}. Received: {weights!r}")
    batch_sizes = [int(size) for size in batch_sizes]
    if not batch_sizes or batch_sizes != sorted({*batch_sizes}) or batch_sizes[0] < 1:
        raise ValueError(
            f"batch_sizes must be above 0 and grow. Received: {batch_sizes}"
        )
    if not (top >= 1 and max_megapixels > 0):
        raise ValueError(
            "top must be at least 1, max_megapixels above 0. "
            f"Received: top={top}, max_megapixels={max_megapixels}"
        )
    return {
        "weights": weights,
        "batch_sizes": batch_sizes,
        "top": int(top),
        "max_megapixels": float(max_megapixels),
    }


def export_portable(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    format: str,
    weights: str = "float32",
    outputs: str = "logits",
) -> dict[str, dict]:
    """Write a model for another runtime, and check its logits in that runtime.

    Args:
        folder: str or path of a workdir or preset folder.
        out: str or path of the folder to write, which must not exist.
        format: `"onnx"`: `model.onnx`, and for a model of event frames `stream.onnx`.
            `"litert"`: `model.tflite` with the signatures `model` and `stream`.
            `"openvino"`: `model.xml`, `model.bin`, and for event frames `stream.xml`,
            `stream.bin`.
        weights: `"float32"`; or with `"openvino"` `"int8"`, which rounds the weights of
            every unit whose input is whole numbers, see `UnitWeights`: so that outputs
            change least on the examples of a workdir; to the nearest without examples.
        outputs: `"logits"`; or with `"onnx"` `"spikes"`, to return also the features of
            every stage, the masks of attention, and the mean of what each operation
            takes, at every time step. `outputs` in `metadata.json` describes them.

    Returns:
        Dict from `"model"` and `"stream"` to a dict: how that runtime, on this CPU,
        agrees with the trained model in float64, see `portable.compare`.

    The input `images` or `frames` is float32 with pixels from 0 to 255 or counts of
    events, already at the model's height and width; the output is `logits`. The batch
    may have any size. See `ServedModel.portable` for the stream. Class names and
    metadata are in `metadata.json`.

    Raises:
        ValueError: if `format` is unknown or does not offer `weights` or `outputs`, the
            folder has no trained model, its predictions depend on the batch, `out`
            exists, or that runtime does not agree with the model.
        ImportError: if the extra `onnx`, `litert` or `openvino` is not installed.
        OSError: if a file can't be read or written.
    """
    if format not in PORTABLE_WEIGHTS:
        raise ValueError(
            f"format must be one of {list(PORTABLE_WEIGHTS)}. Received: {format!r}"
        )
    if weights not in PORTABLE_WEIGHTS[format]:
        raise ValueError(
            f"weights must be one of {PORTABLE_WEIGHTS[format]} with format "
            f"{format!r}{openvino_hint(weights)}. Received: {weights!r}"
        )
    if outputs not in OUTPUTS or (outputs == "spikes" and format != "onnx"):
        raise ValueError(
            f"outputs must be one of {list(OUTPUTS)}, of which 'spikes' needs format "
            f"'onnx'. Received: {outputs!r} with format {format!r}"
        )
    out = Path(out)
    if out.exists():
        raise ValueError(
            f"The folder to write must not exist yet. Received: {str(out)!r}"
        )
    if keras.backend.backend() != "tensorflow":
        return _run_in_tensorflow(
            export_portable,
            folder=str(folder),
            out=str(out),
            format=format,
            weights=weights,
            outputs=outputs,
        )
    # These import TensorFlow, which other backends don't need.
    from keras_qkformer.serving import bundle, portable, stage_outputs
    from keras_qkformer.serving.rounding import compare_rounded, second_moments
    from keras_qkformer.serving.served_model import ServedModel
    from keras_qkformer.serving.unit_weights import UnitWeights

    unit_weights = UnitWeights(weights)
    # Before the weights of the model: the packages of a format may be missing.
    if format == "openvino":
        write = portable.openvino_writer(unit_weights)
    else:
        write = portable.WRITERS[format]()
    stage(f"loading {folder}")
    trained = bundle.load_exportable(folder)
    stage("computing the logits of examples, to compare with")
    examples = bundle.draw_examples(folder, trained)
    served = ServedModel(trained, stages=outputs == "spikes")
    if served.stages:  # Raises before the work if a layer can't be described.
        described = stage_outputs.describe(trained.model)
    kept = bundle.kept_inputs(folder, trained) if weights == "int8" else None
    if kept is not None:
        stage(f"choosing how to round on {len(kept)} examples of the test split")
        unit_weights.moments = second_moments(served.reference, kept)
    with beside(out) as new:
        new.mkdir()
        stage(f"writing {format}")
        runs = write(served, new, spikes=False)
        stage("comparing its spikes and logits with the model in float64")
        with tempfile.TemporaryDirectory() as probes:
            probes = write(served, Path(probes), spikes=True)
            found = portable.compare(runs, probes, served, examples)
        details = {
            **bundle.origin(folder, trained),
            **bundle.describe_input(trained),
            "agreement": found,
        }
        if served.stages:
            details["outputs"] = described
        if format == "openvino":
            inputs = trained.preprocessing(examples["images"])
            details |= {"weights": weights, "float_units": unit_weights.float_units()}
            if weights == "int8":
                stage("comparing classes and spikes with those of float32 weights")
                labels = examples.get("labels")
                details["rounding"] = compare_rounded(
                    trained.model, served.reference, inputs, labels
                )
            bundle.keep_examples(new, served.reference, examples["images"], inputs)
        write_json(new / METADATA_FILE.name, details)
        write_manifest(new)
        move(new, out)
    return found


# Kinds of errors that can report the caller's mistake.
_ERRORS = {kind.__name__: kind for kind in (ValueError, OSError, ImportError)}


def _run_in_tensorflow(function, **arguments):
    """Call a function of this module in a process with the TensorFlow backend.

    Raises:
        ValueError, OSError, ImportError: raised again with the message from there.
        OSError: if the process is killed.
        RuntimeError: with the traceback of any other error, or if the process fails.
    """
    from keras_qkformer.models.preset import FAMILIES

    stage("starting a TensorFlow process, which exports")
    request = {
        "function": function.__name__,
        "arguments": arguments,
        "trust": is_trusting(),
        "command": sys.argv,
        "user_modules": user_modules(f.backbone for f in FAMILIES.values()),
    }
    environment = module_environment(KERAS_BACKEND="tensorflow")
    answer = ask_process(module_command(__name__), environment, request)
    for text in answer.get("warnings", []):
        warnings.warn(text, IntegrityWarning, stacklevel=3)
    if "error" in answer:
        error = answer["error"]
        raise _ERRORS.get(error["type"], RuntimeError)(error["message"])
    return answer["result"]


def _answer(request):
    """Answer a request of `_run_in_tensorflow`, in the TensorFlow process."""
    functions = {f.__name__: f for f in (export_saved_model, export_portable)}
    sys.argv = request["command"]  # The metadata names the user's command.
    try:
        for name, folder in request["user_modules"]:
            import_user_module(name, folder)
        with trusting(request["trust"]), warnings.catch_warnings(record=True) as caught:
            result = functions[request["function"]](**request["arguments"])
    except Exception as error:
        if is_mistake(error):
            name = next(n for n, kind in _ERRORS.items() if isinstance(error, kind))
            return {"error": {"type": name, "message": str(error)}}
        text = f"The export failed in its TensorFlow process:\n{traceback.format_exc()}"
        name = type(error).__name__
        name = "RuntimeError" if name in _ERRORS else name
        return {"error": {"type": name, "message": text}}
    told = [str(w.message) for w in caught if w.category is IntegrityWarning]
    result = str(result) if isinstance(result, Path) else result
    return {"result": result, "warnings": told}


if __name__ == "__main__":
    answer_parent(_answer)

"""A trained model as a SavedModel bundle for TF Serving, or as ONNX or LiteRT."""

import contextlib
import datetime
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.serving import EXAMPLES_FILE, METADATA_FILE
from keras_qkformer.training.callbacks import write_json

LABELS_FILE = "labels.txt"
BATCH_SIZES = (1, 2, 4, 8)
FORMATS = ("saved_model", "onnx", "litert")
# Inputs that go with a bundle, with the model's logits: those of a workdir, or noise.
_EXAMPLES = 8
_NOISE = 2


def export_saved_model(
    folder,
    out,
    weights="float32",
    batch_sizes=BATCH_SIZES,
    top=5,
    max_megapixels=25.0,
):
    """Write the next version of a model for TF Serving.

    Always made of plain TensorFlow operations: on another backend, a TensorFlow process
    does the work.

    Args:
        folder: str or path of a workdir or of a preset folder.
        out: str or path of the model's folder, such as `"saved_models/digits"`. The
            version is the next free number in it, and appears all at once.
        weights: `"float32"`, or how to round the weights of the convolutions:
            `"bfloat16"`, or `"int8"` with one scale per output channel.
        batch_sizes: ints > 0, growing. The sizes of a server that makes batches; each
            has its warm-up requests.
        top: int > 0. How many classes an answer names.
        max_megapixels: float > 0. Larger image files are refused undecoded.

    Returns:
        Path of the version, such as `saved_models/digits/1`.

    A model of images has the signatures

    - `serving_default`: `image_bytes`, string `(batch,)`: JPEG, PNG or WebP files.
      Decoding, resizing and normalization are inside;
    - `predict_lenient`: the same, with a `status` for every item;
    - `predict_pixels` and `predict_pixels_uint8`: `images`, float32 or uint8
      `(batch, height, width, channels)` of any size with values 0 to 255;

    and a model of event frames

    - `serving_default` and `predict_frames`: `frames`, float32
      `(batch, time, height, width, 2)` of counts, any size in pixels;
    - `predict_events`: `t`, int64, and `x`, `y`, `p`, int32, all `(batch, events)`,
      and `num_events`, int32 `(batch,)`, how many of each row count;
    - `predict_events_lenient`: the same, with a `status` for every item;
    - `stream`: one frame at a time, see `StreamingQKFormer`. It takes `frame`, float32
      `(batch, height, width, 2)`, and every tensor of the state under its name, and
      gives the answer for the frames so far, and the state for the next call under the
      same names. Before the first frame every tensor of the state is zero.

    See `ServedModel` for their answers. The version's folder `assets.extra` holds
    `metadata.json`, warm-up requests, and examples with the trained model's logits.

    Raises:
        ValueError: if there is no trained model, its predictions depend on their batch
            (`membrane_state="batch"`), or an argument is out of range.
    """
    from keras_qkformer.serving.signatures import WEIGHTS

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
    if keras.backend.backend() != "tensorflow":
        options = {
            "weights": weights,
            "batch-sizes": ",".join(map(str, batch_sizes)),
            "top": top,
            "max-megapixels": max_megapixels,
        }
        lines = _run_in_tensorflow_process(folder, out, options)
        return Path(lines[-1])
    from keras_qkformer.serving.server_files import write_server_files
    from keras_qkformer.serving.signatures import ServedModel
    from keras_qkformer.serving.warmup import write_warmup

    model, metadata = load_exportable(folder)
    examples = _examples(folder, model, metadata)
    served = ServedModel(model, metadata, weights, top, round(max_megapixels * 1e6))
    details = {
        **_details(folder, model, metadata),
        "weights": weights,
        "max_pixels": round(max_megapixels * 1e6),
        "batch_sizes": batch_sizes,
        "frames": served.frames,
        "signatures": {
            name: _describe(function) for name, function in served.signatures.items()
        },
        "examples": _compare(served, examples),
    }
    out = Path(out)
    name = out.resolve().name
    with _next_version(out) as (partial, publish):
        labels = partial / LABELS_FILE
        labels.write_text("".join(f"{x}\n" for x in metadata["class_names"]))
        saved = partial / "version"
        served.save(saved, labels)
        write_warmup(saved, name, served, batch_sizes)
        np.savez_compressed(saved / EXAMPLES_FILE, **examples)
        write_json(saved / METADATA_FILE, details)
        version = publish(saved)
    write_server_files(out, name, int(version.name), batch_sizes)
    return version


def export_portable(folder, out, format):
    """Write a model for another runtime and check it there.

    Args:
        folder: str or path of a workdir or of a preset folder.
        out: str or path of the folder to write, which must not exist.
        format: `"onnx"`: `model.onnx`, and for a model of event frames `stream.onnx`.
            `"litert"`: `model.tflite` with the signatures `model` and `stream`.

    Returns:
        Dict from `model` and `stream` to the largest difference of their logits, in
        that runtime on this CPU, from those of the trained model.

    The input `images` or `frames` is float32 of the size that the model sees, pixels
    from 0 to 255 or counts of events; the output is `logits`. The batch may have any
    size. See `ServedModel.portable` for the stream. Labels and metadata are in
    `metadata.json`.

    Raises:
        ValueError: if there is no trained model, its predictions depend on their batch,
            `out` exists, or the logits differ.
        ImportError: without the extra `onnx` or `litert`.
    """
    if format not in FORMATS[1:]:
        raise ValueError(f"format must be one of {FORMATS[1:]}. Received: {format!r}")
    out = Path(out)
    if out.exists():
        raise ValueError(
            f"The folder to write must not exist yet. Received: {str(out)!r}"
        )
    if keras.backend.backend() != "tensorflow":
        _run_in_tensorflow_process(folder, out, {"format": format})
        return json.loads((out / METADATA_FILE.name).read_text())["difference"]
    from keras_qkformer.serving import other_formats
    from keras_qkformer.serving.signatures import ServedModel

    model, metadata = load_exportable(folder)
    examples = _examples(folder, model, metadata)
    served = ServedModel(model, metadata)
    write = getattr(other_formats, f"write_{format}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        runs = write(served.portable(), partial)
        difference = other_formats.compare(runs, served, examples)
        details = {**_details(folder, model, metadata), "difference": difference}
        write_json(partial / METADATA_FILE.name, details)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return difference


def load_exportable(folder):
    """The best model of a workdir, or of a preset folder, and its metadata.

    Raises:
        ValueError: if there is none, or a prediction depends on its batch.
    """
    from keras_qkformer.training.fit import load_best

    model, metadata = load_best(folder)
    check_exportable(model)
    return model, metadata


def check_exportable(model):
    """Raise `ValueError` if a prediction of the model depends on its batch."""
    state = model.backbone.membrane_state
    if state != "sample":
        raise ValueError(
            "A model must keep every sample's state to itself to be exported. "
            f"Received: membrane_state={state!r}"
        )


def _examples(folder, model, metadata):
    """Inputs as the source has them and the model's logits, before anything changes.

    The logits that `fit` has kept are there too, as `trained`: they come from another
    backend perhaps, and from images before these were brought to one size.
    """
    from keras_qkformer.data.preprocess import preprocess
    from keras_qkformer.serving.signatures import frame_options
    from keras_qkformer.training.fit import EXAMPLES_FILE as KEPT

    path = Path(folder) / KEPT
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
            sensor_size = frame_options(metadata, model.backbone)["sensor_size"]
            time_steps, channels = model.input_shape[1], model.input_shape[-1]
            shape = (_NOISE, time_steps, *sensor_size, channels)
            examples = {"images": _noise_frames(draw, shape)}
    inputs = preprocess(examples["images"], **metadata["preprocessing"])
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


def _compare(served, examples):
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


def _details(folder, model, metadata):
    """What a bundle says about where it comes from."""
    import tensorflow as tf

    from keras_qkformer.models import count_parameters
    from keras_qkformer.models.preset_files import WEIGHTS_FILE, file_digest
    from keras_qkformer.training.fit import BEST_FOLDER, RESULTS_FILE, provenance

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


def _describe(function):
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
def _next_version(out):
    """A folder to write in, and a function that makes a part of it the next version."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"partial-{os.getpid()}"
    partial.mkdir()

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

    try:
        yield partial, publish
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_in_tensorflow_process(folder, out, options):
    """The lines that the command `export` prints under TensorFlow."""
    command = [sys.executable, "-m", "keras_qkformer", "export", str(folder)]
    for name, value in {"out": out, **options}.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(
        command,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 2:
        raise ValueError(done.stderr.strip().splitlines()[-1].partition("error: ")[2])
    if done.returncode:
        raise RuntimeError(f"The export failed:\n{done.stderr}")
    return done.stdout.strip().splitlines()

"""A trained model as a SavedModel bundle for TF Serving, or as ONNX or LiteRT."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.files import beside, write_json
from keras_qkformer.serving import EXAMPLES_FILE, METADATA_FILE
from keras_qkformer.serving.bundle import (
    LABELS_FILE,
    compare_logits,
    describe,
    details_of,
    draw_examples,
    load_exportable,
    next_version,
)

BATCH_SIZES = (1, 2, 4, 8)
FORMATS = ("saved_model", "onnx", "litert")


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
    from keras_qkformer.serving.folding import WEIGHTS

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
    from keras_qkformer.serving.served_model import ServedModel
    from keras_qkformer.serving.server_files import write_server_files
    from keras_qkformer.serving.warmup import write_warmup

    trained = load_exportable(folder)
    model, metadata = trained.model, trained.metadata
    examples = draw_examples(folder, trained)
    served = ServedModel(model, metadata, weights, top, round(max_megapixels * 1e6))
    details = {
        **details_of(folder, model, metadata),
        "weights": weights,
        "max_pixels": round(max_megapixels * 1e6),
        "batch_sizes": batch_sizes,
        "frames": served.frames,
        "signatures": {
            name: describe(function) for name, function in served.signatures.items()
        },
        "examples": compare_logits(served, examples),
    }
    out = Path(out)
    name = out.resolve().name
    with next_version(out) as (saved, publish):
        labels = saved.with_name(LABELS_FILE)
        labels.write_text("".join(f"{x}\n" for x in metadata["class_names"]))
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
    from keras_qkformer.serving import portable
    from keras_qkformer.serving.served_model import ServedModel

    trained = load_exportable(folder)
    model, metadata = trained.model, trained.metadata
    examples = draw_examples(folder, trained)
    served = ServedModel(model, metadata)
    write = getattr(portable, f"write_{format}")
    with beside(out) as new:
        new.mkdir()
        runs = write(served.portable(), new)
        difference = portable.compare(runs, served, examples)
        details = {**details_of(folder, model, metadata), "difference": difference}
        write_json(new / METADATA_FILE.name, details)
        new.rename(out)
    return difference


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

"""Measures our exports in a process without Keras, which only loads and predicts.

Another process makes what is measured: a preset's model with random weights, but
neurons that fire, in `FOLDER/export`, and random inputs in `FOLDER/inputs.npy`:

    python -m benchmarks.exports PRESET FORMAT WEIGHTS BATCH FOLDER
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import from_ends, resident_mb

# Format and weights of each subject.
FORMATS = {
    "ours-saved-model": ("saved_model", "float32"),
    "ours-openvino": ("openvino", "float32"),
    "ours-openvino-int8": ("openvino", "int8"),
}


def served(case, subject, steps, memory):
    """Yield the record of inference by an export.

    Its memory is that of loading and predicting; `resident_mb` is what the process
    holds after the last call.
    """
    batch = case.sizes["batch"]
    chosen = FORMATS[subject.name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.exports", case.sizes["preset"]]
        command += [*chosen, str(batch), folder]
        subprocess.run(command, check=True, stdout=sys.stderr)
        x = np.load(f"{folder}/inputs.npy")
        memory.start()
        answer = _LOADERS[chosen[0]](Path(folder) / "export")
        ends = [time.perf_counter()]
        for _ in range(steps + 2):
            answer(x)
            ends.append(time.perf_counter())
        record = from_ends(ends, memory)
    held = {"resident_mb": resident_mb()}
    yield {"task": "inference", "batch": batch, **held, **record}


model = served  # In a case that also compares what is not exported.


def _load_saved_model(folder):
    import tensorflow as tf

    (version,) = folder.glob("[0-9]*")
    signatures = tf.saved_model.load(str(version)).signatures
    names = "predict_pixels", "predict_frames"
    (answer,) = (signatures[name] for name in names if name in signatures)
    ((name, _),) = answer.structured_input_signature[1].items()
    return lambda x: answer(**{name: tf.constant(x)})["logits"].numpy()


def _load_openvino(folder):
    from keras_qkformer.serving.openvino_runtime import Run

    run = Run(folder / "model.xml")
    ((name, _),) = run.inputs.items()
    return lambda x: run({name: x})["logits"]


_LOADERS = {"saved_model": _load_saved_model, "openvino": _load_openvino}


def make(preset, format, weights, batch, folder):
    """Write an export, and inputs for it.

    Args:
        preset: str. Name in `PRESETS`.
        format: `"saved_model"` or `"openvino"`.
        weights: str. Type in which to store the weights.
        batch: int > 0. Number of inputs.
        folder: str or path of an existing folder.
    """
    import keras

    from keras_qkformer.models import SpikingClassifier
    from keras_qkformer.serving.export import export_portable, export_saved_model

    keras.utils.set_random_seed(0)
    classifier = SpikingClassifier.from_preset(preset)
    *_, channels = shape = classifier.input_shape[1:]
    classifier.calibrate(np.random.default_rng(1).random((2, *shape), "float32"))
    metadata = {
        "class_names": [str(i) for i in range(classifier.num_classes)],
        "preprocessing": {
            "image_size": classifier.backbone.image_size,
            "mean": [0.0] * channels,
            "std": [1.0] * channels,
            "max_value": 1.0,
        },
    }
    folder = Path(folder)
    classifier.save_to_preset(folder / "preset", metadata)
    if format == "saved_model":
        export_saved_model(folder / "preset", folder / "export", weights)
    else:
        export_portable(folder / "preset", folder / "export", format, weights)
    x = np.random.default_rng(0).random((batch, *shape), "float32")
    np.save(folder / "inputs.npy", x)


if __name__ == "__main__":
    *_chosen, _batch, _folder = sys.argv[1:]
    make(*_chosen, int(_batch), _folder)

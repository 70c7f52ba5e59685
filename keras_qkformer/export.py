"""A trained model as a SavedModel that plain TensorFlow and TF Serving run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras


def export_saved_model(folder, out):
    """Write the next version of a model for TF Serving.

    Always made of plain TensorFlow operations: on another backend, a TensorFlow process
    does the work.

    Args:
        folder: str or path of a workdir or of a preset folder.
        out: str or path of the model's folder, such as `"saved_models/digits"`. The
            version is the next free number in it, and appears all at once.

    Returns:
        Path of the version, such as `saved_models/digits/1`.

    The signature `serving_default` takes `images`, float32
    `(batch, height, width, channels)` of any size with values 0 to 255 (for a model of
    event frames `frames`, float32 `(batch, time, height, width, 2)` of counts), and
    gives `logits` and `probabilities`, float32 `(batch, classes)`, and `class_ids`,
    int64 `(batch,)`.

    A model of event frames has the signature `stream` too, for one frame at a time, see
    `StreamingQKFormer`. It takes `frame`, float32 `(batch, height, width, 2)`, and
    every tensor of the state under its name; it gives the three answers for the frames
    so far, and the state for the next call under the same names. Before the first frame
    every tensor of the state is zero.

    Raises:
        ValueError: if there is no trained model, or its predictions depend on their
            batch (`membrane_state="batch"`).
    """
    if keras.backend.backend() != "tensorflow":
        return _export_in_tensorflow_process(folder, out)
    import tensorflow as tf

    from keras_qkformer.data.pipelines import preprocess
    from keras_qkformer.models import StreamingQKFormer
    from keras_qkformer.training.fit import load_best

    model, metadata = load_best(folder)
    check_exportable(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    backbone = model.backbone
    if backbone.static:
        name, shape = "images", (None, None, None, backbone.in_channels)
    else:
        name, shape = "frames", (None, *backbone.input_shape[1:])

    def answers(logits):
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class_ids": tf.argmax(logits, -1),
        }

    def serve(pixels):
        if backbone.static:
            pixels = preprocess(pixels, **metadata["preprocessing"])
        return answers(model(pixels, training=False))

    archive.add_endpoint(
        "serving_default", serve, [tf.TensorSpec(shape, tf.float32, name=name)]
    )
    if not backbone.static:
        stream = StreamingQKFormer(model)

        def serve_step(inputs):
            state = {name: inputs[name] for name in stream.state_spec}
            logits, state = stream(inputs["frame"], state)
            return {**answers(logits), **state}

        specs = {
            name: tf.TensorSpec((None, *entry.shape), entry.dtype, name=name)
            for name, entry in stream.state_spec.items()
        }
        specs["frame"] = tf.TensorSpec((None, *shape[2:]), tf.float32, name="frame")
        archive.add_endpoint("stream", serve_step, [specs])
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"partial-{os.getpid()}"
    try:
        archive.write_out(str(partial), verbose=False)
        while True:
            version = out / str(_next_version(out))
            try:
                # The rename is what makes it appear: TF Serving polls the folder.
                partial.rename(version)
                return version
            except OSError:
                if not version.exists():
                    raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_exportable(model):
    """Raise `ValueError` if a prediction of the model depends on its batch."""
    state = model.backbone.membrane_state
    if state != "sample":
        raise ValueError(
            "A model must keep every sample's state to itself to be exported. "
            f"Received: membrane_state={state!r}"
        )


def _next_version(out):
    versions = [int(path.name) for path in out.iterdir() if path.name.isdecimal()]
    return max(versions, default=0) + 1


def _export_in_tensorflow_process(folder, out):
    command = [sys.executable, "-m", "keras_qkformer", "export", str(folder)]
    done = subprocess.run(
        [*command, "--out", str(out)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 2:
        raise ValueError(done.stderr.strip().splitlines()[-1].partition("error: ")[2])
    if done.returncode:
        raise RuntimeError(f"The export failed:\n{done.stderr}")
    return Path(done.stdout.strip().splitlines()[-1])

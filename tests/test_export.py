"""SavedModels: the same answers in plain TensorFlow, and what is refused."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import settle

from keras_qkformer.export import check_exportable, export_saved_model
from keras_qkformer.models import QKFormerClassifier, StreamingQKFormer

ASK = """
import sys
sys.modules["keras"] = sys.modules["keras_qkformer"] = None
import numpy as np, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures[sys.argv[4]]
inputs = np.load(sys.argv[2])["inputs"]
(name,) = serve.structured_input_signature[1]
answers = {}
for n in (1, 3, len(inputs)):
    for key, value in serve(**{name: tf.constant(inputs[:n])}).items():
        answers[f"{n}/{key}"] = value.numpy()
    answers[f"{n}/labels"] = answers[f"{n}/labels"].astype(bytes)
np.savez(sys.argv[3], **answers)
"""


def save_preset(folder, **arguments):
    """A preset folder of a model with settled statistics, and the model."""
    values = dict(embed_dim=16, num_heads=2, time_steps=2)
    model = QKFormerClassifier.from_preset("qkformer_tiny", **{**values, **arguments})
    settle(model)
    if model.backbone.static:
        values = {"mean": [0.3], "std": [0.5], "max_value": 255.0}
    else:  # Counts stay what they are.
        values = {"mean": [0.0, 0.0], "std": [1.0, 1.0], "max_value": 1.0}
    metadata = {
        "class_names": [str(i) for i in range(10)],
        "preprocessing": {"image_size": list(model.backbone.image_size), **values},
    }
    model.save_to_preset(folder, metadata)
    return model


def ask(version, inputs, folder, signature, script=ASK):
    """Answers in a process that has neither keras nor keras_qkformer."""
    np.savez(folder / "inputs.npz", inputs=inputs)
    subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            str(version),
            folder / "inputs.npz",
            folder / "answers.npz",
            signature,
        ],
        check=True,
        timeout=120,
    )
    return np.load(folder / "answers.npz")


def test_images_get_the_same_logits_in_plain_tensorflow(tmp_path):
    model = save_preset(tmp_path / "preset")
    version = export_saved_model(tmp_path / "preset", tmp_path / "served")
    assert version == tmp_path / "served" / "1"
    images = np.random.default_rng(1).integers(0, 256, (64, 8, 8, 1)).astype("float32")
    answers = ask(version, images, tmp_path, "predict_pixels")
    expected = model.predict((images / 255 - 0.3) / 0.5, verbose=0)
    probabilities = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    for n in (1, 3, 64):
        np.testing.assert_allclose(answers[f"{n}/logits"], expected[:n], atol=1e-5)
        scores, class_ids = answers[f"{n}/scores"], answers[f"{n}/class_ids"]
        assert scores.shape == class_ids.shape == (n, 5)
        np.testing.assert_array_equal(class_ids[:, 0], expected[:n].argmax(-1))
        np.testing.assert_allclose(
            scores, np.take_along_axis(probabilities[:n], class_ids, 1), atol=1e-5
        )
        assert (np.diff(scores) <= 0).all()
        names = [[int(name) for name in row] for row in answers[f"{n}/labels"]]
        np.testing.assert_array_equal(names, class_ids)


def test_event_frames_are_served_as_they_are(tmp_path):
    model = save_preset(
        tmp_path / "preset", static=False, in_channels=2, family="cifar"
    )
    version = export_saved_model(tmp_path / "preset", tmp_path / "served")
    frames = np.random.default_rng(1).poisson(1.0, (5, 2, 8, 8, 2)).astype("float32")
    answers = ask(version, frames, tmp_path, "predict_frames")
    expected = model.predict(frames, verbose=0)
    np.testing.assert_allclose(answers["5/logits"], expected, atol=1e-5)


STREAM = """
import sys
sys.modules["keras"] = sys.modules["keras_qkformer"] = None
import numpy as np, tensorflow as tf
step = tf.saved_model.load(sys.argv[1]).signatures["stream"]
specs = step.structured_input_signature[1]
frames = np.load(sys.argv[2])["inputs"]
state = {
    name: tf.zeros((frames.shape[1], *spec.shape[1:]), spec.dtype)
    for name, spec in specs.items()
    if name != "frame"
}
answers = {}
for i, frame in enumerate(frames):
    said = step(frame=tf.constant(frame), **state)
    state = {name: said[name] for name in state}
    answers |= {f"{i}/{k}": v for k, v in said.items() if k != "labels"}
np.savez(sys.argv[3], **answers)
"""


def test_event_frames_are_served_one_at_a_time_too(tmp_path):
    model = save_preset(
        tmp_path / "preset", static=False, in_channels=2, family="cifar"
    )
    version = export_saved_model(tmp_path / "preset", tmp_path / "served")
    frames = np.random.default_rng(1).poisson(1.0, (4, 3, 8, 8, 2)).astype("float32")
    answers = ask(version, frames, tmp_path, "stream", STREAM)
    expected = model.predict(np.swapaxes(frames[:2], 0, 1), verbose=0)
    np.testing.assert_allclose(answers["1/logits"], expected, atol=1e-5)
    stream = StreamingQKFormer(model)
    state = stream.initial_state(3)
    for frame in frames:
        logits, state = stream(frame, state)
    np.testing.assert_allclose(answers["3/logits"], to_numpy(logits), atol=1e-5)
    np.testing.assert_array_equal(
        answers["3/class_ids"][:, 0], answers["3/logits"].argmax(-1)
    )
    for name, value in state.items():
        np.testing.assert_allclose(answers[f"3/{name}"], to_numpy(value), atol=1e-5)


def test_versions_count_up_and_nothing_else_is_left(tmp_path):
    save_preset(tmp_path / "preset")
    (tmp_path / "served" / "7").mkdir(parents=True)
    assert export_saved_model(tmp_path / "preset", tmp_path / "served").name == "8"
    assert {path.name for path in (tmp_path / "served").iterdir()} == {
        "7",
        "8",
        "server",
    }


def test_state_that_runs_through_the_batch_is_refused(tmp_path):
    save_preset(tmp_path / "preset")
    config = tmp_path / "preset" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "membrane_state": "batch"}))
    if keras.backend.backend() == "tensorflow":
        with (
            pytest.warns(UserWarning, match="a defect of the authors' code"),
            pytest.raises(ValueError, match="Received: membrane_state='batch'"),
        ):
            export_saved_model(tmp_path / "preset", tmp_path / "served")
    else:  # Another process does the work and warns there.
        with pytest.raises(ValueError, match="Received: membrane_state='batch'"):
            export_saved_model(tmp_path / "preset", tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_default_state_may_be_exported():
    check_exportable(QKFormerClassifier.from_preset("qkformer_tiny"))


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="A trained model must be a workdir"):
        export_saved_model(tmp_path, tmp_path / "served")

"""Training on recordings of an event camera, from files to accuracy."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from fake_recordings import make_classes
from saved_presets import shallow_preset

from keras_qkformer.data import source
from keras_qkformer.data.examples import Examples
from keras_qkformer.trained import load_trained
from keras_qkformer.training import evaluate as training_evaluate
from keras_qkformer.training import losses, setup
from keras_qkformer.training.checkpoint import Checkpoint
from keras_qkformer.training.evaluate import evaluate, predict_split
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import (
    Data,
    EventAugmentation,
    Optimizer,
    Recipe,
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for split, count in (("train", 12), ("test", 4)):
        make_classes(folder / split, ["left", "right"], count=count, sensor=16)
    return Recipe(
        preset=shallow_preset(image_size=16, in_channels=2, static=False),
        model={"num_classes": 2, "dropout": 0.2},
        data=Data(
            name="recordings",
            data_dir=str(folder),
            sensor_size=(16, 16),
            train="train[:18]",
            validation="train[18:]",
            test="test",
            batch_size=6,
            event_augmentation=EventAugmentation(flip="none", mixup_off_epoch=2),
        ),
        optimizer=Optimizer(epochs=2, cooldown_epochs=1, learning_rate=1e-2),
        label_smoothing=0.1,
        seed=3,
    )


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, fit(recipe, workdir, verbose=0)


def test_event_model_trains_and_evaluates(finished):
    workdir, results = finished
    assert results["test"]["examples"] == 8
    assert len(results["history"]["loss"]) == 3  # With the cool-down.
    assert np.isfinite(results["history"]["loss"]).all()
    assert evaluate(workdir) == results["test"]
    metadata = load_trained(workdir).metadata
    assert metadata["class_names"] == ["left", "right"]
    assert metadata["preprocessing"]["max_value"] == 1.0
    frames = np.load(workdir / "examples.npz")["images"]
    assert frames.shape == (8, 2, 16, 16, 2)
    assert (frames.sum((1, 2, 3, 4)) == 400).all()  # Every event is counted.


def test_only_the_first_inputs_are_kept_in_predictions(finished, monkeypatch):
    monkeypatch.setattr(training_evaluate, "EXAMPLES", 3)
    predictions = predict_split(finished[0])
    assert {k: len(v) for k, v in predictions.items()} == {
        "images": 3,
        "labels": 8,
        "logits": 8,
    }


def test_resumed_training_from_files_equals_one_from_memory(
    recipe, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(source, "IN_MEMORY_BYTES", 0)
    on_epoch_end = Checkpoint.on_epoch_end

    def interrupt(checkpoint, epoch, logs=None):
        on_epoch_end(checkpoint, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, tmp_path / "run", verbose=0)
    results = fit(recipe, tmp_path / "run", verbose=0)
    for name, values in finished[1]["history"].items():
        np.testing.assert_allclose(results["history"][name], values, rtol=1e-5)


@pytest.mark.backend_independent
def test_frames_and_smoothed_labels_of_training_are_those_of_the_recording(recipe):
    """Where nothing is augmented; the statistics are unequal per channel."""
    still = EventAugmentation(flip="none", operations=False, mixup_probability=0.0)
    data = dataclasses.replace(
        recipe.data, event_augmentation=still, mean=(0.5, 2.0), std=(0.25, 4.0)
    )
    recipe = dataclasses.replace(recipe, data=data, label_smoothing=0.3)
    _, examples = setup.prepare_training(recipe)
    frames, classes = examples.train
    wanted = (np.asarray(frames) - data.mean) / data.std
    batches = examples.training(first_epoch=0, epochs=1).as_numpy_iterator()
    inputs, labels = map(np.concatenate, zip(*batches, strict=True))
    assert inputs.shape == (18, 2, 16, 16, 2)
    found = [int(abs(x - wanted).max((1, 2, 3, 4)).argmin()) for x in inputs]
    assert sorted(found) == list(range(18))
    np.testing.assert_allclose(inputs, wanted[found], rtol=1e-5, atol=1e-5)
    targets = 0.7 * np.eye(2)[classes[found]] + 0.3 / 2
    np.testing.assert_allclose(labels, targets, atol=1e-6)


def test_augmentation_may_give_probabilities_as_labels(recipe, tmp_path, monkeypatch):
    import tensorflow as tf

    def mix(inputs, labels, seed):
        labels = tf.one_hot(labels, 2)
        return (inputs + inputs[::-1]) / 2, (labels + labels[::-1]) / 2

    monkeypatch.setattr(Examples, "augmentation", lambda examples: mix)
    short = dataclasses.replace(
        recipe, max_steps=2, optimizer=Optimizer(epochs=1, learning_rate=1e-2)
    )
    history = fit(short, tmp_path / "run", verbose=0)["history"]
    assert np.isfinite(history["loss"]).all()
    assert 0 <= history["accuracy"][0] <= 1
    assert json.loads((tmp_path / "run" / "results.json").read_text())


@pytest.mark.parametrize(("epoch", "mixed"), [(1, True), (2, False)])
def test_labels_are_smoothed_once_and_mixed_until_the_epoch(recipe, epoch, mixed):
    sure = dataclasses.replace(recipe.data.event_augmentation, mixup_probability=1.0)
    always = dataclasses.replace(
        recipe, data=dataclasses.replace(recipe.data, event_augmentation=sure)
    )
    _, examples = setup.prepare_training(always)
    augment = examples.augmentation()
    frames = np.ones((2, 2, 16, 16, 2), "float32")
    labels = augment(frames, [0, 1], (3, 7), epoch=epoch)[1].numpy()
    smoothed = np.array([[0.95, 0.05], [0.05, 0.95]], "float32")
    share = (labels[0, 0] - 0.05) / 0.9
    assert (0 < share < 1) == mixed
    expected = share * smoothed + (1 - share) * smoothed[::-1]
    np.testing.assert_allclose(labels, expected, rtol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_of_probabilities_is_the_cross_entropy(label_smoothing):
    loss = losses.make_loss(label_smoothing, 3)
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]], "float32")
    logs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    soft = np.array([[0.5, 0.25, 0.25], [0.0, 0.1, 0.9]], "float32")
    given = keras.ops.convert_to_numpy(
        keras.ops.mean(loss(keras.ops.array(soft), keras.ops.array(logits)))
    )
    np.testing.assert_allclose(given, -(soft * logs).sum(-1).mean(), rtol=1e-5)
    smoothed = np.eye(3)[[0, 2]] * (1 - label_smoothing) + label_smoothing / 3
    for labels in (np.array([0, 2]), np.array([[0], [2]])):
        given = keras.ops.convert_to_numpy(
            keras.ops.mean(loss(keras.ops.array(labels), keras.ops.array(logits)))
        )
        np.testing.assert_allclose(given, -(smoothed * logs).sum(-1).mean(), rtol=1e-5)
    accuracy = losses.accuracy(keras.ops.array(soft), keras.ops.array(logits))
    assert keras.ops.convert_to_numpy(accuracy).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"max_shift": 0.1}, "are for images, not for event frames"),
        (
            {"event_augmentation": EventAugmentation(flip="gestures")},
            "^flip='gestures' swaps .* Received: 2 classes",
        ),
        ({"name": "digits", "data_dir": None, "sensor_size": None}, "10 classes"),
        ({"data_dir": "none"}, "must be a folder with recordings"),
        ({"train": "trian"}, r"A split must be one of \['test', 'train'\]"),
    ],
)
def test_mistake_about_events_leaves_no_workdir(recipe, tmp_path, changes, rule):
    wrong = dataclasses.replace(
        recipe, data=dataclasses.replace(recipe.data, **changes)
    )
    with pytest.raises(ValueError, match=rule):
        fit(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_event_augmentation_of_images_is_refused(recipe, tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    data = Data(
        name="digits",
        train="train",
        validation="test",
        test="test",
        batch_size=8,
        event_augmentation=EventAugmentation(flip="none"),
    )
    wrong = dataclasses.replace(recipe, preset="qkformer_tiny", model={}, data=data)
    with pytest.raises(ValueError, match="is for event frames, not for images"):
        fit(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_for_an_event_model_are_refused(recipe, tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    data = Data(
        name="digits", train="train", validation="test", test="test", batch_size=8
    )
    wrong = dataclasses.replace(
        recipe, data=data, model={**recipe.model, "num_classes": 10}
    )
    with pytest.raises(ValueError, match=r"The model takes inputs \(2, 16, 16, 2\)"):
        fit(wrong, tmp_path / "run")

"""What ends a training, and which epoch is kept."""

import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.models import QKFormerClassifier
from keras_qkformer.trained import load_trained
from keras_qkformer.training import tensorboard
from keras_qkformer.training.callbacks import (
    StopAtNonFinite,
    StopBetweenSteps,
    Terminated,
)
from keras_qkformer.training.checkpoint import Checkpoint
from keras_qkformer.training.tensorboard import Logs, Pictures


def test_statistics_that_are_not_finite_end_training_with_the_epoch(tmp_path):
    """No gradient carries them to the first kernel, the only one of every batch."""
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2), keras.layers.BatchNormalization()]
    )

    def batches(epoch):
        inputs = np.full((6, 2), epoch, "float32")
        return tf.data.Dataset.from_tensor_slices((inputs, range(6))).batch(2)

    stop = StopAtNonFinite(tmp_path, batches)
    stop.set_model(model)
    stop.on_epoch_begin(3)
    for batch in range(3):
        stop.on_train_batch_end(batch, {"loss": 1.0})
    stop.on_epoch_end(3)
    model.layers[-1].moving_variance.assign([1.0, np.inf])
    stop.on_train_batch_end(2, {"loss": 1.0})
    rule = r"moving_variance with NaN or infinity after batch 3 of epoch 4"
    with pytest.raises(ValueError, match=rule):
        stop.on_epoch_end(3)
    with np.load(tmp_path / "not_finite.npz") as kept:
        assert (kept["epoch"], kept["batch"]) == (3, 2)
        assert (kept["inputs"] == 3).all()
        assert kept["labels"].tolist() == [[2, 3], [4, 5]]


EPOCHS = (
    # Accuracy, loss, and the best epoch after this one.
    (0.5, 2.0, 1),
    (0.5, 1.0, 2),
    (0.5, 1.5, 2),
    (0.25, 0.1, 2),
    (0.5, 1.0, 2),
    (0.75, 9.0, 6),
)


def test_epoch_of_highest_accuracy_is_kept_and_of_equal_ones_that_of_lower_loss(
    tmp_path,
):
    model = QKFormerClassifier.from_preset(
        "qkformer_tiny", embed_dim=16, num_heads=2, time_steps=2
    )
    model.compile(keras.optimizers.SGD())
    preprocessing = Preprocessing((8, 8), (0,), (1,)).to_dict()
    checkpoint = Checkpoint(
        tmp_path, {"class_names": list("0123456789"), "preprocessing": preprocessing}
    )
    checkpoint.set_model(model)
    for epoch, (accuracy, loss, best) in enumerate(EPOCHS):
        model.weights[-1].assign(np.full(model.weights[-1].shape, epoch + 1))
        checkpoint.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
        assert checkpoint.best == {
            "epoch": best,
            "val_accuracy": EPOCHS[best - 1][0],
            "val_loss": EPOCHS[best - 1][1],
        }
        metadata = json.loads((tmp_path / "best" / "metadata.json").read_text())
        assert metadata["epoch"] == best
    kept = load_trained(tmp_path).model
    np.testing.assert_array_equal(np.array(kept.weights[-1]), 6)


def steps(stop, seen):
    """Two epochs of two training and two validation batches, as Keras calls them."""
    stop.set_params({"steps": 2})
    for epoch in range(2):
        for batch in range(2):
            seen.append(f"train {epoch}.{batch}")
            yield
            stop.on_train_batch_end(batch)
        for batch in range(2):
            seen.append(f"test {epoch}.{batch}")
            yield
            stop.on_test_batch_end(batch)
        stop.on_epoch_end(epoch)


@pytest.mark.backend_independent
def test_full_disk_under_the_logs_is_no_bug_of_ours(tmp_path, monkeypatch):
    """As TensorFlow tells it; the graph does not exist in which it was raised."""

    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    rule = "logs could not be written; .*: No space left on device"
    logs = Logs(tmp_path / "logs", write_graph=False)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd")
    logs.set_model(model)
    for module in (logs.summary, tf.summary):  # Two objects.
        monkeypatch.setattr(module, "scalar", full)
    logs.on_train_begin()
    with pytest.raises(OSError, match=rule):
        logs.on_epoch_end(0, {"loss": 1.0})
    with pytest.raises(OSError, match=rule):
        logs.on_test_end({"loss": 1.0})
    images = np.zeros((4, 8, 8, 1), "float32")
    batches = tf.data.Dataset.from_tensors((images, np.zeros(4)))
    pictures = Pictures(
        tmp_path / "new" / "logs", images, batches, Preprocessing((8, 8), (0,), (1,))
    )
    monkeypatch.setattr(tensorboard, "firing_rate_model", lambda model: Rates())
    monkeypatch.setattr(tf.summary, "image", full)
    with pytest.raises(OSError, match=rule):
        pictures.on_epoch_begin(0)
    with pytest.raises(OSError, match=rule):
        pictures.on_epoch_end(0)


class Rates:
    def predict(self, examples, verbose):
        return {"unit": np.zeros(4)}


@pytest.mark.backend_independent
def test_a_resumed_training_goes_on_in_tensorboard(tmp_path, monkeypatch):
    """Epochs and steps count on from 1; images are there once."""
    monkeypatch.setattr(tensorboard, "firing_rate_model", lambda model: Rates())
    images = np.zeros((4, 8, 8, 1), "float32")
    batches = tf.data.Dataset.from_tensors((images, np.zeros(4)))
    preprocessing = Preprocessing((8, 8), (0,), (1,))
    for epoch in range(2):
        pictures = Pictures(tmp_path / "train", images, batches, preprocessing)
        pictures.set_params({"steps": 2})
        pictures.on_epoch_begin(epoch)
        for batch in range(2):
            pictures.on_train_batch_end(batch, {"loss": 1.5})
        pictures.on_epoch_end(epoch)
        pictures.on_train_end()
    found = {}
    for path in sorted((tmp_path / "train").iterdir()):
        events = EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            found.setdefault(tag, []).extend(e.step for e in events.Tensors(tag))
    assert {tag: sorted(steps) for tag, steps in found.items()} == {
        "augmented": [1],
        "loss_of_step": [1, 2, 3, 4],
        "firing_rate/unit": [1, 2],
    }


@pytest.mark.backend_independent
def test_losses_of_steps_in_tensorboard_are_no_means_of_the_epoch(
    tmp_path, monkeypatch
):
    """A loss of 1, then of 4; of 100 steps every other is written, with that before."""
    monkeypatch.setattr(tensorboard, "firing_rate_model", lambda model: Rates())
    frames = np.zeros((4, 2, 8, 8, 2), "float32")
    pictures = Pictures(tmp_path, frames, None, Preprocessing((8, 8), (0, 0), (1, 1)))
    pictures.set_params({"steps": 100})
    losses = np.where(np.arange(100) < 50, 1.0, 4.0)
    for epoch in range(2):
        pictures.on_epoch_begin(epoch)
        for batch in range(100):
            mean = losses[: batch + 1].mean()  # As Keras has it.
            pictures.on_train_batch_end(batch, {"loss": mean})
    pictures.on_train_end()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    found = events.Tensors("loss_of_step")
    assert [e.step for e in found] == [*range(1, 200, 2)]
    values = [tf.make_ndarray(e.tensor_proto).item() for e in found]
    wanted = [1.0] * 25 + [2.5] + [4.0] * 24
    np.testing.assert_allclose(values, [*wanted, *wanted], rtol=1e-5)


CTRL_C, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.backend_independent
@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
@pytest.mark.parametrize(
    ("signals", "error", "last"),
    [
        ({"train 0.0": [CTRL_C]}, KeyboardInterrupt, "train 0.0"),
        ({"train 0.1": [CTRL_C]}, KeyboardInterrupt, "train 0.1"),
        ({"test 0.0": [CTRL_C]}, KeyboardInterrupt, "test 0.0"),
        ({"train 0.0": [TERM]}, Terminated, "train 0.0"),
        # The epoch's checkpoint can still be written.
        ({"train 0.1": [TERM]}, Terminated, "test 0.1"),
        ({"test 0.0": [TERM, TERM]}, Terminated, "test 0.1"),
        ({"test 1.1": [TERM]}, Terminated, "test 1.1"),
        # At once, wherever it comes.
        ({"train 0.1": [CTRL_C, CTRL_C]}, KeyboardInterrupt, "train 0.1"),
        ({"train 0.1": [CTRL_C, TERM]}, KeyboardInterrupt, "train 0.1"),
        ({"train 0.1": [TERM], "test 0.0": [CTRL_C]}, KeyboardInterrupt, "test 0.0"),
        ({}, None, "test 1.1"),
    ],
)
def test_signals_end_training_where_they_do_no_harm(signals, error, last):
    before = signal.getsignal(CTRL_C), signal.getsignal(TERM)
    seen, caught = [], None
    try:
        with StopBetweenSteps() as stop:
            for _ in steps(stop, seen):
                for number in signals.get(seen[-1], []):
                    signal.raise_signal(number)  # To this thread, so at once.
    except BaseException as raised:
        caught = raised
    assert (type(caught) if caught else None, seen[-1]) == (error, last)
    assert error is not Terminated or caught.code == 143
    assert (signal.getsignal(CTRL_C), signal.getsignal(TERM)) == before

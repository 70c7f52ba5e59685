"""The sweep of the learning rate: its rates, its losses, and when it ends."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qkformer.training import rate_finder
from keras_qkformer.training.rate_finder import find_rate, suggest_rate
from keras_qkformer.training.recipe import Data, Optimizer, Recipe, override

RECIPE = Recipe(
    preset="qkformer_tiny",
    data=Data(name="digits", train="a", validation="b", test="c", batch_size=4),
    optimizer=Optimizer(epochs=3, learning_rate=1e-3),
)


class Examples:
    """Batches of two classes that a line separates; each is larger than the last."""

    steps = 7

    def training(self, *, first_epoch, epochs):
        assert first_epoch == 0
        count = self.steps * epochs
        rows = np.random.default_rng(0).normal(size=(count, 4, 2)).astype("float32")
        labels = (rows[..., 0] > 0).astype("int64")
        return tf.data.Dataset.from_tensor_slices((rows, labels))

    def plain_errors(self):
        return contextlib.nullcontext()


@pytest.fixture
def seen(monkeypatch):
    """The rate and loss of each step, as the model saw them."""
    steps = []
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="zeros")]
    )
    model.num_classes = 2
    train_on_batch = model.train_on_batch

    def spy(x, y, **options):
        logits = np.array(model.predict_on_batch(x), "float64")
        losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(4), np.array(y)]
        steps.append((float(model.optimizer.learning_rate), losses.mean()))
        return train_on_batch(x, y, **options)

    model.train_on_batch = spy
    monkeypatch.setattr(
        rate_finder, "prepare_training", lambda recipe: (model, Examples())
    )
    return steps


def test_each_step_has_its_own_rate_and_the_loss_before_it(seen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rates, losses, suggestion = find_rate(RECIPE, steps=16)
    assert len(rates) == len(losses) == 16
    np.testing.assert_allclose(rates, np.geomspace(1e-5, 1, 16), rtol=1e-5)
    np.testing.assert_allclose([rate for rate, _ in seen], rates, rtol=1e-5)
    assert losses[0] == pytest.approx(np.log(2))
    np.testing.assert_allclose([loss for _, loss in seen], losses, rtol=1e-4)
    assert losses[-1] < 0.5  # It learned, on batches of three epochs.
    assert 1e-3 < suggestion <= 0.1
    assert not [*tmp_path.iterdir()]


def test_a_step_of_several_batches_has_one_rate_and_their_mean_loss(seen):
    several = override(RECIPE, ["optimizer.accumulation_steps=3"])
    rates, losses, _ = find_rate(several, steps=16)
    assert len(rates) == len(losses) == 16 and len(seen) == 3 * 16
    np.testing.assert_allclose(rates, np.geomspace(1e-5, 1, 16), rtol=1e-5)
    np.testing.assert_allclose([r for r, _ in seen], np.repeat(rates, 3), rtol=1e-5)
    of_step = np.reshape([loss for _, loss in seen], (16, 3)).mean(1)
    np.testing.assert_allclose(of_step, losses, rtol=1e-4)
    assert losses[-1] < 0.5


def test_a_sweep_ends_when_the_loss_diverges(seen, monkeypatch):
    monkeypatch.setattr(rate_finder, "HIGHEST", 1e9)
    rates, losses, suggestion = find_rate(RECIPE, steps=40)
    assert len(rates) == len(losses) < 40
    assert losses[-1] > 1 and suggestion < rates[-1] / 10


@pytest.mark.backend_independent
def test_a_plateau_does_not_move_the_suggestion():
    rates = np.geomspace(1e-5, 1, 101)  # 1e-2 is rate 60.
    losses = np.where(np.arange(101) < 60, 2.3, 0.9)
    losses[85:95] = 0.85
    # The average of ten steps needs some more than 20 steps to follow.
    assert rates[80] < 10 * suggest_rate(rates, losses) < rates[85]


@pytest.mark.backend_independent
@pytest.mark.parametrize("losses", [[], [2.0], [2.0, 2.5, 9.0]])
def test_a_loss_that_does_not_fall_has_no_rate_to_suggest(losses):
    with pytest.raises(ValueError, match=r"must fall.*Received: losses"):
        suggest_rate(np.geomspace(1e-5, 1, len(losses)), losses)

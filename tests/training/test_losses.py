"""Losses against NumPy in float64, with labels of every kind and with weights."""

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import compiled, random_inputs
from small_models import SMALL_MODELS

from keras_qkformer.training.losses import accuracy, make_loss

REGULARIZER = 0.3
LOGITS = np.random.default_rng(0).normal(size=(3, 4, 5))
LABELS = np.array([3, 0, 4])
PROBABILITIES = np.array(
    [[0, 0, 0, 0.75, 0.25], [1, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.2, 0.2]]
)


def tet_by_hand(targets, logits):
    """Losses `(batch,)` of probabilities and logits `(batch, time, classes)`."""
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    entropies = -(targets[:, None] * logs).sum(-1).mean(1)
    squares = ((logits - 1) ** 2).mean((1, 2))
    return (1 - REGULARIZER) * entropies + REGULARIZER * squares


@pytest.mark.parametrize(
    ("smoothing", "labels", "targets"),
    [
        (0.0, LABELS, np.eye(5)[LABELS]),
        (0.0, LABELS[:, None], np.eye(5)[LABELS]),
        (0.2, LABELS, 0.8 * np.eye(5)[LABELS] + 0.04),
        (0.2, PROBABILITIES, PROBABILITIES),  # Smoothed when they were mixed.
    ],
)
def test_loss_of_steps_is_that_of_temporal_efficient_training(
    float64, smoothing, labels, targets
):
    loss = make_loss(smoothing, 5, REGULARIZER)
    labels, logits = keras.ops.array(labels), keras.ops.array(LOGITS)
    expected = tet_by_hand(targets, LOGITS)
    np.testing.assert_allclose(to_numpy(loss(labels, logits)), expected, atol=1e-12)
    # In validation the model averages its logits, and so does the accuracy.
    mean = keras.ops.mean(logits, axis=1)
    plain = make_loss(smoothing, 5)
    np.testing.assert_array_equal(
        to_numpy(loss(labels, mean)), to_numpy(plain(labels, mean))
    )
    np.testing.assert_array_equal(
        to_numpy(accuracy(labels, logits)), to_numpy(accuracy(labels, mean))
    )


def test_model_trains_on_each_step_and_validates_on_their_mean():
    model = SMALL_MODELS["spike_driven_transformer"].make(depth=1)
    x, labels = random_inputs(model, batch=3), np.array([2, 0, 1])
    weights = np.array([1.0, 0.5, 2.0], "float32")
    model.trains_each_step = True
    steps = compiled(model, training=True)(x).astype("float64")
    assert steps.shape == (3, 2, 3)
    assert np.ptp(steps, axis=1).max() > 1e-3, "its steps are alike"
    model.compile(keras.optimizers.SGD(0.1), make_loss(0.0, 3, REGULARIZER))
    kernel = model.get_layer("head").get_weights()[0]
    losses = tet_by_hand(np.eye(3)[labels], steps)
    given = model.train_on_batch(x, labels, sample_weight=weights)
    np.testing.assert_allclose(given, np.mean(weights * losses), rtol=1e-5)
    learnt = model.get_layer("head").get_weights()[0] - kernel
    assert np.abs(learnt).max() > 1e-3
    logits = compiled(model)(x)
    assert logits.shape == (3, 3)
    np.testing.assert_allclose(
        model.test_on_batch(x, labels),
        to_numpy(make_loss(0.0, 3)(labels, logits)).mean(),
        rtol=1e-5,
    )

"""The learning rate by hand, and what decays."""

import keras
import numpy as np
import pytest

from keras_qkformer.training.optimizer import make_optimizer
from keras_qkformer.training.recipe import Optimizer


def make_model():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    )
    return model


def test_learning_rate_grows_linearly_and_falls_as_a_cosine():
    settings = Optimizer(
        epochs=6, learning_rate=1.0, min_learning_rate=0.2, warmup_epochs=2
    )
    schedule = make_optimizer(settings, make_model(), steps_per_epoch=5)._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 20, 30)]
    # Up to 1 in 10 steps; half way between 1 and 0.2 after 10 of the 20 others.
    np.testing.assert_allclose(rates, [0.0, 0.5, 1.0, 0.6, 0.2], atol=1e-6)


def test_learning_rate_starts_high_without_warm_up():
    settings = Optimizer(epochs=2, learning_rate=1.0)
    schedule = make_optimizer(settings, make_model(), steps_per_epoch=5)._learning_rate
    assert float(schedule(0)) == pytest.approx(1.0)
    assert float(schedule(10)) == pytest.approx(0.0, abs=1e-7)


def test_warm_up_starts_where_it_is_told_and_cool_down_stays_at_the_minimum():
    settings = Optimizer(
        epochs=6,
        learning_rate=1.0,
        min_learning_rate=0.2,
        warmup_epochs=2,
        warmup_learning_rate=0.4,
        cooldown_epochs=3,
    )
    schedule = make_optimizer(settings, make_model(), steps_per_epoch=5)._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 20, 30, 44)]
    np.testing.assert_allclose(rates, [0.4, 0.7, 1.0, 0.6, 0.2, 0.2], atol=1e-6)


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_learning_rate_by_epochs_is_that_of_timm(warmup_epochs):
    settings = Optimizer(
        epochs=6,
        learning_rate=1.0,
        min_learning_rate=0.2,
        warmup_epochs=warmup_epochs,
        warmup_learning_rate=0.1,
        cooldown_epochs=2,
        schedule="epoch",
    )
    optimizer = make_optimizer(settings, make_model(), steps_per_epoch=5)
    # 0.2 + 0.4 (1 + cos(30 t degrees)) in epoch t; the cool-down is epochs 6 and 7.
    expected = [1.0, 0.6 + 0.2 * 3**0.5, 0.8, 0.6, 0.4, 0.6 - 0.2 * 3**0.5, 0.2, 0.2]
    if warmup_epochs:
        expected[:2] = 0.1, 0.55  # In two epochs from 0.1 to 1, which is not reached.
    schedule = optimizer._learning_rate
    rates = [float(schedule(step)) for step in range(40)]
    np.testing.assert_allclose(rates, np.repeat(expected, 5), rtol=1e-6)
    optimizer.iterations.assign(29)
    np.testing.assert_allclose(float(optimizer.learning_rate), expected[5], rtol=1e-6)
    config = keras.saving.serialize_keras_object(schedule)
    same = keras.saving.deserialize_keras_object(config)
    assert same.get_config() == schedule.get_config()
    assert float(same(11)) == float(schedule(11))


def test_only_kernels_decay():
    model = make_model()
    settings = Optimizer(epochs=1, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(settings, model, steps_per_epoch=100)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    gradients = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients])
    after = {v.path.split("/")[-1]: np.array(v.numpy()) for v in model.weights}
    np.testing.assert_allclose(after["kernel"], 1 - 0.1 * 0.5, rtol=1e-5)
    for name in ("bias", "gamma", "beta"):
        np.testing.assert_array_equal(after[name], 1.0)

"""The learning rate by hand and by timm, what decays, and the average of weights."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_qkformer.training.optimizer import LayerwiseAdamW, make_optimizer
from keras_qkformer.training.recipe import Optimizer, load_recipe
from keras_qkformer.training.schedules import make_schedule
from keras_qkformer.training.weight_average import WeightAverage

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))


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
    optimizer.apply([ops.convert_to_tensor(g) for g in gradients])
    after = {v.path.split("/")[-1]: np.array(v.numpy()) for v in model.weights}
    np.testing.assert_allclose(after["kernel"], 1 - 0.1 * 0.5, rtol=1e-5)
    for name in ("bias", "gamma", "beta"):
        np.testing.assert_array_equal(after[name], 1.0)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_whole_curve_of_a_recipe_is_that_of_timm(path):
    golden = np.load(ROOT / "tests" / "golden" / "learning_rates.npz")
    schedule = make_schedule(
        load_recipe(path).optimizer, int(golden["steps_per_epoch"])
    )
    # Made by golden/make_learning_rates.py; rates are of float32.
    expected = golden[path.stem].astype("float32")
    rates = schedule(ops.arange(len(expected)))
    np.testing.assert_allclose(ops.convert_to_numpy(rates), expected, rtol=0, atol=1e-9)


def train(model, settings, inputs, labels, batch_size, steps_per_epoch=10):
    """Compile and train on all inputs once, in their order."""
    model.compile(make_optimizer(settings, model, steps_per_epoch), "mse")
    average = settings.average_decay and WeightAverage(
        model, settings.average_decay, settings.accumulation_steps
    )
    model.fit(inputs, labels, batch_size=batch_size, shuffle=False, verbose=0)
    return average


def weights_of(model):
    return {v.path.split("/")[-1]: np.array(v) for v in model.weights}


RNG = np.random.default_rng(0)
INPUTS, LABELS = RNG.normal(size=(12, 2)), RNG.normal(size=(12, 3))


def make_dense():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


def test_gradients_of_several_batches_make_one_step_and_the_schedule_counts_steps():
    whole, parts = make_dense(), make_dense()
    settings = {"epochs": 3, "learning_rate": 0.1, "warmup_epochs": 1.0}
    train(whole, Optimizer(**settings), INPUTS, LABELS, 4, 3)
    accumulating = Optimizer(**settings, accumulation_steps=2)
    train(parts, accumulating, INPUTS, LABELS, 2, 6)
    for name, expected in weights_of(whole).items():
        np.testing.assert_allclose(weights_of(parts)[name], expected, rtol=1e-5)
    one, two = (m.optimizer._learning_rate for m in (whole, parts))
    assert [float(two(n)) for n in range(18)] == [float(one(n // 2)) for n in range(18)]
    config = keras.saving.serialize_keras_object(two)
    assert float(keras.saving.deserialize_keras_object(config)(7)) == float(two(7))


def test_long_gradients_are_shortened_to_the_norm():
    model = make_dense()
    settings = Optimizer(epochs=1, learning_rate=0.1, clip_norm=0.5)
    optimizer = make_optimizer(settings, model, steps_per_epoch=1)
    gradients = [np.full((2, 3), 4.0, "float32"), np.full((3,), 8.0, "float32")]
    optimizer.apply([ops.convert_to_tensor(g) for g in gradients])
    norm = np.sqrt(6 * 16 + 3 * 64)
    first_moment = np.array(optimizer.variables[1])  # After that, 0.1 of the gradient.
    np.testing.assert_allclose(first_moment, 0.1 * 4 * 0.5 / norm, rtol=1e-5)


KERNEL = np.array([[1.0, -2.0, 0.5], [0.25, 4.0, -1.0]])
GRADIENTS = np.array([[[0.5, 1.0, -2.0], [0.0, -0.25, 3.0]]] * 2) * [[[1.0]], [[-0.5]]]


def two_steps(**settings):
    """The kernel and the bias of `make_dense` after two steps at a rate of 0.1."""
    model = make_dense()
    model.layers[0].set_weights([KERNEL, np.zeros(3)])
    settings = Optimizer(epochs=1, learning_rate=0.1, weight_decay=0.5, **settings)
    optimizer = make_optimizer(settings, model, steps_per_epoch=10**6)
    for gradient in GRADIENTS:
        bias = np.zeros(3, "float32")
        optimizer.apply([ops.array(gradient, "float32"), ops.array(bias)])
    return model.layers[0].get_weights()[0]


def test_lamb_takes_steps_as_long_as_the_weights():
    expected, moment, square = KERNEL, 0.0, 0.0
    for t, gradient in enumerate(GRADIENTS, 1):
        expected = expected * (1 - 0.1 * 0.5)
        moment = 0.9 * moment + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = moment / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-7)
        norm = np.linalg.norm
        expected = expected - 0.1 * norm(expected) / norm(step) * step
    np.testing.assert_allclose(two_steps(name="lamb"), expected, rtol=1e-4)


def test_sgd_keeps_its_momentum():
    expected, velocity = KERNEL, 0.0
    for gradient in GRADIENTS:
        velocity = 0.75 * velocity - 0.1 * gradient
        expected = expected * (1 - 0.1 * 0.5) + velocity
    kernel = two_steps(name="sgd", momentum=0.75)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"momentum": 0.9}, "momentum must be 0 unless the name is 'sgd'"),
        (
            {"name": "lamb", "layer_decay": 0.9},
            "layer_decay must be 1 unless the name is 'adamw'",
        ),
        ({"name": "adam"}, "'adamw', 'lamb' or 'sgd'"),
    ],
)
def test_settings_of_another_optimizer_are_an_error(settings, rule):
    with pytest.raises(ValueError, match=rule):
        Optimizer(epochs=1, learning_rate=0.1, **settings)


@pytest.mark.parametrize("name", ["lamb", "sgd"])
def test_optimizer_of_a_saved_model_goes_on(tmp_path, name):
    settings = Optimizer(
        name=name,
        momentum=0.9 if name == "sgd" else 0.0,
        epochs=5,
        learning_rate=0.1,
        weight_decay=0.05,
        accumulation_steps=2,
    )
    model, other = make_small(), make_small()
    train(model, settings, INPUTS, LABELS, 4)  # An odd number of batches.
    model.save_weights(tmp_path / "model.weights.h5")
    other.compile(make_optimizer(settings, other, 10), "mse")
    other.load_weights(tmp_path / "model.weights.h5")
    for each in (model, other):
        each.fit(INPUTS, LABELS, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))


def make_deep():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3, name=f"layer{i}") for i in range(3)]
    return keras.Sequential([keras.Input((2,)), *layers], name="deep")


def test_layers_learn_and_decay_the_slower_the_further_from_the_head():
    model = make_deep()
    settings = Optimizer(epochs=1, learning_rate=0.1, weight_decay=0.5, layer_decay=0.5)
    optimizer = make_optimizer(settings, model, steps_per_epoch=100)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    gradients = [np.ones(v.shape, "float32") for v in model.trainable_variables]
    optimizer.apply([ops.convert_to_tensor(g) for g in gradients])
    for i, rate in enumerate((0.025, 0.05, 0.1)):
        kernel, bias = model.get_layer(f"layer{i}").get_weights()
        # The first step of Adam is the rate, whatever the gradient.
        np.testing.assert_allclose(kernel, 1 - 0.5 * rate - rate, rtol=1e-4)
        np.testing.assert_allclose(bias, 1 - rate, rtol=1e-4)


@pytest.mark.parametrize("accumulated", [None, 2])
def test_adamw_by_hand(float64, accumulated):
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    layer.set_weights([KERNEL, np.zeros(3)])
    settings = Optimizer(epochs=8, learning_rate=0.1, warmup_epochs=2)
    rates = make_schedule(settings, steps_per_epoch=1)
    optimizer = LayerwiseAdamW(
        rates,
        weight_decay=0.5,
        beta_1=0.8,
        gradient_accumulation_steps=accumulated,
    )
    optimizer.exclude_from_weight_decay([layer.bias])
    optimizer.build(layer.trainable_variables)
    gradients = np.random.default_rng(0).normal(size=(8, 3, 3))
    for gradient in gradients:
        optimizer.apply([ops.array(gradient[1:]), ops.array(gradient[0])])
    expected = np.concatenate([np.zeros((1, 3)), KERNEL])
    moment = square = 0.0
    decays = np.array([[0.0], [1.0], [1.0]])
    every = accumulated or 1
    means = gradients.reshape(-1, every, 3, 3).mean(1)
    for t, gradient in enumerate(means, 1):
        rate = float(rates(t * every - 1))  # Keras counts batches.
        moment = 0.8 * moment + 0.2 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = moment / (1 - 0.8**t)
        step = step / (np.sqrt(square) + 1e-7) * np.sqrt(1 - 0.999**t)
        expected = expected - rate * (step + 0.5 * decays * expected)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(kernel, expected[1:], rtol=1e-9)
    np.testing.assert_allclose(bias, expected[0], rtol=1e-9)


def test_a_weight_of_16_bits_takes_a_step():
    layer = keras.layers.Dense(3, dtype="bfloat16", kernel_initializer="ones")
    layer.build((None, 2))
    optimizer = LayerwiseAdamW(0.125, weight_decay=0.0)
    optimizer.build(layer.trainable_variables)
    optimizer.apply([ops.ones(v.shape, "bfloat16") for v in layer.trainable_variables])
    np.testing.assert_array_equal(np.asarray(layer.get_weights()[0], "float32"), 0.875)


def test_rates_of_layers_survive_saving_and_loading(tmp_path):
    model = make_deep()
    settings = Optimizer(epochs=5, learning_rate=0.1, layer_decay=0.5)
    train(model, settings, INPUTS, LABELS, 4)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    restored = make_deep()
    restored.compile(make_optimizer(settings, restored, 10), "mse")
    restored.load_weights(tmp_path / "model.weights.h5")
    assert isinstance(loaded.optimizer, LayerwiseAdamW)
    factors = {"layer0": 0.25, "layer1": 0.5, "layer2": 1.0}
    assert loaded.optimizer.layer_factors == factors
    for each in (model, loaded, restored):
        each.fit(INPUTS, LABELS, batch_size=4, shuffle=False, verbose=0)
    for each in (loaded, restored):
        for ours, theirs in zip(each.weights, model.weights, strict=True):
            np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-5)


def make_small(precision="float32"):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(3, dtype=precision),
        keras.layers.BatchNormalization(momentum=0.5, dtype=precision),
    ]
    return keras.Sequential([keras.Input((2,)), *layers])


def test_average_follows_weights_and_statistics_of_every_step():
    model = make_small()
    settings = Optimizer(epochs=1, learning_rate=0.1, average_decay=0.8)
    expected, seen = [np.array(v) for v in model.weights], []

    class Follow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            seen.append([np.array(v) for v in self.model.weights])

    model.compile(make_optimizer(settings, model, 10), "mse")
    average = WeightAverage(model, 0.8)
    model.fit(INPUTS, LABELS, batch_size=4, verbose=0, callbacks=[Follow()])
    for weights in seen:
        expected = [0.8 * a + 0.2 * w for a, w in zip(expected, weights, strict=True)]
    assert len(seen) == 3
    for ours, theirs in zip(average.averages, expected, strict=True):
        np.testing.assert_allclose(np.array(ours), theirs, rtol=1e-5, atol=1e-7)
    names = {v.path.split("/")[-1] for v in average.weights}
    assert {"moving_mean", "moving_variance", "kernel"} < names
    before = model.predict(INPUTS, verbose=0)
    with average.applied():
        np.testing.assert_allclose(np.array(model.weights[0]), expected[0], rtol=1e-5)
    np.testing.assert_array_equal(model.predict(INPUTS, verbose=0), before)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_average_and_accumulation_of_a_saved_model_go_on(tmp_path, precision):
    settings = Optimizer(
        epochs=5, learning_rate=0.1, average_decay=0.8, accumulation_steps=2
    )
    model = make_small(precision)
    average = train(model, settings, INPUTS[:8], LABELS[:8], 4)
    kernel, start = np.array(model.weights[0]), np.array(make_small().weights[0])
    # Two batches are one step.
    np.testing.assert_allclose(
        np.array(average.averages[0]), 0.8 * start + 0.2 * kernel, rtol=1e-4
    )
    model.save_weights(tmp_path / "model.weights.h5")
    other = make_small(precision)
    other.compile(make_optimizer(settings, other, 10), "mse")
    again = WeightAverage(other, 0.8, 2)
    other.load_weights(tmp_path / "model.weights.h5")
    for one in (model, other):
        one.fit(INPUTS, LABELS, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(again.averages, average.averages, strict=True):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-5)


def test_validation_is_of_the_average():
    model = make_small()
    settings = Optimizer(epochs=1, learning_rate=0.5)
    model.compile(make_optimizer(settings, model, 10), "mse")
    average = WeightAverage(model, 0.9)
    history = model.fit(
        INPUTS,
        LABELS,
        batch_size=4,
        verbose=0,
        validation_data=(INPUTS, LABELS),
        callbacks=[average],
    ).history
    own = model.evaluate(INPUTS, LABELS, verbose=0)
    with average.applied():
        averaged = model.evaluate(INPUTS, LABELS, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(averaged, rel=1e-5)
    assert abs(own - averaged) > 1e-3

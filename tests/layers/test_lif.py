"""Neurons as layers: their arguments reach the functions, their parts keep float32."""

import keras
import numpy as np
import pytest
from harness import check_layer, check_run, gradients, to_numpy
from keras import ops

from keras_qkformer.layers import IF, LIF, ParametricLIF
from keras_qkformer.layers.neurons import (
    NEURONS,
    get_neuron,
    neuron_for,
    serialize_neuron,
)
from keras_qkformer.ops import if_sequence, lif_sequence, parametric_lif_sequence

COMMON = {
    "v_threshold": 0.8,
    "v_reset": -0.1,
    "detach_reset": False,
    "surrogate": "atan",
    "alpha": 3.0,
}
LEAKY = {**COMMON, "decay_input": False}
X = np.random.default_rng(0).normal(0.6, 0.8, (2, 5, 3)).astype("float32")


@pytest.mark.parametrize(
    ("cls", "kwargs", "num_weights"),
    [
        (IF, COMMON, 0),
        (LIF, {**LEAKY, "tau": 3.0}, 0),
        (ParametricLIF, {**LEAKY, "init_tau": 3.0}, 1),
    ],
)
def test_neurons_are_layers(cls, kwargs, num_weights):
    check_layer(cls, kwargs, (2, 3, 5), (2, 3, 5), num_weights)


@pytest.mark.parametrize("cls", NEURONS.values())
def test_soft_reset_on_images(cls):
    weights = 1 if cls is ParametricLIF else 0
    check_run(cls, {"v_reset": None}, (2, 3, 2, 4, 3), (2, 3, 2, 4, 3), weights)


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (IF(**COMMON), lambda x: if_sequence(x, **COMMON)),
        (LIF(tau=3.0, **LEAKY), lambda x: lif_sequence(x, tau=3.0, **LEAKY)),
        (
            ParametricLIF(init_tau=4.0, **LEAKY),
            lambda x: parametric_lif_sequence(x, np.float32(0.25), **LEAKY),
        ),
    ],
    ids=NEURONS,
)
def test_every_argument_reaches_the_function(layer, function):
    upstream = ops.convert_to_tensor(
        np.arange(X.size, dtype="float32").reshape(X.shape)
    )

    def loss(function):
        return lambda x: (lambda s: (ops.sum(s * upstream), s))(function(x))

    _, spikes, grads = gradients(loss(layer), X)
    _, wanted_spikes, wanted = gradients(loss(function), X)
    assert 0 < to_numpy(spikes).mean() < 1
    np.testing.assert_array_equal(to_numpy(spikes), to_numpy(wanted_spikes))
    np.testing.assert_allclose(grads[0], wanted[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", NEURONS.values())
def test_two_calls_share_no_state(cls):
    layer = cls()
    first, second = to_numpy(layer(X)), to_numpy(layer(X))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("cls", NEURONS.values())
def test_a_state_goes_in_and_comes_out(cls):
    layer = cls()
    spikes, state = layer(X, return_state=True)
    assert ops.shape(state) == (2, 3)
    first, half = layer(X[:, :2], return_state=True)
    second, end = layer(X[:, 2:], initial_state=half, return_state=True)
    np.testing.assert_array_equal(
        to_numpy(spikes), np.concatenate([to_numpy(first), to_numpy(second)], 1)
    )
    np.testing.assert_array_equal(to_numpy(state), to_numpy(end))


@pytest.mark.parametrize("cls", NEURONS.values())
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_potentials_are_float32_whatever_the_policy(cls, policy):
    layer = cls(dtype=policy)
    spikes, state = layer(X, return_state=True)
    assert keras.backend.standardize_dtype(spikes.dtype) == layer.compute_dtype
    assert keras.backend.standardize_dtype(state.dtype) == "float32"
    symbolic, symbolic_state = layer(keras.KerasTensor((None, 5, 3)), return_state=True)
    assert (symbolic.shape, symbolic.dtype) == ((None, 5, 3), layer.compute_dtype)
    assert (symbolic_state.shape, symbolic_state.dtype) == ((None, 3), "float32")


def test_a_model_may_leave_the_number_of_steps_open():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, LIF()(inputs))
    assert model.output_shape == (None, None, 3)
    for steps in (2, 5):
        np.testing.assert_array_equal(
            model.predict(X[:, :steps], verbose=0), to_numpy(LIF()(X[:, :steps]))
        )


def test_the_leak_of_parametric_lif_starts_at_init_tau_and_learns():
    layer = ParametricLIF(init_tau=3.0)
    layer.build((None, 5, 3))
    np.testing.assert_allclose(to_numpy(layer.w.value), -np.log(2.0), rtol=1e-6)
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, np.ones_like(X), verbose=0)  # More spikes: a shorter memory.
    assert to_numpy(layer.w.value) > -np.log(2.0)


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (LIF, {"tau": 1.0}, r"tau must be greater than 1 .* tau=1.0"),
        (ParametricLIF, {"init_tau": 0.5}, r"tau must be greater than 1 .* tau=0.5"),
        (IF, {"v_reset": 1.0}, r"v_reset=1.0, v_threshold=1.0"),
        (LIF, {"v_threshold": -0.5}, r"v_reset=0.0, v_threshold=-0.5"),
        (ParametricLIF, {"alpha": 0}, r"alpha must be greater than 0.*alpha=0"),
        (IF, {"surrogate": "relu"}, r"surrogate must be one of .*surrogate='relu'"),
    ],
)
def test_bad_arguments_are_refused_by_the_constructor(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)


def test_neurons_by_name():
    assert (get_neuron("lif").tau, get_neuron("plif").init_tau) == (2.0, 2.0)
    assert get_neuron("lif", tau=3.0, surrogate="atan").get_config()["tau"] == 3.0
    assert get_neuron("plif", tau=3.0).init_tau == 3.0
    assert get_neuron("if", surrogate="atan").surrogate == "atan"
    with pytest.raises(ValueError, match=r"neuron must be one of .*neuron='relu'"):
        get_neuron("relu")
    with pytest.raises(ValueError, match=r"neuron='if' has no tau.*tau=3.0"):
        get_neuron("if", tau=3.0)


def test_a_template_is_copied_with_changes():
    class Owner(keras.layers.Layer):
        neuron = serialize_neuron(LIF(tau=3.0, v_threshold=2.0))

    owner = Owner(dtype="mixed_bfloat16")
    neuron = neuron_for(owner, "some_name", v_threshold=0.5)
    assert type(neuron) is LIF
    assert (neuron.name, neuron.tau, neuron.v_threshold) == ("some_name", 3.0, 0.5)
    assert neuron.compute_dtype == "bfloat16"
    assert serialize_neuron(owner.neuron) == owner.neuron
    with pytest.raises(ValueError, match=r"neuron must be a layer or one of .* 3$"):
        serialize_neuron(3)


@pytest.mark.backend_independent
@pytest.mark.parametrize("cls", [IF, LIF])
def test_a_subclass_can_not_take_a_call_that_units_would_feed_otherwise(cls):
    """`ConvBNLIF` passes a neuron of ours the current before BatchNorm."""
    with pytest.raises(TypeError, match=r"subclass of keras\.layers\.Layer.*Mine"):
        type("Mine", (cls,), {"call": lambda self, inputs: inputs})
    assert type("Mine", (cls,), {"extra": 1})().extra == 1


def test_a_neuron_shows_its_numbers():
    shown = repr(LIF(tau=3.0, v_reset=None, name="some"))
    assert shown.startswith("<LIF name=some, v_threshold=1.0, v_reset=None,")
    assert "tau=3.0" in shown and "surrogate='sigmoid'" in shown


@pytest.mark.parametrize("v_reset", [-0.1, None])
@pytest.mark.parametrize(
    "layer",
    [
        lambda **reset: IF(v_threshold=0.8, **reset),
        lambda **reset: LIF(tau=3.0, v_threshold=0.8, **reset),
        lambda **reset: LIF(tau=3.0, decay_input=False, **reset),
        lambda **reset: ParametricLIF(init_tau=3.0, **reset),
    ],
    ids=["if", "lif", "lif without decay of the input", "plif"],
)
def test_potentials_are_those_that_fire(layer, v_reset):
    neuron = layer(v_reset=v_reset)
    x = ops.convert_to_tensor(3 * X)
    spikes = to_numpy(neuron(x))
    assert 0.1 < spikes.mean() < 0.95
    potentials = to_numpy(neuron.potentials(x, ops.convert_to_tensor(spikes)))
    np.testing.assert_array_equal(potentials >= neuron.v_threshold, spikes)
    np.testing.assert_array_equal(to_numpy(neuron.dynamics(x)), spikes)
    other = spikes.copy()
    other[:, 0] = 1 - other[:, 0]  # Another reset changes the next potential.
    changed = to_numpy(neuron.potentials(x, ops.convert_to_tensor(other)))
    np.testing.assert_array_equal(changed[:, 0], potentials[:, 0])
    assert (changed[:, 1] != potentials[:, 1]).all()

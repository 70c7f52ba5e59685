"""Surrogate spike functions: forward values, derivatives by hand, the registry."""

import keras
import numpy as np
import pytest
from harness import gradients, to_numpy
from keras import ops

from keras_qkformer.layers import LIF
from keras_qkformer.ops import (
    lif_sequence,
    register_surrogate,
    spike,
    surrogate,
    surrogate_derivative,
    surrogate_names,
)

X = np.array([-0.5, 0.0, 0.5], "float32")

# With the default steepness, and with twice that, at -0.5, 0 and 0.5.
DERIVATIVES = {
    "sigmoid": ([0.41997, 1.0, 0.41997], [0.14130, 2.0, 0.14130]),
    "atan": ([0.28840, 1.0, 0.28840], [0.18400, 2.0, 0.18400]),
    "piecewise_quadratic": ([0.5, 1.0, 0.5], [0.0, 2.0, 0.0]),
    "soft_sign": ([0.25, 1.0, 0.25], [2 / 9, 2.0, 2 / 9]),
}


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(surrogate, "SURROGATES", dict(surrogate.SURROGATES))


def test_every_surrogate_has_a_row_in_the_table():
    # The example of `register_surrogate` may have run in this process.
    assert set(surrogate_names()) - {"triangle"} == set(DERIVATIVES)
    assert surrogate_names() == sorted(surrogate_names())


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_equal_the_table(name):
    default, steep = DERIVATIVES[name]
    alpha = {"sigmoid": 8.0, "atan": 4.0, "piecewise_quadratic": 2.0, "soft_sign": 4.0}
    x = ops.convert_to_tensor(X)
    np.testing.assert_allclose(
        to_numpy(surrogate_derivative(name)(x)), default, atol=1e-5
    )
    np.testing.assert_allclose(
        to_numpy(surrogate_derivative(name, alpha[name])(x)), steep, atol=1e-5
    )


@pytest.mark.parametrize("name", DERIVATIVES)
def test_spike_is_a_step_whose_gradient_is_the_derivative(name):
    upstream = np.array([1.0, 2.0, -3.0], "float32")

    def loss(x):
        spikes = spike(x, name)
        return ops.sum(spikes * ops.convert_to_tensor(upstream)), spikes

    _, spikes, (grad,) = gradients(loss, X)
    assert to_numpy(spikes).tolist() == [0.0, 1.0, 1.0]
    np.testing.assert_allclose(grad, upstream * DERIVATIVES[name][0], atol=3e-5)


def test_far_from_the_threshold_the_piecewise_quadratic_is_exactly_zero():
    x = ops.convert_to_tensor([-1.0, -7.0, 1.0, 7.0])
    assert not to_numpy(surrogate_derivative("piecewise_quadratic")(x)).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_spikes_have_the_type_of_the_input(dtype):
    spikes = spike(ops.cast(X, dtype))
    assert keras.backend.standardize_dtype(spikes.dtype) == dtype


@pytest.mark.usefixtures("own_registry")
def test_a_registered_surrogate_works_by_name_in_functions_and_layers():
    @register_surrogate("box", alpha=2.0)
    def box(x, alpha):
        return alpha * ops.cast(ops.abs(x) < 0.5 / alpha, x.dtype)

    # h = 0.9, so 0.1 below the threshold: inside the box; d h / d x = 1 / 2.
    x = np.array([[1.8]], "float32")
    for function in (
        lambda x: lif_sequence(x, surrogate="box"),
        LIF(surrogate="box"),
    ):
        _, _, (grad,) = gradients(lambda x, f=function: (ops.sum(f(x)), None), x)
        assert grad.tolist() == [[1.0]]
    _, _, (grad,) = gradients(
        lambda x: (ops.sum(lif_sequence(x, surrogate="box", alpha=8.0)), None), x
    )
    assert grad.tolist() == [[0.0]]  # That box ends at 0.0625.
    assert "box" in surrogate_names()


@pytest.mark.usefixtures("own_registry")
def test_a_name_can_be_registered_once():
    with pytest.raises(ValueError, match=r"name must be new.*name='atan'"):
        register_surrogate("atan", alpha=1.0)


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_alpha_must_be_positive(alpha):
    message = f"alpha must be greater than 0. Received: alpha={alpha}"
    for call in (
        lambda: surrogate_derivative("sigmoid", alpha),
        lambda: spike(X, alpha=alpha),
        lambda: register_surrogate("new", alpha),
        lambda: lif_sequence(X[None], alpha=alpha),
        lambda: LIF(alpha=alpha),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_an_unknown_surrogate_is_named_beside_the_known_ones():
    for call in (
        lambda: surrogate_derivative("step"),
        lambda: spike(X, "step"),
        lambda: lif_sequence(X[None], surrogate="step"),
        lambda: LIF(surrogate="step"),
    ):
        with pytest.raises(ValueError, match=r"'atan'.*Received: surrogate='step'"):
            call()

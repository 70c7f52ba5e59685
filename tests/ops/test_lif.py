"""Neurons over a sequence: by hand, against SpikingJelly, streamed, and in memory."""

import functools
import gc
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from harness import gradients, to_numpy
from keras import ops

from keras_qkformer.ops import (
    if_sequence,
    lif_sequence,
    lif_step,
    neuron_passes,
    parametric_lif_sequence,
)

SMALL = Path(__file__).parents[1] / "golden" / "lif_small.npz"  # golden/make_small.py

# One of each kind, as functions of (x, initial_state, return_state=...).
NEURONS = {
    "lif": lif_sequence,
    "lif, soft, attached": functools.partial(
        lif_sequence, tau=3.0, v_reset=None, detach_reset=False, decay_input=False
    ),
    "lif, hard, attached": functools.partial(
        lif_sequence, v_reset=-0.2, detach_reset=False, surrogate="atan"
    ),
    "if": if_sequence,
    "plif": lambda x, *state, **options: parametric_lif_sequence(
        x, ops.cast(0.4, x.dtype), *state, **options
    ),
}
each_neuron = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)


def currents(*shape, dtype="float64"):
    """Random input and upstream gradients that make a good share of neurons fire."""
    rng = np.random.default_rng(0)
    return rng.normal(0.8, 1.0, shape).astype(dtype), rng.normal(size=shape)


# --- by hand ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "spikes"),
    [
        (0.9, [0.0, 0.0, 0.0, 0.0]),  # h tends to 0.9, below the threshold
        (1.5, [0.0, 1.0, 0.0, 1.0]),  # h = 0.75, 1.125, reset
        (2.0, [1.0, 1.0, 1.0, 1.0]),  # h = 1.0 exactly
    ],
)
def test_lif_on_constant_input(current, spikes):
    x = np.full((1, 4), current, "float32")
    assert to_numpy(lif_sequence(x)).tolist() == [spikes]


@pytest.mark.parametrize(
    ("options", "spikes", "state"),
    [
        # x = 1.5 throughout. Hard reset: h = 0.75, 1.125, 0.75, 1.125.
        ({}, [0, 1, 0, 1], 0.0),
        # Soft reset: h = 0.75, 1.125 -> 0.125, 0.8125, 1.15625 -> 0.15625.
        ({"v_reset": None}, [0, 1, 0, 1], 0.15625),
        # From -0.5 towards 1: h = 0.25, 0.625, 0.8125, 0.90625.
        ({"v_reset": -0.5}, [0, 0, 0, 0], 0.90625),
        # The input is not halved: h = 1.5 at every step.
        ({"decay_input": False}, [1, 1, 1, 1], 0.0),
        # A quarter: h = 0.375, 0.65625, 0.8671875, 1.025390625.
        ({"tau": 4.0}, [0, 0, 0, 1], 0.0),
        ({"v_threshold": 2.0}, [0, 0, 0, 0], 1.40625),
    ],
)
def test_each_option_of_lif_by_hand(options, spikes, state):
    x = np.full((1, 4), 1.5, "float32")
    spikes_, state_ = lif_sequence(x, return_state=True, **options)
    assert to_numpy(spikes_).tolist() == [spikes]
    assert to_numpy(state_).tolist() == [state]


def test_if_neurons_add_up_what_they_receive():
    x = np.full((1, 4), 0.375, "float32")  # h = 0.375, 0.75, 1.125
    hard, hard_state = if_sequence(x, return_state=True)
    soft, soft_state = if_sequence(x, v_reset=None, return_state=True)
    assert to_numpy(hard).tolist() == to_numpy(soft).tolist() == [[0, 0, 1, 0]]
    assert (float(hard_state[0]), float(soft_state[0])) == (0.375, 0.5)


def test_parametric_lif_is_lif_with_one_over_tau():
    x, upstream = currents(2, 5, 7, dtype="float32")
    upstream = ops.convert_to_tensor(upstream.astype("float32"))
    decay = np.float32(0.25)

    def loss(function):
        return lambda x: (lambda s: (ops.sum(s * upstream), s))(function(x))

    _, spikes, (grad,) = gradients(loss(lambda x: parametric_lif_sequence(x, decay)), x)
    _, same_spikes, (same_grad,) = gradients(
        loss(lambda x: lif_sequence(x, tau=4.0)), x
    )
    np.testing.assert_array_equal(to_numpy(spikes), to_numpy(same_spikes))
    np.testing.assert_array_equal(grad, same_grad)


def test_neurons_fire_at_equality():
    # 1.0 and 0.5 are reached exactly.
    assert to_numpy(lif_sequence(np.float32([[2.0]]))).tolist() == [[1.0]]
    assert to_numpy(if_sequence(np.float32([[0.5, 0.5]]))).tolist() == [[0.0, 1.0]]
    below = np.nextafter(np.float32(1.0), np.float32(0.0))
    assert to_numpy(if_sequence(np.float32([[below]]))).tolist() == [[0.0]]


def test_gradients_by_hand():
    # h = 1.0 and, after the reset, 0.75: the surrogate has 1 and, at -0.25, 4 e / (1 +
    # e)^2 with e = exp(-1). The reset cuts the first step off from the second.
    x = np.array([[2.0, 1.5]], "float32")
    _, _, (grad,) = gradients(lambda x: (ops.sum(lif_sequence(x)), None), x)
    np.testing.assert_allclose(grad, [[0.5, 0.5 * 0.786448]], rtol=1e-6)


def test_gradients_of_the_last_state_by_hand():
    # Far below the threshold: v = x0 / 8 + x1 / 4 + x2 / 2 + v0 / 8.
    def loss(x, state):
        return ops.sum(lif_sequence(x, state, return_state=True)[1]), None

    x, state = np.full((1, 3), -1.0, "float32"), np.array([-1.0], "float32")
    value, _, (x_grad, state_grad) = gradients(loss, x, state)
    assert float(value) == -1.0
    assert x_grad.tolist() == [[0.125, 0.25, 0.5]]
    assert state_grad.tolist() == [0.125]


def test_a_step_is_a_sequence_of_one():
    x = np.array([1.5, 0.5], "float32")
    spikes, state = lif_step(x)
    assert (to_numpy(spikes).tolist(), to_numpy(state).tolist()) == (
        [0, 0],
        [0.75, 0.25],
    )
    spikes, state = lif_step(x, state, v_reset=None)
    assert to_numpy(spikes).tolist() == [1.0, 0.0]
    assert to_numpy(state).tolist() == [0.125, 0.375]


# --- against SpikingJelly --------------------------------------------------------


def golden_neuron(case, w=None):
    """The function `(x, state, return_state=...)` of a golden case."""
    names = ("v_threshold", "v_reset", "detach_reset", "surrogate", "alpha")
    options = {name: case[name] for name in names}
    if case["neuron"] == "IF":
        return functools.partial(if_sequence, **options)
    options["decay_input"] = case["decay_input"]
    if case["neuron"] == "LIF":
        return functools.partial(lif_sequence, tau=case["tau"], **options)
    return lambda x, *state, **more: parametric_lif_sequence(
        x, ops.sigmoid(w), *state, **options, **more
    )


def charged(case, x, v, decay):
    """Potentials before the reset, in NumPy, from those after it."""
    rest = case["v_reset"] or 0.0
    before = np.concatenate([np.full_like(v[:, :1], rest), v[:, :-1]], 1)
    if case["neuron"] == "IF":
        return before + x
    if case["decay_input"]:
        return before + (x - (before - rest)) * decay
    return before - (before - rest) * decay + x


def golden_errors(golden, case, dtype):
    """What the neuron of a case has wrong: names with the largest errors.

    In float64 that is any difference in spikes and, in relation to the largest entry,
    more than 1e-12 in potentials and gradients. In float32 potentials that come within
    1e-4 of the threshold may fall on its other side, and so change what comes before
    (gradients) and behind (potentials): such a neuron, with all its steps, is left out.
    """
    key, exact = case["key"], dtype == "float64"
    wanted = {
        name: golden[f"{key}/{name}"].swapaxes(0, 1)
        for name in ("spikes", "v", "grad_x")
    }
    x, upstream = (golden[name].swapaxes(0, 1) for name in ("x", "upstream"))
    ws = [golden[f"{key}/w"].reshape(())] if f"{key}/w" in golden else []
    if case["neuron"] == "LIF":
        decay = 1.0 / case["tau"]
    else:
        decay = 1.0 / (1.0 + np.exp(-ws[0])) if ws else None
    h = charged(case, x, wanted["v"], decay)
    clear = (np.abs(h - case["v_threshold"]) > 1e-4).all(1, keepdims=True) | exact
    assert clear.mean() > 0.99

    def loss(x, *ws):
        spikes = golden_neuron(case, *ws)(x)
        return ops.sum(spikes * ops.cast(upstream, dtype)), spikes

    args = [array.astype(dtype) for array in (x, *ws)]
    _, spikes, (grad_x, *grad_w) = gradients(loss, *args)
    neuron = golden_neuron(case, *args[1:])
    state, potentials = None, []
    for t in range(x.shape[1]):
        _, state = neuron(args[0][:, t : t + 1], state, return_state=True)
        potentials.append(to_numpy(state))
    found = {"spikes": to_numpy(spikes), "v": np.stack(potentials, 1), "grad_x": grad_x}

    limits = {"spikes": 0.0, "v": 1e-12, "grad_x": 1e-12, "grad_w": 1e-12}
    if not exact:
        limits = {"spikes": 0.0, "v": 1e-5, "grad_x": 1e-5, "grad_w": 1e-5}
    errors = {
        name: np.max(np.abs(found[name] - wanted[name]) * clear)
        / np.max(np.abs(wanted[name]))
        for name in wanted
    }
    if ws and clear.all():
        grad = golden[f"{key}/grad_w"]
        errors["grad_w"] = np.max(np.abs(grad_w[0] - grad) / np.abs(grad))
    return {name: error for name, error in errors.items() if error > limits[name]}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "case", json.loads(str(np.load(SMALL)["cases_json"])), ids=lambda case: case["key"]
)
def test_neurons_equal_spikingjelly(case, dtype, request):
    if dtype == "float64":
        request.getfixturevalue("float64")
    assert golden_errors(np.load(SMALL), case, dtype) == {}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_neurons_equal_spikingjelly_in_all_cases(shared_golden, dtype, request):
    if dtype == "float64":
        request.getfixturevalue("float64")
    golden = shared_golden("lif")
    cases = json.loads(str(golden["cases_json"]))
    assert len(cases) == 204
    errors = {case["key"]: golden_errors(golden, case, dtype) for case in cases}
    assert {key: error for key, error in errors.items() if error} == {}


# --- streaming, loops ------------------------------------------------------------


def value_and_gradients(neuron, chunks, x, initial, upstream, state_upstream):
    """Spikes, state and gradients of a sequence given in chunks of these lengths."""
    ends = np.cumsum(chunks)
    assert ends[-1] == x.shape[1]

    def loss(x, state):
        spikes = []
        for end, steps in zip(ends, chunks, strict=True):
            s, state = neuron(x[:, end - steps : end], state, return_state=True)
            spikes.append(s)
        spikes = ops.concatenate(spikes, 1)
        value = ops.sum(spikes * ops.convert_to_tensor(upstream))
        value = value + ops.sum(state * ops.convert_to_tensor(state_upstream))
        return value, (spikes, state)

    _, (spikes, state), grads = gradients(loss, x, initial)
    return [to_numpy(spikes), to_numpy(state), *grads]


def sequence_of(*shape):
    """Arguments of `value_and_gradients` after the chunks."""
    rng = np.random.default_rng(1)
    x, upstream = currents(*shape)
    initial, state_upstream = rng.normal(0.3, 0.3, (2, *x[:, 0].shape))
    return x, initial, upstream, state_upstream


@each_neuron
@pytest.mark.parametrize("chunks", [(1, 3, 2), (1,) * 6])
def test_streaming_in_chunks_equals_the_whole_sequence(neuron, chunks, float64):
    arguments = sequence_of(2, 6, 5)
    whole = value_and_gradients(neuron, (6,), *arguments)
    streamed = value_and_gradients(neuron, chunks, *arguments)
    assert 0.1 < whole[0].mean() < 0.9
    assert np.abs(whole[3]).max() > 0.01  # The initial state has a gradient.
    for a, b in zip(whole, streamed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


@each_neuron
def test_a_loop_equals_the_unrolled_sequence(neuron, float64, monkeypatch):
    arguments = sequence_of(2, 6, 5)
    unrolled = value_and_gradients(neuron, (6,), *arguments)
    monkeypatch.setattr(neuron_passes, "max_unrolled_steps", lambda: 0)
    looped = value_and_gradients(neuron, (6,), *arguments)
    for a, b in zip(unrolled, looped, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("looped", [False, True])
def test_a_loop_has_the_gradient_of_a_learnable_leak(looped, float64, monkeypatch):
    x, upstream = currents(2, 6, 5)

    def loss(x, decay):
        spikes, state = parametric_lif_sequence(x, decay, return_state=True)
        return ops.sum(spikes * ops.convert_to_tensor(upstream)) + ops.sum(state), None

    _, _, unrolled = gradients(loss, x, np.float64(0.4))
    longest = 0 if looped else 6
    monkeypatch.setattr(neuron_passes, "max_unrolled_steps", lambda: longest)
    _, _, grads = gradients(loss, x, np.float64(0.4))
    for a, b in zip(unrolled, grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_a_long_sequence_equals_its_short_pieces(float64):
    arguments = sequence_of(1, 70, 3)
    whole = value_and_gradients(lif_sequence, (70,), *arguments)
    pieces = value_and_gradients(lif_sequence, (35, 35), *arguments)
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="only a TensorFlow graph runs with a number of steps it does not know",
)
def test_time_may_be_unknown_in_a_graph():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3))])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            spikes, state = lif_sequence(x, return_state=True)
            loss = tf.reduce_sum(spikes) + tf.reduce_sum(state)
        return spikes, state, tape.gradient(loss, x)

    x, _ = currents(2, 5, 3, dtype="float32")

    def loss(x):
        spikes, state = lif_sequence(x, return_state=True)
        return ops.sum(spikes) + ops.sum(state), (spikes, state)

    _, known, grads = gradients(loss, x)
    for a, b in zip(run(x), (*known, *grads), strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-6)


# --- types, memory ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_potentials_of_16_bit_inputs_are_float32(dtype):
    # In 16 bits 1000 + 1/4 is 1000.
    x = ops.cast(np.full((1, 3), 0.25), dtype)
    start = ops.convert_to_tensor(np.float32([1000.0]))
    spikes, state = if_sequence(x, start, v_threshold=2000.0, return_state=True)
    assert keras.backend.standardize_dtype(spikes.dtype) == dtype
    assert keras.backend.standardize_dtype(state.dtype) == "float32"
    assert float(state[0]) == 1000.75


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_have_the_type_of_the_input(dtype):
    x, _ = currents(2, 4, 3)

    def loss(x):
        y = lif_sequence(ops.cast(x, dtype))
        return ops.sum(ops.cast(y, "float32")), y

    _, spikes, (grad,) = gradients(loss, x.astype("float32"))
    assert keras.backend.standardize_dtype(spikes.dtype) == dtype
    assert grad.dtype == "float32" and np.isfinite(grad).all() and grad.any()


def kept_for_the_backward_pass(function, x):
    """Bytes that live on between the forward and the backward pass of `function(x)`.

    The input counts, the result does not.
    """
    if keras.backend.backend() == "jax":
        import jax

        _, backward = jax.vjp(function, ops.convert_to_tensor(x))
        return sum(leaf.nbytes for leaf in jax.tree.leaves(backward))

    import torch

    def living():
        gc.collect()
        tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor]
        storages = [tensor.untyped_storage() for tensor in tensors]
        return {storage.data_ptr(): storage.nbytes() for storage in storages}

    before = living()
    x = torch.tensor(x, requires_grad=True)
    saved = []  # What PyTorch saves itself has no Python object, so it gets one here.
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor
    ):
        y = function(x)
    ignored = {*before, y.untyped_storage().data_ptr()}
    return sum(size for pointer, size in living().items() if pointer not in ignored)


needs_residuals = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="what TensorFlow keeps is decided when a graph is compiled",
)


@needs_residuals
@each_neuron
def test_the_backward_pass_keeps_nothing_but_its_input(neuron):
    x, _ = currents(4, 8, 64, dtype="float32")
    scalars = 64
    assert kept_for_the_backward_pass(neuron, x) <= x.nbytes + scalars


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="about XLA's compiler")
@each_neuron
def test_xla_may_not_keep_the_potentials_either(neuron):
    import jax

    x, _ = currents(4, 8, 64, dtype="float32")
    step = jax.jit(jax.grad(lambda x: ops.sum(neuron(x))))
    assert "optimization_barrier" in step.lower(x).as_text()


@needs_residuals
def test_ordinary_operations_keep_more():
    x, _ = currents(4, 8, 64, dtype="float32")
    assert kept_for_the_backward_pass(lambda x: ops.sin(ops.exp(x)), x) >= 2 * x.nbytes


# --- errors ----------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1.0, 0.5, -2.0])
def test_tau_must_be_greater_than_one(tau):
    with pytest.raises(ValueError, match=rf"greater than 1 .*Received: tau={tau}"):
        lif_sequence(np.ones((1, 2), "float32"), tau=tau)


@pytest.mark.parametrize("neuron", ["lif", "if", "plif"])
@pytest.mark.parametrize("v_reset", [1.0, 1.5])
def test_the_reset_must_lie_below_the_threshold(neuron, v_reset):
    with pytest.raises(
        ValueError, match=rf"Received: v_reset={v_reset}, v_threshold=1.0"
    ):
        NEURONS[neuron](np.ones((1, 2), "float32"), v_reset=v_reset)

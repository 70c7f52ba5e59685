"""Kernels of neurons, interpreted, against the passes of all backends in float64."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_qkformer.ops import neuron_passes
from keras_qkformer.ops.neuron import Neuron
from keras_qkformer.ops.normalization import NormalizationOf

if keras.backend.backend() != "jax":
    pytest.skip("kernels are for JAX", allow_module_level=True)

import jax
from jax import numpy as jnp

from keras_qkformer.ops import neuron_on_tpu, on_jax
from keras_qkformer.ops.spatial import conv2d, stack_steps

HERE = Path(__file__).parent
NORMALIZED = ("gamma", "beta", "mean", "variance")
# Leak, decay_input, v_reset, detach_reset, surrogate: each value once at least.
NEURONS = [
    (2.0, True, 0.0, True, "sigmoid"),
    ("learned", True, None, False, "atan"),
    ("learned", False, -0.2, False, "soft_sign"),
    (None, False, 0.0, False, "piecewise_quadratic"),
    (3.0, False, None, True, "sigmoid"),
]
# Shape, and whether the neuron normalizes by statistics of its input, of others, not.
INPUTS = [((2, 4, 3, 5, 7), True), ((3, 1, 5), False), ((2, 3, 7, 3), None)]


def made(neuron, shape, of_input):
    """A neuron, its tensors and options as for `apply_neuron`, and a gradient."""
    leak, decay_input, v_reset, detach_reset, name = neuron
    neuron = Neuron(
        leak=leak,
        decay_input=decay_input,
        v_threshold=1.0,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=name,
        alpha=None,
    )
    rng = np.random.default_rng(0)
    tensors = {"x": rng.normal(0.8, 1.0, shape)}
    if leak == "learned":
        tensors["decay"] = np.array(0.4)
    if of_input is not None:
        x = tensors["x"] if of_input else rng.normal(0.5, 1.2, shape)
        axes = tuple(range(len(shape) - 1))
        gamma, beta = rng.normal(1.0, 0.2, (2, shape[-1]))
        values = (gamma, beta, x.mean(axes), x.var(axes))
        tensors.update(zip(NORMALIZED, values, strict=True))
    options = None
    if of_input is not None:
        options = NormalizationOf(epsilon=1e-5, of_input=of_input)
    tensors = {name: jnp.asarray(value) for name, value in tensors.items()}
    return neuron, tensors, options, jnp.asarray(rng.normal(size=shape))


def assert_same(neuron, tensors, options, upstream, **placement):
    names = tuple(tensors)

    def both(run):
        def spikes(*values):
            return run(dict(zip(names, values, strict=True)))

        def spikes_and_grads(*values):
            result, pull = jax.vjp(spikes, *values)
            return result, *pull(upstream)

        return jax.jit(spikes_and_grads)(*tensors.values())

    wanted = both(
        lambda given: neuron_passes.apply_neuron(neuron, given, False, options)
    )
    found = both(
        lambda given: neuron_on_tpu.run(
            neuron, given, options, interpret=True, **placement
        )
    )
    assert 0.05 < wanted[0].mean() < 0.95
    np.testing.assert_array_equal(found[0], wanted[0])
    for name, grad, same in zip(names, found[1:], wanted[1:], strict=True):
        scale = np.abs(same).max()
        np.testing.assert_allclose(grad, same, rtol=0, atol=1e-12 * scale, err_msg=name)


CASES = [
    *zip(NEURONS, itertools.cycle(INPUTS), strict=False),
    (NEURONS[0], ((2, 16, 3), None)),
]


@pytest.mark.parametrize(("neuron", "inputs"), CASES)
def test_kernels_equal_the_passes(neuron, inputs, float64):
    assert_same(*made(neuron, *inputs))


def test_an_incomplete_last_block_counts_no_row_twice(monkeypatch, float64):
    # 34 rows in blocks of 32.
    monkeypatch.setattr(neuron_on_tpu, "BLOCK_VALUES", 2 * 128 * 32)
    assert_same(*made(NEURONS[1], (2, 2, 17, 3), True))


SPLIT = """
import sys

sys.path[:0] = sys.argv[1:]
import jax, keras
import numpy as np

keras.config.set_floatx("float64")
import test_neuron_on_tpu as tests

mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
given = tests.made(tests.NEURONS[1], (4, 2, 17, 3), True)
assert mesh.size == 2
tests.assert_same(*given, mesh=mesh, axis="batch")
"""


def test_devices_that_share_a_batch_add_their_sums():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", SPLIT, str(HERE), str(HERE.parent)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"},
        check=True,
    )


class FakeTPU:
    platform = "tpu"


def test_kernels_run_on_tpus_unless_disabled(monkeypatch, float64):
    given = made(NEURONS[0], (2, 3, 4), None)[:2]
    monkeypatch.setattr(neuron_on_tpu, "run", lambda *_: "by a kernel")
    assert neuron_passes.apply_neuron(*given, False, None).shape == (2, 3, 4)
    monkeypatch.setattr(on_jax, "placement", lambda: ([FakeTPU()], None, None))
    # There is no float64 on TPUs.
    assert neuron_passes.apply_neuron(*given, False, None).shape == (2, 3, 4)
    given = given[0], {"x": given[1]["x"].astype("float32")}
    assert neuron_passes.apply_neuron(*given, False, None) == "by a kernel"
    assert neuron_passes.apply_neuron(*given, True, None).shape == (2, 4, 4)
    monkeypatch.setenv("KERAS_QKFORMER_KERNELS", "0")
    assert neuron_passes.apply_neuron(*given, False, None).shape == (2, 3, 4)


X = np.zeros((4, 2, 3, 5), "float32")


@pytest.mark.parametrize(
    ("x", "others", "surrogate", "return_state", "examples"),
    [
        (X, {"state": X[:, 0]}, "sigmoid", False, 1),
        (X, {}, "sigmoid", True, 1),
        (X[:, :, 0, 0], {}, "sigmoid", False, 1),
        (X, {}, "triangle", False, 1),  # May need what kernels don't have.
        (X.astype("float16"), {}, "sigmoid", False, 1),
        (X[:0], {}, "sigmoid", False, 1),
        (X, {}, "sigmoid", False, 3),  # Three devices can't share four examples.
        (np.zeros((1, 2, 1, 2**13 + 1), "float32"), {}, "sigmoid", False, 1),
    ],
)
def test_other_cases_are_left_to_xla(x, others, surrogate, return_state, examples):
    def fits(x, others, surrogate, return_state, examples):
        tensors = {"x": x, **others}
        neuron = SimpleNamespace(surrogate=surrogate)
        return neuron_on_tpu.fits(neuron, tensors, return_state, examples)

    assert fits(X, {}, "sigmoid", False, 2)
    assert not fits(x, others, surrogate, return_state, examples)


@pytest.mark.parametrize(("size", "strides"), [(3, 1), (3, 2), (5, 2)])
def test_convolution_over_time_equals_that_of_each_step(
    size, strides, monkeypatch, float64
):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 4, 6, 3)), rng.normal(size=(size, size, 3, 5))
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    wanted = conv2d(stack_steps(x, kernel), kernel, strides)
    monkeypatch.setattr(on_jax, "placement", lambda: ([FakeTPU()], None, None))
    stacked = stack_steps(x, kernel)
    assert stacked.shape == x.shape
    found = conv2d(stacked, kernel, strides)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=1e-12)


def test_bfloat16_rounds_only_what_is_stored():
    neuron, tensors, options, upstream = made(NEURONS[0], (2, 4, 3, 7), True)
    tensors = {k: v.astype("float32") for k, v in tensors.items()}
    tensors["x"] = tensors["x"].astype("bfloat16")

    def grads(run):
        def spikes_and_grad(x):
            spikes, pull = jax.vjp(lambda x: run({**tensors, "x": x}), x)
            return spikes, *pull(upstream.astype("bfloat16"))

        return jax.jit(spikes_and_grad)(tensors["x"])

    wanted = grads(lambda t: neuron_passes.apply_neuron(neuron, t, False, options))
    found = grads(lambda t: neuron_on_tpu.run(neuron, t, options, interpret=True))
    for values, same in zip(found, wanted, strict=True):
        assert values.dtype == same.dtype == jnp.bfloat16
        np.testing.assert_allclose(
            values.astype("float32"), same.astype("float32"), rtol=2**-7, atol=1e-6
        )

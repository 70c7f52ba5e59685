"""Weights are rounded so that outputs change least on examples."""

import numpy as np
import pytest
from keras import ops
from saved_presets import settled_preset

from keras_qkformer.layers import ConvBNLIF
from keras_qkformer.layers.operation_scope import operation_scope
from keras_qkformer.serving.rounding import (
    compare_rounded,
    round_kernel,
    second_moments,
)
from keras_qkformer.serving.unit_weights import UnitWeights
from keras_qkformer.trained import load_trained

pytestmark = pytest.mark.backend_independent


def spikes(draw, rows, entries):
    """Spikes that go together, as those of neighbouring pixels do."""
    rates = draw.random((rows, 4)) @ draw.random((4, entries)) / 6
    return (draw.random((rows, entries)) < rates).astype("float32")


def pixels(count):
    """Inputs with which the neurons of the settled preset fire."""
    return (np.random.default_rng(0).random((count, 8, 8, 1), "float32") - 0.3) / 0.1


def test_outputs_change_less_than_with_the_nearest_multiples():
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(3, 3, 16, 20))
    scale = np.abs(kernel).max((0, 1, 2)) / 15  # Coarse.
    x, fresh = spikes(draw, 4000, 288)[:, ::2], spikes(draw, 4000, 288)[:, ::2]
    nearest = round_kernel(kernel, scale)
    np.testing.assert_array_equal(nearest, np.round(kernel / scale))
    chosen = round_kernel(kernel, scale, x.T @ x / len(x))
    assert chosen.dtype == np.int8 and chosen.shape == kernel.shape

    def change(rounded, x):
        return x @ (kernel - rounded * scale).reshape(-1, 20)

    for inputs in (x, fresh):
        before, after = change(nearest, inputs), change(chosen, inputs)
        assert (after**2).mean() < 0.95 * (before**2).mean()
        assert (after.mean(0) ** 2).mean() < 0.2 * (before.mean(0) ** 2).mean()
    same = round_kernel(kernel, scale, np.eye(144))  # Nothing goes together.
    np.testing.assert_array_equal(same, nearest)


def test_no_entry_leaves_8_bits():
    draw = np.random.default_rng(0)
    kernel = np.full((1, 1, 40, 3), 127.0)
    x = spikes(draw, 500, 40)
    rounded = round_kernel(kernel + 0.4, np.ones(3), x.T @ x / 500)
    assert rounded.max() == 127 and rounded.min() > 100


def test_second_moments_are_those_of_what_a_filter_sees():
    model = load_trained(settled_preset()).model
    inputs = pixels(2)
    found = second_moments(model, inputs)
    units = [x for x in model._flatten_layers() if isinstance(x, ConvBNLIF)]
    assert {*found} == {*units}
    seen = {}
    with operation_scope(lambda layer, **tensors: seen.setdefault(layer, tensors)):
        model(inputs)
    for unit in units:
        x = ops.convert_to_numpy(seen[unit]["inputs"])
        size, channels = unit.kernel_size, x.shape[-1]
        moments = found[unit].reshape(size * size, channels, size * size, channels)
        middle = size * size // 2
        mean = np.einsum("cc->c", moments[middle, :, middle])
        # The middle sees each entry of the input, drawn with equal probability.
        every = (x[..., :: unit.strides, :: unit.strides, :] ** 2).mean((0, 1, 2, 3))
        np.testing.assert_allclose(mean, every, rtol=0.1, atol=0.02)
        if size == 3:  # Corners see the padding, too.
            assert moments[0, :, 0].sum() < moments[middle, :, middle].sum()


def test_moments_of_a_unit_are_used_for_it_alone():
    model = load_trained(settled_preset()).model
    inputs = pixels(2)
    moments = second_moments(model, inputs)
    unit, other = (x for x in [*moments][-2:])
    nearest = UnitWeights("int8").of(unit, 3).kernel
    weights = UnitWeights("int8", {unit: moments[unit]})
    assert (weights.of(unit, 3).kernel != nearest).any()
    plain = UnitWeights("int8").of(other, 3).kernel
    np.testing.assert_array_equal(weights.of(other, 3).kernel, plain)


def test_a_model_is_equal_to_itself():
    model = load_trained(settled_preset()).model
    inputs = pixels(3)
    labels = ops.convert_to_numpy(model(inputs)).argmax(-1)
    labels[0] = (labels[0] + 1) % 10
    told = compare_rounded(model, model, inputs, labels)
    assert told["examples"] == told["same_top1"] == 3
    assert told["correct"] == told["correct_rounded"] == 2
    assert set(told["changed_spikes_by_layer"].values()) == {0.0}

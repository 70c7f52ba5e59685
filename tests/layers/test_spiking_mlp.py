"""The feed-forward half of a block against NumPy."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import LIF, SpikingMLP
from keras_qkformer.layers.neurons import NEURONS

SHAPE = (2, 3, 2, 4, 8)


def num_weights(hidden):
    return 8 * hidden + 5 * hidden + hidden * 8 + 5 * 8


def test_the_mlp_is_a_layer():
    kwargs = {
        "mlp_ratio": 2,
        "pre_activation": True,
        "inner_shortcut": False,
        "neuron": LIF(tau=3.0),
    }
    check_layer(SpikingMLP, kwargs, SHAPE, SHAPE, num_weights(16))


@pytest.mark.parametrize("neuron", NEURONS)
def test_it_works_with_each_neuron(neuron):
    weights = num_weights(32) + (2 if neuron == "plif" else 0)
    check_run(SpikingMLP, {"neuron": neuron}, SHAPE, SHAPE, weights)


@pytest.mark.parametrize("mlp_ratio", [0.5, 1, 3])
def test_it_equals_numpy(mlp_ratio, float64):
    x = plain.random_spikes(2, 4, 3, 5, 8)
    layer = SpikingMLP(mlp_ratio)
    layer.build(x.shape)
    plain.randomize(layer)
    assert layer.expand.filters == 8 * mlp_ratio
    wanted = plain.conv_bn_lif(plain.conv_bn_lif(x, layer.expand), layer.reduce)
    assert 0.1 < wanted.mean() < 0.9
    np.testing.assert_array_equal(to_numpy(layer(x)), wanted)


@pytest.mark.parametrize(
    ("mlp_ratio", "inner_shortcut"), [(1, True), (1, False), (2, True)]
)
def test_pre_activation_is_two_residual_branches_if_the_widths_are_equal(
    mlp_ratio, inner_shortcut, float64
):
    x = np.random.default_rng(0).normal(0.5, 1.0, (2, 4, 3, 5, 8))
    layer = SpikingMLP(mlp_ratio, pre_activation=True, inner_shortcut=inner_shortcut)
    layer.build(x.shape)
    plain.randomize(layer)
    y = plain.conv_bn(plain.lif(x), layer.expand)
    if mlp_ratio == 1 and inner_shortcut:
        wanted = y + plain.conv_bn(plain.lif(x + y), layer.reduce)
    else:
        wanted = plain.conv_bn(plain.lif(y), layer.reduce)
    np.testing.assert_allclose(to_numpy(layer(x)), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mlp_ratio", [0.3, 0, -1])
def test_the_hidden_width_must_be_a_whole_number(mlp_ratio):
    message = f"whole number above 0. Received: mlp_ratio={mlp_ratio}, channels=8"
    with pytest.raises(ValueError, match=message):
        SpikingMLP(mlp_ratio).build(SHAPE)

"""Q-K token attention against NumPy, its mask, its refusals."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import LIF, TokenQKAttention
from keras_qkformer.layers.neurons import NEURONS

SHAPE = (2, 3, 2, 4, 8)
WEIGHTS = 3 * (8 * 8 + 4 * 8) + 8  # query, key and proj, which has a bias


def test_token_attention_is_a_layer():
    kwargs = {"num_heads": 2, "pre_activation": True, "neuron": LIF(tau=3.0)}
    check_layer(TokenQKAttention, kwargs, SHAPE, SHAPE, WEIGHTS)


@pytest.mark.parametrize("neuron", NEURONS)
def test_it_works_with_each_neuron(neuron):
    num_weights = WEIGHTS + (4 if neuron == "plif" else 0)
    check_run(
        TokenQKAttention, {"num_heads": 4, "neuron": neuron}, SHAPE, SHAPE, num_weights
    )


def mask(x, layer):
    query = plain.split_heads(plain.conv_bn_lif(x, layer.query), layer.num_heads)
    return plain.lif(query.sum(-1), v_threshold=0.5)


def masked_key(x, layer):
    key = plain.split_heads(plain.conv_bn_lif(x, layer.key), layer.num_heads)
    return (mask(x, layer)[..., None] * key).reshape(x.shape)


@pytest.mark.parametrize("num_heads", [1, 4, 8])
def test_it_equals_numpy(num_heads, float64):
    x = plain.random_spikes(2, 4, 3, 5, 8)
    layer = TokenQKAttention(num_heads)
    layer.build(x.shape)
    plain.randomize(layer)
    wanted_mask = mask(x, layer)
    wanted = plain.conv_bn_lif(masked_key(x, layer), layer.proj)
    assert 0.1 < wanted_mask.mean() < 0.9
    assert 0.1 < wanted.mean() < 0.9
    np.testing.assert_array_equal(to_numpy(layer(x)), wanted)
    np.testing.assert_array_equal(to_numpy(layer.mask(x)), wanted_mask)


def test_pre_activation_takes_and_gives_potentials(float64):
    x = np.random.default_rng(0).normal(0.5, 1.0, (2, 4, 3, 5, 8))
    layer = TokenQKAttention(2, pre_activation=True)
    layer.build(x.shape)
    plain.randomize(layer)
    spikes = plain.lif(x)
    wanted = plain.conv_bn(masked_key(spikes, layer), layer.proj)
    np.testing.assert_allclose(to_numpy(layer(x)), wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(to_numpy(layer.mask(x)), mask(spikes, layer))


def test_the_attention_has_half_the_threshold_and_its_own_neuron():
    layer = TokenQKAttention(2, neuron=LIF(tau=3.0, v_threshold=2.0))
    layer.build(SHAPE)
    assert (layer.attention_neuron.tau, layer.attention_neuron.v_threshold) == (
        3.0,
        0.5,
    )
    assert (layer.query.fire.tau, layer.query.fire.v_threshold) == (3.0, 2.0)


@pytest.mark.parametrize("num_heads", [3, 16, 0])
def test_heads_must_divide_the_channels(num_heads):
    message = f"must divide .* Received: num_heads={num_heads}, channels=8"
    with pytest.raises(ValueError, match=message):
        TokenQKAttention(num_heads).build(SHAPE)


def test_the_mask_tells_whether_any_channel_of_the_head_fires(float64):
    """At every step: the neuron is at rest before each, see docs/evidence/linear.md."""
    x = plain.random_spikes(2, 6, 3, 5, 8)
    layer = TokenQKAttention(2)
    layer.build(x.shape)
    plain.randomize(layer)
    query = plain.split_heads(plain.conv_bn_lif(x, layer.query), 2)
    fires = query.any(-1)
    assert 0.1 < fires.mean() < 0.9
    np.testing.assert_array_equal(to_numpy(layer.mask(x)), fires)

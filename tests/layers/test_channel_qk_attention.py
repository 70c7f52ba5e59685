"""Q-K channel attention against NumPy."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import LIF, ChannelQKAttention
from keras_qkformer.layers.neurons import NEURONS

SHAPE = (2, 3, 2, 4, 8)
WEIGHTS = 3 * (8 * 8 + 4 * 8) + 8  # query, key and proj, which has a bias


def test_channel_attention_is_a_layer():
    kwargs = {"pre_activation": True, "neuron": LIF(tau=3.0, v_threshold=0.2)}
    check_layer(ChannelQKAttention, kwargs, SHAPE, SHAPE, WEIGHTS)


@pytest.mark.parametrize("neuron", NEURONS)
def test_it_works_with_each_neuron(neuron):
    num_weights = WEIGHTS + (4 if neuron == "plif" else 0)
    check_run(ChannelQKAttention, {"neuron": neuron}, SHAPE, SHAPE, num_weights)


def masked_key(x, layer):
    # One neuron per channel; a small tau and many tokens would open all of them.
    query = plain.conv_bn_lif(x, layer.query)
    mask = plain.lif(query.sum((2, 3), keepdims=True), v_threshold=0.5)
    assert 0 < mask.mean() < 1
    return mask * plain.conv_bn_lif(x, layer.key)


@pytest.mark.parametrize("pre_activation", [True, False])
def test_it_equals_numpy(pre_activation, float64):
    x = plain.random_spikes(2, 4, 1, 2, 8)
    layer = ChannelQKAttention(pre_activation=pre_activation)
    layer.build(x.shape)
    plain.randomize(layer)
    if pre_activation:
        x = x * 1.5
        wanted = plain.conv_bn(masked_key(plain.lif(x), layer), layer.proj)
    else:
        wanted = plain.conv_bn_lif(masked_key(x, layer), layer.proj)
    np.testing.assert_allclose(to_numpy(layer(x)), wanted, rtol=1e-12, atol=1e-12)

"""A block made of the two layers that it is given."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, to_numpy

from keras_qkformer.layers import (
    LIF,
    SpikingBlock,
    SpikingMLP,
    SpikingSelfAttention,
)

SHAPE = (2, 3, 4, 6, 8)
WEIGHTS = 4 * (8 * 8 + 4 * 8) + 8 + (8 * 16 + 5 * 16 + 16 * 8 + 5 * 8)


def test_the_block_is_a_layer():
    lively = LIF(tau=1.5, v_threshold=0.2)
    kwargs = {
        "mixer": SpikingSelfAttention(2, neuron=lively, name="attention"),
        "mlp": SpikingMLP(2, neuron=lively, name="mlp"),
        "drop_path": 0.2,
    }
    check_layer(SpikingBlock, kwargs, SHAPE, SHAPE, WEIGHTS)


def test_both_layers_are_added(float64):
    x = plain.random_spikes(2, 4, 3, 5, 8)
    block = SpikingBlock(SpikingSelfAttention(2), SpikingMLP(2))
    block.build(x.shape)
    plain.randomize(block)
    middle = x + to_numpy(block.mix(x))
    wanted = middle + to_numpy(block.mlp(middle))
    assert wanted.max() == 3.0
    np.testing.assert_array_equal(to_numpy(block(x)), wanted)


def test_a_block_without_a_mixer_is_its_mlp(float64):
    x = plain.random_spikes(2, 4, 3, 5, 8)
    block = SpikingBlock.from_config(SpikingBlock(None, SpikingMLP(2)).get_config())
    block.build(x.shape)
    plain.randomize(block)
    wanted = to_numpy(block.mlp(x))
    assert wanted.any()
    np.testing.assert_array_equal(to_numpy(block(x)), x + wanted)
    assert block.computations() == block.mlp.computations()


def test_rate_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"drop_path must be in \[0, 1\).*=1.0"):
        SpikingBlock(SpikingSelfAttention(2), SpikingMLP(2), drop_path=1.0)

"""The block of SEW ResNet against NumPy."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, to_numpy

from keras_qkformer.layers import LIF, SEWBlock

NEURON = LIF(tau=1.5, v_threshold=0.5)


def test_the_block_is_a_layer():
    kwargs = {
        "filters": 4,
        "strides": 2,
        "bottleneck": True,
        "connect": "iand",
        "neuron": NEURON,
    }
    num_weights = 3 * 4 + 9 * 4 * 4 + 4 * 16 + 3 * 16 + 4 * (4 + 4 + 16 + 16)
    check_layer(SEWBlock, kwargs, (2, 3, 5, 6, 3), (2, 3, 3, 3, 16), num_weights)


@pytest.mark.backend_independent  # Golden files compare each backend.
@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("connect", ["add", "and", "iand"])
def test_it_equals_numpy_also_where_strides_do_not_divide_the_size(
    connect, bottleneck, float64
):
    x = 4 * plain.random_spikes(2, 4, 5, 6, 3)  # For the shortcut to fire.
    block = SEWBlock(4, strides=2, bottleneck=bottleneck, connect=connect)
    block.build(x.shape)
    plain.randomize(block)
    spikes = x
    for unit in block.units:
        spikes = plain.conv_bn_lif(spikes, unit)
    shortcut = plain.conv_bn_lif(x, block.shortcut)
    assert spikes.shape == (2, 4, 3, 3, 16 if bottleneck else 4)
    assert 0.1 < spikes.mean() < 0.9 and 0 < (spikes * shortcut).mean() < spikes.mean()
    wanted = {
        "add": spikes + shortcut,
        "and": spikes * shortcut,
        "iand": shortcut * (1 - spikes),
    }[connect]
    np.testing.assert_array_equal(to_numpy(block(x)), wanted)


def test_a_block_of_equal_shapes_connects_its_input(float64):
    x = plain.random_spikes(2, 4, 4, 6, 3)
    block = SEWBlock(3, connect="iand")
    block.build(x.shape)
    plain.randomize(block)
    assert block.shortcut is None
    spikes = plain.conv_bn_lif(plain.conv_bn_lif(x, block.units[0]), block.units[1])
    np.testing.assert_array_equal(to_numpy(block(x)), x * (1 - spikes))


@pytest.mark.backend_independent
def test_operations_are_those_of_all_units():
    for connect, factors in (("add", 0), ("and", 2)):
        block = SEWBlock(4, strides=2, connect=connect)
        block.build((None, 2, 4, 4, 3))
        first, second, shortcut, *products = block.computations()
        assert [c.macs for c in (first, second, shortcut)] == [
            2 * 4 * weights for weights in (9 * 3 * 4, 9 * 4 * 4, 3 * 4)
        ]
        # Each convolution its output; the first two their input.
        assert shortcut.kept == 2 * 4 * 4 and second.kept == 2 * shortcut.kept
        assert first.kept == 2 * 16 * 3 + shortcut.kept
        assert sum(each.kept for each in products) == factors * 2 * 4 * 4


@pytest.mark.backend_independent
def test_an_unknown_connection_is_refused():
    with pytest.raises(ValueError, match=r"'iand'\). Received: connect='xor'"):
        SEWBlock(4, connect="xor")

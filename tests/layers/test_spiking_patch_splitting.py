"""Spiking patch splitting against NumPy, for the chain of each family."""

import itertools

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import LIF, SpikingPatchSplitting

# The chains of the families: filters, pools, position unit, pre-activation.
CHAINS = {
    "spikformer": ((2, 4, 8), (None, "spikes", "spikes"), True, False),
    "spikformer with cml": ((2, 4, 8), (None, "potentials", "potentials"), True, False),
    "spikingformer": ((2, 4, 8, 8), (None, "spikes", "spikes", None), False, True),
    "spike-driven": ((2, 4, 8), (None, "spikes", "potentials"), True, True),
}
each_chain = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)


def num_weights(filters, position_unit, channels=3):
    widths = [channels, *filters, *filters[-1:] * position_unit]
    return sum(9 * a * b + 4 * b for a, b in itertools.pairwise(widths))


def test_spiking_patch_splitting_is_a_layer():
    kwargs = {
        "filters": [4, 8],
        "pools": ["spikes", "potentials"],
        "position_unit": False,
        "pre_activation": True,
        "time_steps": 3,
        "neuron": LIF(tau=3.0, v_threshold=0.5),
    }
    weights = num_weights((4, 8), False)
    check_layer(
        SpikingPatchSplitting, kwargs, (2, 1, 8, 12, 3), (2, 3, 2, 3, 8), weights
    )


def test_it_works_with_a_position_unit_behind_potentials():
    kwargs = {"filters": [4], "pools": [None], "pre_activation": True, "neuron": "plif"}
    weights = num_weights((4,), True) + 1
    check_run(SpikingPatchSplitting, kwargs, (2, 3, 4, 6, 3), (2, 3, 4, 6, 4), weights)


@each_chain
def test_it_equals_numpy(chain, float64):
    _, pools, position_unit, pre_activation = chain
    x = np.random.default_rng(0).normal(0.5, 1.0, (2, 4, 8, 16, 3))
    layer = SpikingPatchSplitting(*chain)
    layer.build(x.shape)
    assert layer.reduction == 4
    plain.randomize(layer)
    y = x
    for unit, pool in zip(layer.units, pools, strict=True):
        assert unit.max_pool == (pool == "potentials")
        is_last = unit is layer.units[-1]
        y = plain.conv_bn(y, unit)
        y = y if is_last and pre_activation else plain.lif(y)
        y = plain.max_pool(y) if pool == "spikes" else y
    if position_unit:
        shift = plain.conv_bn(plain.lif(y) if pre_activation else y, layer.position)
        shift = shift if pre_activation else plain.lif(shift)
        assert shift.any()
        y = y + shift
    assert y.shape == (2, 4, 2, 4, 8)
    np.testing.assert_allclose(to_numpy(layer(x)), y, rtol=1e-12, atol=1e-12)


@each_chain
def test_time_steps_equal_an_image_repeated_by_hand(chain, float64):
    image = np.random.default_rng(0).normal(size=(3, 1, 8, 16, 3))
    video = np.repeat(image, 4, axis=1)
    once = SpikingPatchSplitting(*chain, time_steps=4)
    every = SpikingPatchSplitting(*chain)
    once.build(image.shape)
    every.build(video.shape)
    plain.randomize(once)
    plain.randomize(every)
    y = to_numpy(once(image))
    assert y.any()
    np.testing.assert_array_equal(y, to_numpy(every(video)))


def test_its_operations_are_counted():
    layer = SpikingPatchSplitting((4, 8), ("spikes", "potentials"), time_steps=3)
    layer.build((None, 1, 8, 8, 2))
    first, second, position = layer.computations()
    # Values in, out, and kept for the pooling: all spikes of the first unit over three
    # steps, the pooled potentials of the second.
    assert (first.inputs, first.outputs, first.pooled) == (128, 256, 768)
    assert (second.inputs, second.outputs, second.pooled) == (192, 384, 96)
    assert (position.inputs, position.outputs, position.pooled) == (96, 96, 0)
    assert first.macs == 64 * 72 and second.macs == 3 * 16 * 288


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 8), ("spikes",)), r"for each of the filters\. Received: pools=\['spikes"),
        (((4,), ("means",)), r"one of \(None, .*Received: pools=\['means'\]"),
        (((4,), ("spikes",), True, True), "the last unit has no neuron"),
        (((), ()), r"at least one unit\. Received: filters=\[\]"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpikingPatchSplitting(*arguments)


def test_sizes_must_be_multiples_of_the_reduction():
    with pytest.raises(
        ValueError, match=r"multiples of 2\. Received: height=8, width=7"
    ):
        SpikingPatchSplitting((4,), ("spikes",)).build((1, 2, 8, 7, 3))

"""Max-Former's early mixer against NumPy."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, to_numpy

from keras_qkformer.layers import LIF, DepthwiseMixer

SHAPE = (2, 3, 4, 6, 8)


def test_the_mixer_is_a_layer():
    kwargs = {"kernel_size": 5, "neuron": LIF(tau=3.0)}
    check_layer(DepthwiseMixer, kwargs, SHAPE, SHAPE, 25 * 8 + 8 + 4 * 8)


def test_it_equals_numpy(float64):
    x = np.random.default_rng(0).normal(1.0, 1.0, SHAPE)
    layer = DepthwiseMixer(7)
    layer.build(x.shape)
    plain.randomize(layer)
    spikes = plain.lif(x)
    assert 0.1 < spikes.mean() < 0.9
    wanted = plain.conv_bn(spikes, layer.unit)
    np.testing.assert_allclose(to_numpy(layer(x)), wanted, rtol=1e-12, atol=1e-12)
    (found,) = layer.computations()
    assert found.macs == 3 * 4 * 6 * 49 * 8


def test_an_even_kernel_is_refused():
    with pytest.raises(
        ValueError, match=r"kernel_size must be odd. Received: kernel_s"
    ):
        DepthwiseMixer(4)

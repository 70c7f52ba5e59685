"""Pooling of spikes against NumPy."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, to_numpy

from keras_qkformer.layers import SpikeMaxPool


def test_pooling_is_a_layer():
    check_layer(SpikeMaxPool, {"size": 2}, (2, 3, 4, 6, 5), (2, 3, 2, 3, 5), 0)


def test_pooling_equals_numpy(float64):
    x = plain.random_spikes(2, 3, 4, 6, 5)
    np.testing.assert_array_equal(to_numpy(SpikeMaxPool()(x)), plain.max_pool(x))
    pool = SpikeMaxPool(size=2)
    windows = x.reshape(2, 3, 2, 2, 3, 2, 5)
    np.testing.assert_array_equal(to_numpy(pool(x)), windows.max((3, 5)))
    (found,) = pool.computations()
    assert (found.kept, found.macs) == (3 * 4 * 6 * 5, 0)


@pytest.mark.backend_independent
def test_pooling_refuses_other_windows_and_odd_sizes():
    with pytest.raises(ValueError, match=r"size must be 2 or 3\. Received: size=4"):
        SpikeMaxPool(size=4)
    with pytest.raises(
        ValueError, match=r"multiples of 2\. Received: height=4, width=5"
    ):
        SpikeMaxPool()(np.zeros((1, 2, 4, 5, 3), "float32"))

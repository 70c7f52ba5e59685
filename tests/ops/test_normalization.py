"""Statistics of a batch against NumPy in float64, in few and in many rows."""

import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keras_qkformer.ops.normalization import batch_statistics


@pytest.mark.parametrize("shape", [(1, 4), (7, 3), (6, 5, 4), (2, 4, 8, 8, 3)])
def test_statistics_equal_numpy(shape, float64):
    rng = np.random.default_rng(0)
    # Rows far from each other, as sums side by side would see them.
    rows = 10.0 * np.arange(np.prod(shape[:-1])).reshape((*shape[:-1], 1))
    x = rows + rng.normal(size=shape)
    axes = tuple(range(len(shape) - 1))
    mean, variance = batch_statistics(ops.convert_to_tensor(x))
    np.testing.assert_allclose(to_numpy(mean), x.mean(axes), rtol=1e-13)
    np.testing.assert_allclose(to_numpy(variance), x.var(axes), rtol=1e-11, atol=1e-13)


def test_many_rows_in_float32_are_added_without_a_drift():
    """One row after the other gives means that are off by 7e-5."""
    x = 30 + np.random.default_rng(0).normal(size=(2**15, 16)).astype("float32")
    mean, variance = batch_statistics(ops.convert_to_tensor(x))
    wide = x.astype("float64")
    np.testing.assert_allclose(to_numpy(mean), wide.mean(0), rtol=0, atol=5e-5)
    np.testing.assert_allclose(to_numpy(variance), wide.var(0), rtol=0, atol=1e-5)


def test_statistics_of_rounded_values_are_not_rounded_to_16_bits():
    x = np.random.default_rng(0).normal(2.0, 1.0, (2, 4, 8, 8, 3))
    x = ops.cast(ops.convert_to_tensor(x), "bfloat16")
    wide = to_numpy(ops.cast(x, "float32")).astype("float64").reshape(-1, 3)
    mean, variance = batch_statistics(x)
    np.testing.assert_allclose(to_numpy(mean), wide.mean(0), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(variance), wide.var(0), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_variance_of_a_constant_is_not_negative(dtype):
    _, variance = batch_statistics(ops.full((1000, 3), 1234.567, dtype))
    assert (to_numpy(variance) >= 0).all()

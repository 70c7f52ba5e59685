"""Convolution and pooling against NumPy, gradients included."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import gradients, to_numpy
from keras import ops

from keras_qkformer.ops.spatial import (
    conv2d,
    max_filter2d,
    max_pool2d,
    max_pool_windows,
    stack_steps,
)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    ("size", "strides"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 1), (5, 2)]
)
def test_convolution_equals_numpy(size, strides, depthwise, float64):
    rng = np.random.default_rng(0)
    channels = (1, 3) if depthwise else (3, 5)
    x, kernel = rng.normal(size=(2, 4, 6, 3)), rng.normal(size=(size, size, *channels))
    y = to_numpy(conv2d(ops.convert_to_tensor(x), kernel, strides))
    np.testing.assert_allclose(y, plain.conv(x, kernel, strides), rtol=1e-12)


@pytest.mark.parametrize(("size", "strides"), [(1, 1), (1, 2), (3, 2)])
def test_every_time_step_is_convolved_and_pooled_alone(size, strides, float64):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 4, 8, 3)), rng.normal(size=(size, size, 3, 5))
    y = conv2d(stack_steps(ops.convert_to_tensor(x), kernel), kernel, strides)
    y = ops.reshape(y, (2, 3, 4 // strides, 8 // strides, 5))
    each = [plain.conv(x[:, t], kernel, strides) for t in range(3)]
    np.testing.assert_allclose(to_numpy(y), np.stack(each, 1), rtol=1e-12)
    pooled = max_pool2d(ops.convert_to_tensor(x))
    each = [plain.max_pool(x[:, t]) for t in range(3)]
    np.testing.assert_array_equal(to_numpy(pooled), np.stack(each, 1))


def max_pool_grad(x, upstream, strides=2):
    """The first largest value of a window, row by row, gets its gradient."""
    grad = np.zeros_like(x)
    for n, i, j, c in np.ndindex(upstream.shape):
        i_x, j_x = strides * i, strides * j
        top, left = max(i_x - 1, 0), max(j_x - 1, 0)
        window = x[n, top : i_x + 2, left : j_x + 2, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        grad[n, top + row, left + column, c] += upstream[n, i, j, c]
    return grad


@pytest.mark.parametrize("values", [3, 1000])  # Few: many are equal.
def test_max_pooling_and_its_gradient_equal_numpy(values, float64):
    rng = np.random.default_rng(0)
    x = rng.integers(-values, values, (2, 8, 6, 3)).astype("float64")
    upstream = rng.normal(size=(2, 4, 3, 3))

    def loss(x):
        y = max_pool2d(x)
        return ops.sum(ops.multiply(y, upstream)), y

    _, y, (grad,) = gradients(loss, x)
    np.testing.assert_array_equal(to_numpy(y), plain.max_pool(x))
    np.testing.assert_allclose(grad, max_pool_grad(x, upstream), rtol=1e-12)


def test_filter_of_maxima_and_its_gradient_equal_numpy(float64):
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 3, (2, 4, 3, 2)).astype("float64")
    upstream = rng.normal(size=x.shape)

    def loss(x):
        y = max_filter2d(x)
        return ops.sum(ops.multiply(y, upstream)), y

    _, y, (grad,) = gradients(loss, x)
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    shifted = [wide[:, i : i + 4, j : j + 3] for i in range(3) for j in range(3)]
    np.testing.assert_array_equal(to_numpy(y), np.max(shifted, axis=0))
    np.testing.assert_allclose(grad, max_pool_grad(x, upstream, 1), rtol=1e-12)


def test_gradient_of_2x2_windows_goes_to_the_first_of_equal_maxima():
    x = np.array([[2.0, 1, 0, 0], [2, 2, 0, 0], [0, 1, 3, 0], [1, 0, 4, 4]], "float32")

    def loss(x):
        y = max_pool_windows(ops.reshape(x, (1, 4, 4, 1)), 2, size=2)
        return ops.sum(y), y

    _, y, (grad,) = gradients(loss, x)
    np.testing.assert_array_equal(to_numpy(y)[0, :, :, 0], [[2, 0], [1, 4]])
    wanted = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_array_equal(grad, wanted)


def test_gradient_of_a_strided_convolution_of_few_channels_is_there():
    """PyTorch's own, with memory in this order, ends the process."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 8, 16, 4)).astype("float32")
    kernel = rng.normal(size=(1, 1, 4, 16)).astype("float32")
    for _ in range(20):
        _, _, (x_grad, kernel_grad) = gradients(
            lambda x, kernel: (ops.sum(conv2d(x, kernel, 2)), None), x, kernel
        )
    wanted = np.zeros_like(x)
    wanted[:, ::2, ::2] = kernel.sum((0, 1, 3))
    np.testing.assert_allclose(x_grad, wanted, rtol=1e-5)
    wanted = x[:, ::2, ::2].sum((0, 1, 2))[:, None] * np.ones(16)
    np.testing.assert_allclose(kernel_grad[0, 0], wanted, rtol=1e-3)

"""Convolution and pooling of channels-last maps, as fast as each backend can.

Keras asks PyTorch for channels-first memory, and copies every map there and back. A
transposed view is channels-last memory to PyTorch, which it computes on as it is.
"""

import functools
import math

import numpy as np
from keras import backend, ops


def conv2d(x, kernel, strides=1):
    """Convolution, padded with zeros so that `strides` divide the size.

    Args:
        x: float tensor `(batch, height, width, channels)`.
        kernel: float tensor `(rows, columns, channels, filters)`.
        strides: int > 0.

    Returns:
        Tensor `(batch, height / strides, width / strides, filters)`.

    Example:
    >>> conv2d(ops.ones((2, 4, 4, 3)), ops.ones((3, 3, 3, 8)), 2).shape
    (2, 2, 2, 8)
    """
    if backend.backend() == "torch" and kernel.shape[0] == 1:
        # With strides and less than 8 channels, the gradient of PyTorch 2.13 for
        # channels-last memory writes beyond its own.
        x, strides = x[:, ::strides, ::strides], 1
    convolve = functools.partial(
        ops.conv, kernel=kernel, strides=strides, padding="same"
    )
    return _channels_last(convolve, x)


def max_pool2d(x):
    """3x3 max pooling of stride 2, padded by one row and column as in PyTorch.

    Of equal values, the first in a window gets the gradient.

    Args:
        x: float tensor `(batch, height, width, channels)`, height and width even.

    Returns:
        Tensor `(batch, height / 2, width / 2, channels)`.

    Example:
    >>> ops.convert_to_numpy(max_pool2d(ops.reshape(ops.arange(4.0), (1, 2, 2, 1))))
    array([[[[3.]]]], dtype=float32)
    """
    if backend.backend() == "jax":
        return _max_pool_with_own_gradient(x)
    return _max_pool(x)


def _channels_last(function, x):
    """`function(x, data_format=...)` without a copy of the map."""
    if backend.backend() != "torch":
        return function(x, data_format="channels_last")
    y = function(ops.transpose(x, (0, 3, 1, 2)), data_format="channels_first")
    return ops.transpose(y, (0, 2, 3, 1))


def _max_pool(x):
    # PyTorch pads both ends with minus infinity; on even sizes only the first row and
    # column are ever read.
    x = ops.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)), constant_values=-math.inf)
    pool = functools.partial(ops.max_pool, pool_size=3, strides=2, padding="valid")
    return _channels_last(pool, x)


def _max_pool_with_own_gradient(x):
    """XLA's gradient is slow on CPUs, and on several of them it gathers the maps."""

    @ops.custom_gradient
    def pool(x):
        def grad(upstream):
            rows = _pool_along(x, 2)
            upstream = _pool_along_grad(upstream, rows, _pool_along(rows, 1), 1)
            return _pool_along_grad(upstream, x, rows, 2)

        return _max_pool(x), grad

    return pool(x)


def _pool_along(x, axis):
    """Largest of each value at an even place and its neighbours along an axis."""
    before, here, after = _neighbours(x, axis)
    return ops.maximum(ops.maximum(before, here), after)


def _pool_along_grad(upstream, x, y, axis):
    """dL/dx from dL/dy, y being `_pool_along(x, axis)`."""
    before, here, _ = _neighbours(x, axis)
    from_before = before == y
    from_here = ops.logical_and(here == y, ops.logical_not(from_before))
    from_after = ops.logical_not(ops.logical_or(from_before, from_here))
    before, here, after = (
        ops.where(chosen, upstream, ops.zeros_like(upstream))
        for chosen in (from_before, from_here, from_after)
    )
    # What stands before a place is what stands after the place in front of it.
    after = after + ops.concatenate(
        [_slice(before, axis, 1, None), ops.zeros_like(_slice(before, axis, 0, 1))],
        axis,
    )
    # By choice rather than by `stack`, which TPUs write and then move.
    first = np.reshape([True, False], (2, *[1] * (3 - axis)))
    here, after = (ops.expand_dims(each, axis + 1) for each in (here, after))
    return ops.reshape(ops.where(first, here, after), ops.shape(x))


def _neighbours(x, axis):
    """The values before, at and after the even places; before the first, -infinity."""
    here, after = _slice(x, axis, 0, None, 2), _slice(x, axis, 1, None, 2)
    border = ops.full_like(_slice(after, axis, 0, 1), -math.inf)
    before = ops.concatenate([border, _slice(after, axis, 0, -1)], axis)
    return before, here, after


def _slice(x, axis, *bounds):
    return x[(*[slice(None)] * axis, slice(*bounds))]

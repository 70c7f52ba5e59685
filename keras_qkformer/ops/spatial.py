"""Convolution and pooling of channels-last maps."""

import math

from keras import ops

from keras_qkformer.ops.by_backend import by_backend


@by_backend
def conv2d(x, kernel, strides=1):
    """Convolve, with zeros around the map so that only `strides` change its size.

    Args:
        x: float tensor `(batch, height, width, channels)`, height and width multiples
            of `strides`.
        kernel: float tensor `(rows, columns, channels, filters)`, rows and columns odd
            and equal. `(rows, columns, 1, channels)` is depthwise: each channel has a
            kernel of its own.
        strides: int > 0.

    Returns:
        Tensor `(batch, height / strides, width / strides, filters)`.

    Example:
    >>> conv2d(ops.ones((2, 4, 4, 3)), ops.ones((3, 3, 3, 8)), 2).shape
    (2, 2, 2, 8)
    """
    around = kernel.shape[0] // 2
    if strides == 1 or around == 0:
        return convolve(x, kernel, strides, "same")
    # PyTorch pads both ends alike; "same" would pad more behind than in front.
    x = ops.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    return convolve(x, kernel, strides, "valid")


@by_backend
def stack_steps(x, kernel, pools=False):
    """Join time with another axis, so that maps of all steps are convolved together.

    Args:
        x: float tensor `(batch, time, height, width, channels)`, all but the batch
            known.
        kernel: tensor for `conv2d`.
        pools: bool. Whether `max_pool2d` follows the convolution.

    Returns:
        Tensor that `conv2d` and `max_pool2d` take. `(batch, time, ...)` is the shape to
        bring their result to.

    Example:
    >>> stack_steps(ops.ones((2, 4, 6, 6, 3)), ops.ones((3, 3, 3, 8))).shape
    (8, 6, 6, 3)
    """
    time, height, width, channels = x.shape[1:]
    # For 1x1 kernels, stack the time steps along the height: merging time into the
    # batch would force a relayout on TPUs, which hold a time step's examples
    # together.
    rows = time * height if kernel.shape[0] == 1 and not pools else height
    return ops.reshape(x, (-1, rows, width, channels))


@by_backend
def convolve(x, kernel, strides, padding):
    """Convolve with the padding of Keras.

    Args:
        x: see `conv2d`.
        kernel: see `conv2d`.
        strides: int > 0.
        padding: `"same"` or `"valid"`.

    Returns:
        Tensor `(batch, rows, columns, filters)`.
    """
    return ops.conv(
        x, kernel, strides=strides, padding=padding, data_format="channels_last"
    )


@by_backend
def max_pool2d(x):
    """Pool by 3x3 maxima with stride 2, padded by one row and column as in PyTorch.

    The gradient of a window goes to the first of equal maxima.

    Args:
        x: float tensor `(..., height, width, channels)`, height and width even.

    Returns:
        Tensor `(..., height / 2, width / 2, channels)`.

    Example:
    >>> ops.convert_to_numpy(max_pool2d(ops.reshape(ops.arange(4.0), (1, 2, 2, 1))))
    array([[[[3.]]]], dtype=float32)
    """
    # PyTorch pads both ends with minus infinity; on even sizes only the first row and
    # column are ever read.
    steps, maps = x.shape[1:-3], x.shape[-3:]
    x = ops.reshape(x, (-1, *maps))
    x = ops.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)), constant_values=-math.inf)
    y = max_pool_windows(x)
    return ops.reshape(y, (-1, *steps, *y.shape[1:]))


def max_filter2d(x):
    """Replace every value by the largest within 3x3, which keeps the size of the map.

    The gradient of a window goes to the first of equal maxima.

    Args:
        x: float tensor `(batch, height, width, channels)`.

    Returns:
        Tensor like `x`.

    Example:
    >>> ops.convert_to_numpy(max_filter2d(ops.reshape(ops.arange(4.0), (1, 1, 4, 1))))[
    ...     0, 0, :, 0
    ... ]
    array([1., 2., 3., 3.], dtype=float32)
    """
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-math.inf)
    return max_pool_windows(x, 1)


@by_backend
def max_pool_windows(x, strides=2, size=3):
    """Pool by maxima, without padding.

    The gradient of a window goes to the first of equal maxima.

    Args:
        x: float tensor `(batch, height, width, channels)`.
        strides: int > 0.
        size: int > 0. Rows and columns of a window.

    Returns:
        Tensor `(batch, rows, columns, channels)`, one value per whole window.
    """
    return ops.max_pool(
        x,
        pool_size=size,
        strides=strides,
        padding="valid",
        data_format="channels_last",
    )

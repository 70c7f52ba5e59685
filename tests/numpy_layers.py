"""The parts of the model in plain NumPy, in inference: what layers must equal.

A unit here is a layer of ours whose weights are read; the mathematics is written anew.
"""

import numpy as np
from harness import to_numpy


def randomize(layer):
    """Give a built layer weights and moving statistics without any special value."""
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        low, high = {
            "gamma": (0.5, 2.0),
            "beta": (0.2, 1.4),
            "moving_variance": (0.2, 0.8),
        }.get(weight.name, (-0.5, 0.5))
        weight.assign(rng.uniform(low, high, weight.shape))


def random_spikes(*shape):
    """Random zeros and ones, as many of each."""
    return np.random.default_rng(1).integers(0, 2, shape).astype("float64")


def lif(x, v_threshold=1.0, tau=2.0):
    """Leaky integrate-and-fire over axis 1 with hard reset to 0."""
    v, spikes = np.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        v = v + (x[:, t] - v) / tau
        spikes.append(v >= v_threshold)
        v = np.where(spikes[-1], 0.0, v)
    return np.stack(spikes, 1).astype(x.dtype)


def conv(x, kernel, strides=1):
    """Convolution of `(..., height, width, channels)`, padded as in PyTorch.

    A kernel of one channel for several convolves each of them alone.
    """
    if kernel.shape[2] != x.shape[-1]:
        kernel = kernel * np.eye(x.shape[-1])
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    height, width = x.shape[-3:-1]
    x = np.pad(x, [(0, 0)] * (x.ndim - 3) + [(pad, pad), (pad, pad), (0, 0)])
    return sum(
        x[..., i : i + height : strides, j : j + width : strides, :] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def batch_norm(x, layer):
    """Batch normalization with the moving statistics of `layer`."""
    mean, variance, gamma, beta = (
        to_numpy(weight.value)
        for weight in (
            layer.moving_mean,
            layer.moving_variance,
            layer.gamma,
            layer.beta,
        )
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def max_pool(x):
    """Maximum over 3x3, stride 2, of what lies inside the image."""
    *shape, height, width, channels = x.shape
    y = np.empty((*shape, height // 2, width // 2, channels))
    for i in range(height // 2):
        for j in range(width // 2):
            window = x[
                ..., max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2, :
            ]
            y[..., i, j, :] = window.max((-3, -2))
    return y


def conv_bn(x, unit):
    """A `ConvBNLIF` without its neuron."""
    y = conv(x, to_numpy(unit.conv.kernel.value), unit.strides)
    if unit.use_bias:
        y = y + to_numpy(unit.conv.bias.value)
    y = batch_norm(y, unit.norm)
    return max_pool(y) if unit.max_pool else y


def conv_bn_lif(x, unit):
    """A `ConvBNLIF`."""
    return lif(conv_bn(x, unit))


def split_heads(x, num_heads):
    """`(batch, time, height, width, channels)` to `(..., heads, head channels)`."""
    return x.reshape(*x.shape[:-1], num_heads, -1)

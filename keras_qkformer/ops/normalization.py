"""Batch normalization as a part of other operations, in few passes over memory."""

import dataclasses
import math
from typing import Any

from keras import backend, ops

from keras_qkformer.ops.by_backend import by_backend, custom_gradient


def wide_dtype(dtype):
    """Type for potentials and statistics: `dtype`, but float32 for 16-bit types.

    `keras.backend.result_type` will not do: off TensorFlow it turns float64 into
    float32, whatever `floatx` says.
    """
    dtype = backend.standardize_dtype(dtype)
    return "float32" if dtype in ("bfloat16", "float16") else dtype


def batch_statistics(x):
    """Mean and biased variance of each channel of a batch.

    In float32 or wider, and over all replicas of TensorFlow's `tf.distribute`. The
    backward pass keeps x alone.

    Args:
        x: float tensor `(..., channels)`.

    Returns:
        `(mean, variance)`, both `(channels,)`.

    Example:
    >>> mean, variance = batch_statistics(ops.array([[1.0], [3.0]]))
    >>> float(mean[0]), float(variance[0])
    (2.0, 1.0)
    """
    dtype = wide_dtype(x.dtype)

    @custom_gradient
    def statistics(x):
        wide = ops.cast(x, dtype)
        count = count_per_channel(wide)
        mean, variance = batch_moments(wide)

        def grad(upstream):
            mean_grad, variance_grad = ops.unstack(mean_of_replicas(upstream) / count)
            centred = ops.cast(x, dtype) - mean
            return ops.cast(mean_grad + 2.0 * variance_grad * centred, x.dtype)

        return ops.stack([mean, variance]), grad

    mean, variance = ops.unstack(statistics(x))
    return mean, variance


@by_backend
def batch_moments(x):
    """Mean and biased variance of each channel: the values of `batch_statistics`.

    Args:
        x: float tensor `(..., channels)`, float32 or wider.
    """
    axes = tuple(range(len(x.shape) - 1))
    count = count_per_channel(x)
    # Not `ops.moments`: Keras 3.15 on PyTorch takes the difference of two large
    # numbers, so that a constant channel can have a negative variance.
    mean = mean_of_replicas(ops.sum(x, axes) / count)
    return mean, mean_of_replicas(ops.sum(ops.square(x - mean), axes) / count)


def count_per_channel(x):
    """How many values `(..., channels)` has of each channel, to divide a sum by."""
    count = math.prod(ops.shape(x)[:-1])
    # On TensorFlow the batch size may be unknown.
    return count if isinstance(count, int) else ops.cast(count, x.dtype)


@by_backend
def mean_of_replicas(x):
    """The mean of a tensor over the devices that each have a share of the batch."""
    return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalization:
    """Batch normalization of a neuron's input, in the same operation.

    The neuron then receives `gamma * (x - mean) / sqrt(variance + epsilon) + beta`
    over the last axis of x. The backward pass keeps x and makes the rest again.

    Attributes:
        mean: tensor `(channels,)`.
        variance: tensor `(channels,)`.
        gamma: tensor `(channels,)`.
        beta: tensor `(channels,)`.
        epsilon: float > 0.
        of_input: bool. Whether mean and (biased) variance are those of x over all other
            axes: the gradient that x has through them is then made in the same passes,
            and they have none of their own.
    """

    mean: Any
    variance: Any
    gamma: Any
    beta: Any
    epsilon: float
    of_input: bool = False

    def affine(self):
        """Scale and offset: the neuron receives `x * scale + offset`."""
        scale = self.gamma * ops.rsqrt(self.variance + self.epsilon)
        return scale, self.beta - self.mean * scale

    def grads(self, xs, grads, gain):
        """dL/dx, and a dict of dL/d mean, variance, gamma and beta.

        Of what the neuron receives it is `gain * grad`. x, its gradient and `grad` are
        lists of parts. Few passes over memory: the rest is arithmetic on vectors of
        channels.
        """
        axes = tuple(range(len(xs[0].shape) - 1))
        inverse = ops.rsqrt(self.variance + self.epsilon)
        centred = [x - self.mean for x in xs]
        beta_grad = gain * sum(ops.sum(grad, axes) for grad in grads)
        gamma_grad = (
            gain
            * inverse
            * sum(
                ops.sum(grad * x, axes) for grad, x in zip(grads, centred, strict=True)
            )
        )
        scale = self.gamma * inverse
        x_grads = [grad * (gain * scale) for grad in grads]
        mean_grad, variance_grad = (
            -scale * beta_grad,
            -0.5 * scale * inverse * gamma_grad,
        )
        if self.of_input:
            count = sum(count_per_channel(x) for x in xs)
            slope = mean_of_replicas(gamma_grad * inverse / count)
            offset = mean_of_replicas(beta_grad / count)
            x_grads = [
                grad - (x * (scale * slope) + scale * offset)
                for grad, x in zip(x_grads, centred, strict=True)
            ]
            mean_grad = variance_grad = ops.zeros_like(mean_grad)
        return x_grads, {
            "mean": mean_grad,
            "variance": variance_grad,
            "gamma": gamma_grad,
            "beta": beta_grad,
        }

"""Batch normalization inside other operations, in few passes over memory."""

import dataclasses
import math
from typing import Any

from keras import backend, ops

from keras_qkformer.ops.by_backend import by_backend, custom_gradient


def wide_dtype(dtype):
    """Return the dtype of potentials and statistics: float32 for 16-bit dtypes.

    `keras.backend.result_type` does not serve: except on TensorFlow, it turns float64
    into float32, whatever `floatx` says.

    Args:
        dtype: floating dtype, or its name.

    Returns:
        str. `"float32"` for bfloat16 and float16, else the name of `dtype`.
    """
    dtype = backend.standardize_dtype(dtype)
    return "float32" if dtype in ("bfloat16", "float16") else dtype


def batch_statistics(x):
    """Compute the mean and the biased variance of each channel of a batch.

    They are float32 or wider, and include all replicas of `tf.distribute`. The backward
    pass keeps only `x`.

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
        moments = batch_moments if x.dtype == wide.dtype else rounded_moments
        mean, variance = moments(wide, count)

        def grad(upstream):
            mean_grad, variance_grad = ops.unstack(mean_of_replicas(upstream) / count)
            centred = ops.cast(x, dtype) - mean
            return ops.cast(mean_grad + 2.0 * variance_grad * centred, x.dtype)

        return ops.stack([mean, variance]), grad

    mean, variance = ops.unstack(statistics(x))
    return mean, variance


@by_backend
def batch_moments(x, count):
    """Compute the values of `batch_statistics`.

    Args:
        x: float tensor `(..., channels)`, float32 or wider.
        count: number of values of each channel, see `count_per_channel`.

    Returns:
        `(mean, variance)`, both `(channels,)`.
    """
    axes = tuple(range(len(x.shape) - 1))
    # Not `ops.moments`: on PyTorch, Keras 3.15 subtracts two large numbers, so the
    # variance of a constant channel can be negative.
    mean = mean_of_replicas(ops.sum(x, axes) / count)
    return mean, mean_of_replicas(ops.sum(ops.square(x - mean), axes) / count)


@by_backend
def rounded_moments(x, count):
    """Compute the values of `batch_statistics` from values rounded to 16 bits.

    Args:
        x: see `batch_moments`.
        count: see there.

    Returns:
        See there.
    """
    return batch_moments(x, count)


def count_per_channel(x):
    """Count the values of each channel.

    Args:
        x: tensor `(..., channels)`.

    Returns:
        int, or a scalar tensor of the dtype of `x` if the batch size is unknown.
    """
    count = math.prod(ops.shape(x)[:-1])
    # On TensorFlow the batch size may be unknown.
    return count if isinstance(count, int) else ops.cast(count, x.dtype)


@by_backend
def mean_of_replicas(x):
    """Average a tensor over the replicas that each see a part of the batch.

    Only TensorFlow has replicas; other backends see the whole batch.

    Args:
        x: tensor.

    Returns:
        Tensor of the shape of `x`.
    """
    return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizationOf:
    """Makes a `Normalization` of its tensors.

    Attributes:
        epsilon: see `Normalization`.
        of_input: see there.
    """

    epsilon: float
    of_input: bool

    def __call__(self, **tensors):
        return Normalization(**tensors, epsilon=self.epsilon, of_input=self.of_input)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalization:
    """Batch normalization that a neuron applies to its input, in one operation.

    The neuron receives `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with
    channels on the last axis of x. The backward pass keeps x and recomputes the rest.

    Attributes:
        mean: tensor `(channels,)`.
        variance: tensor `(channels,)`.
        gamma: tensor `(channels,)`.
        beta: tensor `(channels,)`.
        epsilon: float > 0.
        of_input: bool. Whether `mean` and `variance` are the mean and the biased
            variance of x over all other axes. If true, the gradient of x includes the
            part through them, and their own gradients are 0.
    """

    mean: Any
    variance: Any
    gamma: Any
    beta: Any
    epsilon: float
    of_input: bool = False

    def affine(self):
        """Return `(scale, offset)`: the neuron receives `x * scale + offset`."""
        scale = self.gamma * ops.rsqrt(self.variance + self.epsilon)
        return scale, self.beta - self.mean * scale

    def grads(self, xs, grads, gain):
        """Compute dL/dx, and dL/d of mean, variance, gamma and beta.

        `gain * grad` is the gradient with respect to the neuron's input. Only the sums
        over `xs` and `grads` and the result pass over memory; the rest is arithmetic on
        vectors of channels.

        Args:
            xs: list of tensors `(..., channels)`: x in parts.
            grads: list of tensors with the shapes of `xs`.
            gain: float or scalar tensor.

        Returns:
            `(x_grads, others)`: a list like `xs`, and a dict from `"mean"`,
            `"variance"`, `"gamma"` and `"beta"` to tensors `(channels,)`.
        """
        axes = tuple(range(len(xs[0].shape) - 1))
        centred = [x - self.mean for x in xs]
        (factor, slope, offset), others = self.vector_grads(
            sum(ops.sum(grad, axes) for grad in grads),
            sum(
                ops.sum(grad * x, axes) for grad, x in zip(grads, centred, strict=True)
            ),
            gain,
            sum(count_per_channel(x) for x in xs),
        )
        x_grads = [grad * factor for grad in grads]
        if self.of_input:
            x_grads = [
                grad - (x * slope + offset)
                for grad, x in zip(x_grads, centred, strict=True)
            ]
        return x_grads, others

    def vector_grads(self, grad_sum, product_sum, gain, count):
        """Compute what `grads` needs between its sums and its result.

        Args:
            grad_sum: tensor `(channels,)`: sum of `grad` of `grads`.
            product_sum: tensor `(channels,)`: sum of `grad * (x - mean)`.
            gain: see `grads`.
            count: number of values of each channel.

        Returns:
            `((factor, slope, offset), others)`: vectors of channels with which dL/dx is
            `grad * factor - ((x - mean) * slope + offset)`, and a dict as in `grads`.
        """
        inverse = ops.rsqrt(self.variance + self.epsilon)
        scale = self.gamma * inverse
        beta_grad, gamma_grad = gain * grad_sum, gain * inverse * product_sum
        if self.of_input:
            slope = scale * mean_of_replicas(gamma_grad * inverse / count)
            offset = scale * mean_of_replicas(beta_grad / count)
            mean_grad = variance_grad = ops.zeros_like(beta_grad)
        else:
            slope = offset = ops.zeros_like(beta_grad)
            mean_grad = -scale * beta_grad
            variance_grad = -0.5 * scale * inverse * gamma_grad
        return (gain * scale, slope, offset), {
            "mean": mean_grad,
            "variance": variance_grad,
            "gamma": gamma_grad,
            "beta": beta_grad,
        }

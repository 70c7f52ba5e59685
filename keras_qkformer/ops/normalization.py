"""Batch normalization as a part of other operations, in few passes over memory."""

import dataclasses
import importlib
import math
from typing import Any

from keras import backend, ops


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
    axes = tuple(range(len(x.shape) - 1))
    dtype = wide_dtype(x.dtype)

    @ops.custom_gradient
    def statistics(x):
        wide = ops.cast(x, dtype)
        count = count_per_channel(wide)
        if backend.backend() == "torch" and x.device.type == "cpu":
            mean, variance = _moments_on_torch(wide)
        else:
            # Not `ops.moments`: on PyTorch it takes the difference of two large
            # numbers, so that a constant channel can have a negative variance.
            mean = mean_of_replicas(ops.sum(wide, axes) / count)
            variance = ops.sum(ops.square(wide - mean), axes) / count

        def grad(*args, upstream=None):
            # TensorFlow and JAX pass the upstream gradient by position.
            (upstream,) = args if upstream is None else (upstream,)
            mean_grad, variance_grad = ops.unstack(mean_of_replicas(upstream) / count)
            centred = ops.cast(x, dtype) - mean
            return ops.cast(mean_grad + 2.0 * variance_grad * centred, x.dtype)

        return ops.stack([mean, mean_of_replicas(variance)]), grad

    mean, variance = ops.unstack(statistics(x))
    return mean, variance


def _moments_on_torch(x):
    """Mean and biased variance by what PyTorch's own BatchNorm takes them with.

    It reads x twice and writes nothing, but adds up one row after the other, with the
    rounding errors of such a sum. So up to 64 sums run side by side.
    """
    # By its name, because the models need nothing but Keras.
    torch = importlib.import_module("torch")
    channels = x.shape[-1]
    rows = x.numel() // channels
    groups = math.gcd(rows, 64)
    x = x.reshape(rows // groups, groups * channels)
    means, variances = torch.batch_norm_update_stats(x, None, None, 0.0)
    means, variances = (m.reshape(groups, channels) for m in (means, variances))
    mean = means.mean(0)
    return mean, variances.mean(0) + torch.square(means - mean).mean(0)


def count_per_channel(x):
    """How many values `(..., channels)` has of each channel, to divide a sum by."""
    count = math.prod(ops.shape(x)[:-1])
    # On TensorFlow the batch size may be unknown.
    return count if isinstance(count, int) else ops.cast(count, x.dtype)


def mean_of_replicas(x):
    """The mean of a tensor over the replicas of TensorFlow's `tf.distribute`.

    Where there are none it is the tensor: on JAX an array is whole, however many
    devices hold it.
    """
    if backend.backend() != "tensorflow":
        return x
    # By its name, because the models need nothing but Keras.
    distribute = importlib.import_module("tensorflow").distribute
    if distribute.get_strategy().num_replicas_in_sync == 1:
        return x
    replica = distribute.get_replica_context()
    if replica is None:  # Where a model is built, all replicas are one.
        return x
    return replica.all_reduce(distribute.ReduceOp.MEAN, x)


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

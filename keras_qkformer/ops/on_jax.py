"""Every exception for JAX, each with its reason. See `by_backend.py`."""

import math
import os

import jax
import numpy as np
from keras import StatelessScope, distribution, ops, remat


def apply_neuron(general, neuron, tensors, return_state, normalized):
    """Run the neuron by kernels on TPUs: see `neuron_on_tpu.py`.

    `KERAS_QKFORMER_KERNELS=0` in the environment disables them.

    Args:
        general: `neuron_passes.apply_neuron` for all backends.
        neuron: see there.
        tensors: see there.
        return_state: see there.
        normalized: see there.

    Returns:
        The output of `general`.
    """
    # Imports this module.
    from keras_qkformer.ops import neuron_on_tpu

    devices, mesh, axis = placement()
    if (
        devices[0].platform == "tpu"
        and os.environ.get("KERAS_QKFORMER_KERNELS") != "0"
        and (mesh is not None or len(devices) == 1)
        and neuron_on_tpu.fits(neuron, tensors, return_state, len(devices))
    ):
        return neuron_on_tpu.run(neuron, tensors, normalized, mesh, axis)
    return general(neuron, tensors, return_state, normalized)


def placement():
    """Return the devices that compute, and how they share a batch.

    Returns:
        `(devices, mesh, axis)`: list of JAX devices, and the `jax.sharding.Mesh` along
        whose `axis` the batch is split; `None` twice unless Keras splits batches alone.
    """
    placed = distribution.distribution()
    if placed is None:
        return jax.devices(), None, None
    mesh = placed.device_mesh.backend_mesh
    devices = list(mesh.devices.flat)
    if isinstance(placed, distribution.DataParallel):
        return devices, mesh, placed.batch_dim_name
    return devices, None, None


def rounded_moments(general, x, count):
    """Sum values and squares in one pass, which XLA makes a part of the convolution.

    In two passes, XLA would write the sums of the convolution in float32 and round them
    afterwards, because the statistics may be of more exact values. The cancellation in
    the difference of squares is below the error of rounding `x` itself.

    Args:
        general: `normalization.rounded_moments` for all backends.
        x: see there.
        count: see there.

    Returns:
        `(mean, variance)`, both `(channels,)`.
    """
    axes = tuple(range(len(x.shape) - 1))
    mean = ops.sum(x, axes) / count
    square = ops.sum(ops.square(x), axes) / count
    return mean, ops.maximum(square - ops.square(mean), 0.0)


def stack_steps(general, x, kernel, pools=False):
    """On TPUs, leave time as an axis of its own, unless each value is alone.

    TPUs hold the examples of a place together: time as a part of the batch would have
    to be put there before each convolution and taken out for each neuron.

    Args:
        general: `spatial.stack_steps` for all backends.
        x: see there.
        kernel: see there.
        pools: see there.

    Returns:
        Tensor `(batch, [time,] height, width, channels)`.
    """
    size, depthwise = kernel.shape[0], kernel.shape[2] != x.shape[-1]
    if size == 1 or depthwise or placement()[0][0].platform != "tpu":
        return general(x, kernel, pools)
    return x


def conv2d(general, x, kernel, strides=1):
    """Convolve (time, height, width), where time is an axis, by one step of time.

    Args:
        general: `spatial.conv2d` for all backends.
        x: float tensor `(batch, [time,] height, width, channels)`, see `stack_steps`.
        kernel: see there.
        strides: see there.

    Returns:
        Tensor `(batch, [time,] rows, columns, filters)`.
    """
    if x.ndim == 4:
        return general(x, kernel, strides)
    around = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        ops.expand_dims(kernel, 0),
        (1, strides, strides),
        ((0, 0), (around, around), (around, around)),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def apply_passes(general, forward, backward, tensors):
    """Recompute the potentials in the backward pass.

    In JAX 0.10, XLA sees that both passes compute the same potentials, and would store
    those of the forward pass, in 32 bits, instead of recomputing them.

    Args:
        general: `neuron_passes.apply_passes` for all backends.
        forward: see there.
        backward: see there.
        tensors: see there.

    Returns:
        The output of `forward`.
    """
    names = tuple(tensors)

    def sequence(*values):
        return general(forward, backward, dict(zip(names, values, strict=True)))

    return remat(sequence)(*tensors.values())


def max_pool2d(general, x):
    """Pool with a custom gradient made of comparisons, any time axis left in place.

    The gradient of JAX 0.10 is slow on CPUs, and gathers the maps where several devices
    hold parts of them.

    Args:
        general: `spatial.max_pool2d` for all backends.
        x: see there.

    Returns:
        Tensor `(..., height / 2, width / 2, channels)`.
    """
    before = x.ndim - 3
    window, strides = ((*[1] * before, n, n, 1) for n in (3, 2))
    padding = (*[(0, 0)] * before, (1, 0), (1, 0), (0, 0))

    @ops.custom_gradient
    def pool(x):
        def grad(upstream):
            rows = _pool_along(x, before + 1)
            upstream = _pool_along_grad(
                upstream, rows, _pool_along(rows, before), before
            )
            return _pool_along_grad(upstream, x, rows, before + 1)

        if placement()[0][0].platform != "tpu":
            return general(x), grad
        lowest = np.array(-math.inf, x.dtype)
        pooled = jax.lax.reduce_window(x, lowest, jax.lax.max, window, strides, padding)
        return pooled, grad

    return pool(x)


def _pool_along(x, axis):
    """Maximum of each value at an even index and its two neighbours along an axis."""
    before, here, after = _neighbours(x, axis)
    return ops.maximum(ops.maximum(before, here), after)


def _pool_along_grad(upstream, x, y, axis):
    """dL/dx from dL/dy, where y is `_pool_along(x, axis)`."""
    before, here, _ = _neighbours(x, axis)
    from_before = before == y
    from_here = ops.logical_and(here == y, ops.logical_not(from_before))
    from_after = ops.logical_not(ops.logical_or(from_before, from_here))
    before, here, after = (
        ops.where(chosen, upstream, ops.zeros_like(upstream))
        for chosen in (from_before, from_here, from_after)
    )
    # The value before one even index is the value after the previous even index.
    after = after + ops.concatenate(
        [_slice(before, axis, 1, None), ops.zeros_like(_slice(before, axis, 0, 1))],
        axis,
    )
    # Interleave by `where`: TPUs would write the result of `stack`, then move it.
    first = np.reshape([True, False], (2, *[1] * (x.ndim - 1 - axis)))
    here, after = (ops.expand_dims(each, axis + 1) for each in (here, after))
    return ops.reshape(ops.where(first, here, after), ops.shape(x))


def _neighbours(x, axis):
    """Values before, at and after the even indices; -infinity before the first."""
    here, after = _slice(x, axis, 0, None, 2), _slice(x, axis, 1, None, 2)
    border = ops.full_like(_slice(after, axis, 0, 1), -math.inf)
    before = ops.concatenate([border, _slice(after, axis, 0, -1)], axis)
    return before, here, after


def _slice(x, axis, *bounds):
    return x[(*[slice(None)] * axis, slice(*bounds))]


def inference_function(general, function, variables):
    """Compile with the variables as arguments, as Keras does.

    As constants of the program, XLA would compute at once what depends on them alone.

    Args:
        general: `inference.inference_function` for all backends.
        function: see there.
        variables: see there.

    Returns:
        See there.
    """

    @jax.jit
    def compiled(values, *tensors):
        with StatelessScope(state_mapping=zip(variables, values, strict=True)):
            return function(*tensors)

    def run(*tensors):
        values = [variable.value for variable in variables]
        return jax.block_until_ready(compiled(values, *tensors))

    return run

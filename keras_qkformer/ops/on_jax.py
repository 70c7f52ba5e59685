"""Every exception for JAX, each with its reason. See `by_backend.py`."""

import math

import jax
import numpy as np
from keras import StatelessScope, ops, remat


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
    """Pool with a custom gradient made of comparisons.

    The gradient of JAX 0.10 is slow on CPUs, and gathers the maps where several devices
    hold parts of them.

    Args:
        general: `spatial.max_pool2d` for all backends.
        x: float tensor `(batch, height, width, channels)`, height and width even.

    Returns:
        Tensor `(batch, height / 2, width / 2, channels)`.
    """

    @ops.custom_gradient
    def pool(x):
        def grad(upstream):
            rows = _pool_along(x, 2)
            upstream = _pool_along_grad(upstream, rows, _pool_along(rows, 1), 1)
            return _pool_along_grad(upstream, x, rows, 2)

        return general(x), grad

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
    first = np.reshape([True, False], (2, *[1] * (3 - axis)))
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

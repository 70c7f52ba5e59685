"""The forward and the backward pass of a neuron over all time steps.

The backward pass keeps only the inputs and recomputes the potentials: that costs less
than storing one potential per time step.
"""

import functools

from keras import ops

from keras_qkformer.ops.by_backend import by_backend, custom_gradient
from keras_qkformer.ops.normalization import NormalizationOf, wide_dtype


def run(neuron, x, initial_state, decay, return_state, normalization=None):
    """Run a neuron over axis 1 as one differentiable operation.

    Args:
        neuron: `Neuron`.
        x: float tensor `(batch, time, ...)`: input current.
        initial_state: tensor `(batch, ...)`: potentials, or `None` to start at rest.
        decay: scalar tensor `1 / tau` of a learned leak, else `None`.
        return_state: bool. Whether to return the last potentials too.
        normalization: `Normalization` to apply to `x` first, or `None`.

    Returns:
        Spikes with the shape and dtype of `x`, or `(spikes, state)` with `state` of
        shape `(batch, ...)`.
    """
    given = {"x": x, "state": initial_state, "decay": decay}
    normalized = None
    if normalization is not None:
        given.update(gamma=normalization.gamma, beta=normalization.beta)
        for name in ("mean", "variance"):
            value = getattr(normalization, name)
            # `Normalization.grads` adds the gradient of x through them.
            given[name] = ops.stop_gradient(value) if normalization.of_input else value
        normalized = NormalizationOf(
            epsilon=normalization.epsilon, of_input=normalization.of_input
        )
    given = {k: ops.convert_to_tensor(v) for k, v in given.items() if v is not None}
    output = apply_neuron(neuron, given, return_state, normalized)
    if return_state:
        # The passes append the last potentials as one more time step, because a
        # custom gradient takes only one output on all backends.
        return ops.cast(output[:, :-1], given["x"].dtype), output[:, -1]
    return output


@by_backend
def apply_neuron(neuron, tensors, return_state, normalized):
    """Run a neuron as in `run`.

    Args:
        neuron: `Neuron`.
        tensors: dict of tensors: `"x"`, and where given `"state"`, `"decay"`, and
            `"gamma"`, `"beta"`, `"mean"` and `"variance"` of the normalization.
        return_state: bool. Whether the last potentials are wanted too.
        normalized: `NormalizationOf`, or `None` without normalization.

    Returns:
        Spikes, or one tensor of spikes and last potentials: see `run`.
    """
    passes = _passes(neuron, tuple(tensors), return_state, normalized)
    return apply_passes(*passes, tensors)


@by_backend
def apply_passes(forward, backward, tensors):
    """Run the forward pass of a neuron, with `backward` as its gradient.

    Args:
        forward: function `(*tensors) -> output`, one tensor `(batch, time, ...)`.
        backward: function `(upstream, *tensors) -> gradients` of the tensors.
        tensors: dict from names (`"x"`, `"state"`, ... of `run`) to tensors, in the
            order in which the passes take them.

    Returns:
        The output of `forward`.
    """

    @custom_gradient
    def sequence(*tensors):
        return forward(*tensors), lambda upstream: backward(upstream, *tensors)

    return sequence(*tensors.values())


@by_backend
def max_unrolled_steps():
    """Return the number of time steps up to which a sequence is unrolled.

    Longer sequences, and sequences of unknown length, run in a loop: an unrolled graph
    grows with time, and XLA then compiles and runs it slowly.
    """
    return 32


@functools.cache
def _passes(neuron, names, return_state, normalized):
    """Make the passes `(*tensors) -> output` and `(upstream, *tensors) -> gradients`.

    The cache keeps one pair of functions per kind of call, so that each compiles once.

    Args:
        neuron: `Neuron`.
        names: tuple of str. Names of the tensors in order: `"x"`, `"state"`, ...
        return_state: bool. Whether the output ends with the last potentials.
        normalized: `NormalizationOf`, or `None` without normalization.

    Returns:
        `(forward, backward)`.
    """

    def unpack(tensors):
        wide = wide_dtype(tensors[0].dtype)
        parts = dict(zip(names, tensors, strict=True))
        x = parts.pop("x")
        parts = {k: ops.cast(v, wide) for k, v in parts.items()}
        decay, v = parts.pop("decay", None), parts.pop("state", None)
        if v is None:
            v = ops.zeros_like(x[:, 0], dtype=wide) + neuron.rest
        norm = normalized(**parts) if normalized else None
        affine = norm.affine() if norm else None

        def current(x):
            x = ops.cast(x, wide)
            return x if affine is None else x * affine[0] + affine[1]

        return x, v, decay, norm, current

    def forward(*tensors):
        x, v, decay, _, current = unpack(tensors)

        def step(v, x):
            h = neuron.charge(v, current(x), decay)
            # Cast step by step: batched, XLA stores every potential.
            return neuron.reset(h), ops.cast(neuron.fire(h), tensors[0].dtype)

        spikes, v = _scan(step, v, _split_steps(x))
        output = _join_steps(spikes, x)
        if return_state:
            output = ops.cast(output, v.dtype)
            return ops.concatenate([output, ops.expand_dims(v, 1)], 1)
        return output

    def backward(upstream, *tensors):
        x, v_first, decay, norm, current = unpack(tensors)
        wide = v_first.dtype
        if return_state:
            upstream, v_grad = upstream[:, :-1], ops.cast(upstream[:, -1], wide)
        else:
            v_grad = ops.zeros_like(v_first)
        xs = [ops.cast(x, wide) for x in _split_steps(x)]
        currents = [current(x) for x in xs]

        def charge(v, x):
            h = neuron.charge(v, x, decay)
            return neuron.reset(h), h

        hs, _ = _scan(charge, v_first, currents)
        fire_grads = [neuron.fire_grad(h) for h in hs]
        reset_grads = [
            neuron.reset_grad(*pair) for pair in zip(hs, fire_grads, strict=True)
        ]
        spike_grads = [
            ops.cast(grad, wide) * fire_grad
            for grad, fire_grad in zip(_split_steps(upstream), fire_grads, strict=True)
        ]

        def step(v_grad, spike_grad, reset_grad):
            h_grad = spike_grad + v_grad * reset_grad
            return neuron.state_grad(h_grad, decay), h_grad

        h_grads, v_grad = _scan(step, v_grad, spike_grads, reset_grads, reverse=True)
        gain = neuron.input_gain(decay)
        grads = {"state": v_grad}
        if decay is not None:
            after = _join_steps([neuron.reset(h) for h in hs], x)
            before = ops.concatenate(
                [ops.expand_dims(v_first, 1), after[:, :-1]], axis=1
            )
            vs = _split_steps(before)
            grads["decay"] = sum(
                ops.sum(h_grad * neuron.leak_grad(*each))
                for h_grad, *each in zip(h_grads, currents, vs, strict=True)
            )
        if norm is None:
            x_grads = [grad * gain for grad in h_grads]
        else:
            x_grads, norm_grads = norm.grads(xs, h_grads, gain)
            grads.update(norm_grads)
        grads["x"] = _join_steps([ops.cast(grad, x.dtype) for grad in x_grads], x)
        grads = [
            ops.cast(grads[k], v.dtype) for k, v in zip(names, tensors, strict=True)
        ]
        return grads[0] if len(grads) == 1 else tuple(grads)

    return forward, backward


def _is_loop(x):
    """Whether a sequence is too long to be unrolled, or of unknown length."""
    # JAX has symbols for unknown lengths, which can't be compared.
    known = isinstance(x.shape[1], int)
    return not known or x.shape[1] > max_unrolled_steps()


def _split_steps(x):
    """Split a sequence into time steps; one that runs in a loop stays whole."""
    return [x] if _is_loop(x) else ops.unstack(x, x.shape[1], axis=1)


def _join_steps(parts, x):
    """Undo `_split_steps`, for a sequence with the time steps of `x`."""
    return parts[0] if _is_loop(x) else ops.stack(parts, axis=1)


def _scan(step, carry, *xs, reverse=False):
    """Run `step(carry, *x) -> (carry, y)` over lists of `_split_steps`.

    Returns `(ys, carry)`: the list of all y, and the last carry.
    """
    if len(xs[0]) == 1 and len(xs[0][0].shape) > len(carry.shape):
        carry, ys = scan(
            lambda carry, x: step(carry, *x),
            carry,
            tuple(ops.moveaxis(x, 1, 0) for (x,) in xs),
            reverse,
        )
        return [ops.moveaxis(ys, 0, 1)], carry
    slices = list(zip(*xs, strict=True))
    ys = []
    for x in reversed(slices) if reverse else slices:
        carry, y = step(carry, *x)
        ys.append(y)
    return ys[::-1] if reverse else ys, carry


@by_backend
def scan(step, carry, xs, reverse=False):
    """Run `step` over the first axis.

    Args:
        step: function `(carry, x) -> (carry, y)`, where `x` is a tuple with one slice
            of each of `xs`.
        carry: tensor. The first carry.
        xs: tuple of tensors `(time, ...)`.
        reverse: bool. Whether to start at the end.

    Returns:
        `(carry, ys)`: the last carry, and a tensor `(time, ...)` of all y.
    """
    return ops.scan(step, carry, xs, reverse=reverse)

"""Integrate-and-fire neurons over axis 1: charge, fire, reset, and one gradient.

All functions are pure: potentials start at rest in every call unless a state is
passed in. The backward pass keeps only its inputs and recomputes the potentials,
which is cheap next to storing one potential per step.
"""

import dataclasses
import functools

from keras import backend, ops, remat

from keras_qkformer.ops.compiled import compiled
from keras_qkformer.ops.normalization import Normalization, wide_dtype
from keras_qkformer.ops.surrogate import surrogate_derivative

# Longer sequences, and those of unknown length, run in a loop: unrolling them makes
# graphs grow with time, which XLA compiles slowly and runs slowly. PyTorch's compiler
# keeps the potentials of all steps in registers.
_MAX_UNROLLED_STEPS = 64 if backend.backend() == "torch" else 32
# PyTorch runs every operation as a pass of its own over memory, unless it is compiled:
# seconds, once, which small tensors do not pay back.
_COMPILED_ELEMENTS = 2**19


def lif_sequence(
    x,
    initial_state=None,
    *,
    tau=2.0,
    v_threshold=1.0,
    v_reset=0.0,
    detach_reset=True,
    decay_input=True,
    surrogate="sigmoid",
    alpha=None,
    normalization=None,
    return_state=False,
):
    """Leaky integrate-and-fire neurons over axis 1.

    For every neuron and step t, with v[-1] the initial state:

        h[t] = v[t-1] + (x[t] - (v[t-1] - v_reset)) / tau     decay_input=True
        h[t] = v[t-1] - (v[t-1] - v_reset) / tau + x[t]       decay_input=False
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset if s[t] else h[t]                      hard reset
        v[t] = h[t] - v_threshold * s[t]                      soft: v_reset=None

    Args:
        x: float tensor `(batch, time, ...)`: input current.
        initial_state: tensor `(batch, ...)` of potentials, or `None` for rest
            (`v_reset`; 0 with soft reset).
        tau: float > 1. Membrane time constant, in time steps.
        v_threshold: float. Potential at which a neuron fires; it fires at equality.
        v_reset: float < `v_threshold`, or `None` for soft reset.
        detach_reset: bool. If true, no gradient flows through the `s[t]` in `v[t]`.
        decay_input: bool. Whether the input is divided by `tau` as well.
        surrogate: str. Name of the surrogate derivative (`ops.surrogate`).
        alpha: float > 0. Steepness, or `None` for the default of that surrogate.
        normalization: `Normalization` of the input, or `None`.
        return_state: bool. Whether to return the last potentials too.

    Returns:
        Spikes with the shape and type of `x`, or `(spikes, state)` with `state` of
        shape `(batch, ...)`. Potentials are float32 or wider whatever the type of `x`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> x = np.full((1, 4), 1.5, "float32")  # h = 0.75, 1.125, reset, and again
    >>> ops.convert_to_numpy(lif_sequence(x)).tolist()
    [[0.0, 1.0, 0.0, 1.0]]

    Reference:
        SpikingJelly `MultiStepLIFNode`.
    """
    check_tau(tau)
    neuron = _Neuron(
        leak=tau,
        decay_input=decay_input,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=alpha,
    )
    return _run(neuron, x, initial_state, None, return_state, normalization)


def parametric_lif_sequence(
    x,
    decay,
    initial_state=None,
    *,
    v_threshold=1.0,
    v_reset=0.0,
    detach_reset=True,
    decay_input=True,
    surrogate="sigmoid",
    alpha=None,
    normalization=None,
    return_state=False,
):
    """LIF neurons with a learnable leak: `lif_sequence` with `1 / tau = decay`.

    Args:
        x: float tensor `(batch, time, ...)`: input current.
        decay: scalar tensor between 0 and 1, the inverse of `tau`. It gets a gradient.
        initial_state: as in `lif_sequence`, like the other arguments.
        v_threshold: see `lif_sequence`.
        v_reset: see `lif_sequence`.
        detach_reset: see `lif_sequence`.
        decay_input: see `lif_sequence`.
        surrogate: see `lif_sequence`.
        alpha: see `lif_sequence`.
        normalization: see `lif_sequence`.
        return_state: see `lif_sequence`.

    Returns:
        As `lif_sequence`.

    Reference:
        [Fang et al., 2021](https://arxiv.org/abs/2007.05785); SpikingJelly
        `MultiStepParametricLIFNode`.
    """
    neuron = _Neuron(
        leak="learned",
        decay_input=decay_input,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=alpha,
    )
    return _run(neuron, x, initial_state, decay, return_state, normalization)


def if_sequence(
    x,
    initial_state=None,
    *,
    v_threshold=1.0,
    v_reset=0.0,
    detach_reset=True,
    surrogate="sigmoid",
    alpha=None,
    normalization=None,
    return_state=False,
):
    """Integrate-and-fire neurons over axis 1: no leak, `h[t] = v[t-1] + x[t]`.

    Args:
        x: float tensor `(batch, time, ...)`: input current.
        initial_state: as in `lif_sequence`, like the other arguments.
        v_threshold: see `lif_sequence`.
        v_reset: see `lif_sequence`.
        detach_reset: see `lif_sequence`.
        surrogate: see `lif_sequence`.
        alpha: see `lif_sequence`.
        normalization: see `lif_sequence`.
        return_state: see `lif_sequence`.

    Returns:
        As `lif_sequence`.

    Example:
    >>> x = np.full((1, 4), 0.5, "float32")
    >>> ops.convert_to_numpy(if_sequence(x)).tolist()
    [[0.0, 1.0, 0.0, 1.0]]

    Reference:
        SpikingJelly `MultiStepIFNode`.
    """
    neuron = _Neuron(
        leak=None,
        decay_input=False,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=alpha,
    )
    return _run(neuron, x, initial_state, None, return_state, normalization)


def lif_step(x, state=None, **options):
    """One time step of `lif_sequence`: `(x, state) -> (spikes, next state)`.

    Args:
        x: float tensor `(batch, ...)`: input current of this step.
        state: tensor `(batch, ...)` of potentials, or `None` for rest.
        **options: `tau`, `v_threshold`, ... of `lif_sequence`.

    Returns:
        `(spikes, state)`, both `(batch, ...)`.

    Example:
    >>> spikes, state = lif_step(np.full((1,), 1.5, "float32"))
    >>> float(spikes[0]), float(state[0])
    (0.0, 0.75)
    """
    x = ops.expand_dims(x, 1)
    spikes, state = lif_sequence(x, state, return_state=True, **options)
    return ops.squeeze(spikes, 1), state


def check_tau(tau):
    """Raise `ValueError` unless `tau` is a usable membrane time constant."""
    if not tau > 1:
        raise ValueError(
            f"tau must be greater than 1 (time steps). Received: tau={tau}"
        )


def check_potentials(v_threshold, v_reset):
    """Raise `ValueError` unless the reset potential lies below the threshold."""
    if v_reset is not None and not v_reset < v_threshold:
        raise ValueError(
            "v_reset must be less than v_threshold, or None for soft reset. "
            f"Received: v_reset={v_reset}, v_threshold={v_threshold}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Neuron:
    """The equations of a neuron and their derivatives.

    What does not depend on the step before takes a step, or all those of a loop.
    """

    leak: float | str | None  # tau, "learned" (1 / tau is a tensor), or no leak
    decay_input: bool
    v_threshold: float
    v_reset: float | None
    detach_reset: bool
    surrogate: str
    alpha: float | None

    def __post_init__(self):
        check_potentials(self.v_threshold, self.v_reset)
        surrogate_derivative(self.surrogate, self.alpha)  # Raises if there is none.

    @property
    def rest(self):
        return 0.0 if self.v_reset is None else self.v_reset

    def scale(self, current, decay):
        return current / self.leak if decay is None else current * decay

    def charge(self, v, x, decay):
        if self.leak is None:
            return v + x
        leaking = v - self.rest if self.rest else v
        if self.decay_input:
            return v + self.scale(x - leaking, decay)
        return v - self.scale(leaking, decay) + x

    def fire(self, h):
        return ops.cast(h >= self.v_threshold, h.dtype)

    def fire_grad(self, h):
        """ds/dh of every step: the surrogate's."""
        return surrogate_derivative(self.surrogate, self.alpha)(h - self.v_threshold)

    def reset(self, h):
        if self.v_reset is None:
            return h - self.v_threshold * self.fire(h)
        return ops.where(h >= self.v_threshold, self.v_reset, h)

    def reset_grad(self, h, fire_grad):
        """dv/dh of every step."""
        if self.v_reset is None:
            keep = ops.ones_like(h)
        else:
            keep = ops.cast(h < self.v_threshold, h.dtype)
        if self.detach_reset:
            return keep
        jump = -self.v_threshold if self.v_reset is None else self.v_reset - h
        return keep + jump * fire_grad

    def state_grad(self, h_grad, decay):
        """dL/dv[t-1] from dL/dh[t]."""
        if self.leak is None:
            return h_grad
        return h_grad * (1.0 - self.gain(decay))

    def gain(self, decay):
        """Derivative of `scale` by the current."""
        return 1.0 / self.leak if decay is None else decay

    def input_gain(self, decay):
        """dh/dx."""
        return self.gain(decay) if self.decay_input else 1.0

    def decay_grad(self, h_grad, x, v):
        """dL/d decay, summed over all neurons and steps; v is v[t-1]."""
        leaked = v - self.rest
        return ops.sum(h_grad * (x - leaked if self.decay_input else -leaked))


def _run(neuron, x, initial_state, decay, return_state, normalization=None):
    """Run a neuron over axis 1 as one differentiable operation.

    Positional tensors in, one tensor out: the only form of `custom_gradient`
    that behaves alike on the three backends. So the last potentials, if asked
    for, travel behind the spikes as one more time step.
    """
    given = {"x": x, "state": initial_state, "decay": decay}
    options = {}
    if normalization is not None:
        given.update(gamma=normalization.gamma, beta=normalization.beta)
        for name in ("mean", "variance"):
            value = getattr(normalization, name)
            # Their share of the gradient of x is in `Normalization.grads`.
            given[name] = ops.stop_gradient(value) if normalization.of_input else value
        options = {
            "epsilon": normalization.epsilon,
            "of_input": normalization.of_input,
        }
    given = {k: ops.convert_to_tensor(v) for k, v in given.items() if v is not None}
    forward, backward = _passes(
        neuron, tuple(given), return_state, tuple(options.items())
    )
    shape = given["x"].shape
    is_compiled = _is_worth_compiling(given["x"])
    if is_compiled:
        forward, backward = compiled(forward), compiled(backward)
        # The fewer axes, the fewer kinds of shape to compile for.
        rest = (-1, shape[-1])
        given["x"] = ops.reshape(given["x"], (*shape[:2], *rest))
        if "state" in given:
            given["state"] = ops.reshape(given["state"], (shape[0], *rest))

    @ops.custom_gradient
    def sequence(*tensors):
        def grad(*args, upstream=None):
            # TensorFlow and JAX pass the upstream gradient by position.
            (upstream,) = args if upstream is None else (upstream,)
            return backward(upstream, *tensors)

        return forward(*tensors), grad

    if backend.backend() == "jax":
        # XLA sees that both passes compute the same potentials, and would keep those
        # of the forward pass, in 32 bits, instead of computing them again.
        sequence = remat(sequence)
    output = sequence(*given.values())
    if is_compiled:
        output = ops.reshape(output, (shape[0], -1, *shape[2:]))
    if return_state:
        return ops.cast(output[:, :-1], given["x"].dtype), output[:, -1]
    return output


def _is_worth_compiling(x):
    return (
        backend.backend() == "torch"
        and x.device.type != "meta"  # Keras asks for shapes with such tensors.
        and len(x.shape) > 2
        and x.numel() >= _COMPILED_ELEMENTS
    )


@functools.cache
def _passes(neuron, names, return_state, normalization):
    """The passes of `_run`: `tensors -> output`, `(upstream, tensors) -> gradients`.

    One pair of functions for each kind of call, so that each is compiled once.

    Args:
        neuron: `_Neuron`.
        names: tuple of str. Which tensors there are: x, state, ...
        return_state: bool.
        normalization: items of the fields of `Normalization` that are no tensors, or
            `()`.
    """

    def unpack(tensors):
        wide = wide_dtype(tensors[0].dtype)
        parts = dict(zip(names, tensors, strict=True))
        x = parts.pop("x")
        parts = {k: ops.cast(v, wide) for k, v in parts.items()}
        decay, v = parts.pop("decay", None), parts.pop("state", None)
        if v is None:
            v = ops.zeros_like(x[:, 0], dtype=wide) + neuron.rest
        norm = Normalization(**parts, **dict(normalization)) if normalization else None
        affine = norm.affine() if norm else None

        def current(x):
            x = ops.cast(x, wide)
            return x if affine is None else x * affine[0] + affine[1]

        return x, v, decay, norm, current

    def forward(*tensors):
        x, v, decay, _, current = unpack(tensors)

        def step(v, x):
            h = neuron.charge(v, current(x), decay)
            # Of all steps at once, XLA would keep all potentials.
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
                neuron.decay_grad(*each)
                for each in zip(h_grads, currents, vs, strict=True)
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
    return x.shape[1] is None or x.shape[1] > _MAX_UNROLLED_STEPS


def _split_steps(x):
    """The steps of a sequence; one that runs in a loop stays whole."""
    return [x] if _is_loop(x) else ops.unstack(x, x.shape[1], axis=1)


def _join_steps(parts, x):
    """What `_split_steps` split, for a sequence such as x."""
    return parts[0] if _is_loop(x) else ops.stack(parts, axis=1)


def _scan(step, carry, *xs, reverse=False):
    """`step(carry, *x) -> (carry, y)` over steps in lists: all y, the last carry."""
    if len(xs[0]) == 1 and len(xs[0][0].shape) > len(carry.shape):
        # As one tensor: with several, the scan of Keras 3.15 on TensorFlow fails
        # where their length is unknown.
        stacked = ops.stack([ops.moveaxis(x, 1, 0) for (x,) in xs], axis=1)
        carry, ys = ops.scan(
            lambda carry, x: step(carry, *ops.unstack(x, len(xs), axis=0)),
            carry,
            stacked,
            reverse=reverse,
        )
        return [ops.moveaxis(ys, 0, 1)], carry
    slices = list(zip(*xs, strict=True))
    ys = []
    for x in reversed(slices) if reverse else slices:
        carry, y = step(carry, *x)
        ys.append(y)
    return ys[::-1] if reverse else ys, carry

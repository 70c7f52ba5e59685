"""The equations of an integrate-and-fire neuron, and their derivatives."""

import dataclasses

from keras import ops

from keras_qkformer.ops.surrogate import surrogate_derivative


def check_tau(tau):
    """Raise `ValueError` unless `tau` is greater than 1.

    Args:
        tau: float. Membrane time constant, in time steps.
    """
    if not tau > 1:
        raise ValueError(
            f"tau must be greater than 1 (time steps). Received: tau={tau}"
        )


def check_potentials(v_threshold, v_reset):
    """Raise `ValueError` unless the reset potential lies below the threshold.

    Args:
        v_threshold: float. Potential at which a neuron fires.
        v_reset: float. Potential after a spike, or `None` for soft reset.
    """
    if v_reset is not None and not v_reset < v_threshold:
        raise ValueError(
            "v_reset must be less than v_threshold, or None for soft reset. "
            f"Received: v_reset={v_reset}, v_threshold={v_threshold}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neuron:
    """The equations of a neuron and their derivatives.

    Methods act on one time step or, where they need no earlier one, on a whole
    sequence. v is the potential after a time step, h the potential before the reset,
    x the input current, and decay the scalar tensor 1 / tau of a learned leak, else
    `None`.
    """

    leak: float | str | None  # tau; "learned" if 1 / tau is a tensor; None: no leak
    decay_input: bool
    v_threshold: float
    v_reset: float | None
    detach_reset: bool
    surrogate: str
    alpha: float | None

    def __post_init__(self):
        check_potentials(self.v_threshold, self.v_reset)
        surrogate_derivative(self.surrogate, self.alpha)  # Raises if invalid.

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
        """ds/dh, by the surrogate derivative."""
        return surrogate_derivative(self.surrogate, self.alpha)(h - self.v_threshold)

    def reset(self, h):
        return self.reset_by(h, h >= self.v_threshold)

    def reset_by(self, h, fired):
        if self.v_reset is None:
            return h - self.v_threshold * ops.cast(fired, h.dtype)
        return ops.where(ops.cast(fired, "bool"), self.v_reset, h)

    def reset_grad(self, h, fire_grad):
        """dv/dh, where `fire_grad` is ds/dh."""
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
        """Derivative of `scale` with respect to the current."""
        return 1.0 / self.leak if decay is None else decay

    def input_gain(self, decay):
        """dh/dx."""
        return self.gain(decay) if self.decay_input else 1.0

    def leak_grad(self, x, v):
        """dh/d decay, where v is v[t-1]."""
        leaked = v - self.rest
        return x - leaked if self.decay_input else -leaked

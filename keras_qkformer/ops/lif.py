"""Integrate-and-fire neurons over axis 1: LIF, parametric LIF and IF.

All functions are pure: without an initial state, every call starts at rest.
"""

from typing import Any

from keras import ops

from keras_qkformer.ops.neuron import Neuron, check_tau
from keras_qkformer.ops.neuron_passes import run
from keras_qkformer.ops.normalization import Normalization


def lif_sequence(
    x: Any,
    initial_state: Any = None,
    *,
    tau: float = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    decay_input: bool = True,
    surrogate: str = "sigmoid",
    alpha: float | None = None,
    normalization: Normalization | None = None,
    return_state: bool = False,
) -> Any:
    """Run leaky integrate-and-fire neurons over axis 1.

    For every neuron and step t, with v[-1] the initial state:

        h[t] = v[t-1] + (x[t] - (v[t-1] - v_reset)) / tau     decay_input=True
        h[t] = v[t-1] - (v[t-1] - v_reset) / tau + x[t]       decay_input=False
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset if s[t] else h[t]                      hard reset
        v[t] = h[t] - v_threshold * s[t]                      soft: v_reset=None

    Args:
        x: float tensor `(batch, time, ...)`: input current.
        initial_state: tensor `(batch, ...)`: potentials, or `None` to start at rest
            (`v_reset`; 0 with soft reset).
        tau: float > 1. Membrane time constant, in time steps.
        v_threshold: float. Potential at which a neuron fires; it fires at equality.
        v_reset: float < `v_threshold`, or `None` for soft reset.
        detach_reset: bool. If true, no gradient flows through the `s[t]` in `v[t]`.
        decay_input: bool. Whether to divide the input by `tau` as well.
        surrogate: str. Name of the surrogate derivative, see `register_surrogate`.
        alpha: float > 0. Steepness of the surrogate, or `None` for its default.
        normalization: `Normalization` to apply to `x` first, or `None`.
        return_state: bool. Whether to return the last potentials too.

    Returns:
        Spikes with the shape and dtype of `x`, or `(spikes, state)` with `state` of
        shape `(batch, ...)`. Potentials are at least float32, whatever the dtype of
        `x`.

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
    neuron = Neuron(
        leak=tau,
        decay_input=decay_input,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=alpha,
    )
    return run(neuron, x, initial_state, None, return_state, normalization)


def parametric_lif_sequence(
    x: Any,
    decay: Any,
    initial_state: Any = None,
    *,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    decay_input: bool = True,
    surrogate: str = "sigmoid",
    alpha: float | None = None,
    normalization: Normalization | None = None,
    return_state: bool = False,
) -> Any:
    """Run LIF neurons with a learnable leak: `lif_sequence` with `1 / tau = decay`.

    Args:
        x: float tensor `(batch, time, ...)`: input current.
        decay: scalar tensor in (0, 1): `1 / tau`. It gets a gradient.
        initial_state: see `lif_sequence`.
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

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        [Fang et al., 2021](https://arxiv.org/abs/2007.05785); SpikingJelly
        `MultiStepParametricLIFNode`.
    """
    neuron = Neuron(
        leak="learned",
        decay_input=decay_input,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=alpha,
    )
    return run(neuron, x, initial_state, decay, return_state, normalization)


def if_sequence(
    x: Any,
    initial_state: Any = None,
    *,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    surrogate: str = "sigmoid",
    alpha: float | None = None,
    normalization: Normalization | None = None,
    return_state: bool = False,
) -> Any:
    """Run integrate-and-fire neurons over axis 1: no leak, `h[t] = v[t-1] + x[t]`.

    Args:
        x: float tensor `(batch, time, ...)`: input current.
        initial_state: see `lif_sequence`.
        v_threshold: see `lif_sequence`.
        v_reset: see `lif_sequence`.
        detach_reset: see `lif_sequence`.
        surrogate: see `lif_sequence`.
        alpha: see `lif_sequence`.
        normalization: see `lif_sequence`.
        return_state: see `lif_sequence`.

    Returns:
        As `lif_sequence`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> x = np.full((1, 4), 0.5, "float32")
    >>> ops.convert_to_numpy(if_sequence(x)).tolist()
    [[0.0, 1.0, 0.0, 1.0]]

    Reference:
        SpikingJelly `MultiStepIFNode`.
    """
    neuron = Neuron(
        leak=None,
        decay_input=False,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=alpha,
    )
    return run(neuron, x, initial_state, None, return_state, normalization)


def lif_step(x: Any, state: Any = None, **options) -> tuple[Any, Any]:
    """Run one time step of `lif_sequence`: `(x, state) -> (spikes, next state)`.

    Args:
        x: float tensor `(batch, ...)`: input current of this time step.
        state: tensor `(batch, ...)`: potentials, or `None` to start at rest.
        **options: `tau`, `v_threshold`, ... of `lif_sequence`.

    Returns:
        `(spikes, state)`, both `(batch, ...)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> spikes, state = lif_step(np.full((1,), 1.5, "float32"))
    >>> float(spikes[0]), float(state[0])
    (0.0, 0.75)
    """
    x = ops.expand_dims(x, 1)
    spikes, state = lif_sequence(x, state, return_state=True, **options)
    return ops.squeeze(spikes, 1), state

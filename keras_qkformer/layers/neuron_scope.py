"""The one way to access neurons during a call: states and spikes, in and out."""

import contextlib
import threading


class _Scope(threading.local):
    """What `neuron_scope` has set on this thread.

    Not a `ContextVar`: `torch.compile` can't trace one, and every neuron would break
    the graph.
    """

    states = None
    record = None
    fire = None


_scope = _Scope()


@contextlib.contextmanager
def neuron_scope(states=None, record=None, fire=None):
    """Context in which neurons continue from given states, record or take spikes.

    With `states`, layers take one time step of a stream instead of a whole sequence:
    each neuron in `states` starts from its potentials there and replaces them by its
    last ones, and an image is not repeated over time.

    The scope holds for the thread that enters it; the layers themselves store nothing.
    An inner scope replaces the states, record or fire of the outer one, whichever it
    sets, until it ends.

    Args:
        states: dict from neuron layers to potentials `(batch, ...)`, updated in place,
            or `None`.
        record: function `record(neuron, spikes)` that runs at every call of a neuron,
            with spikes `(batch, time, ...)`. Or a dict, which then maps each neuron to
            the spikes of its last call. Or `None`.
        fire: function `fire(neuron, current) -> spikes` that stands in for the dynamics
            of every neuron, with tensors `(batch, time, ...)`. Or `None`. It works in
            inference only, in float32 or wider.

    Returns:
        Context without a value.

    Example:
    >>> from keras_qkformer.layers import LIF
    >>> neuron, spikes = LIF(), {}
    >>> with neuron_scope(states={neuron: np.array([0.5], "float32")}, record=spikes):
    ...     _ = neuron(np.array([[1.5]], "float32"))  # h = 0.5 + (1.5 - 0.5) / 2
    >>> ops.convert_to_numpy(spikes[neuron]).tolist()
    [[1.0]]
    """
    before = _scope.states, _scope.record, _scope.fire
    if states is not None:
        _scope.states = states
    if record is not None:
        _scope.record = record.__setitem__ if isinstance(record, dict) else record
    if fire is not None:
        _scope.fire = fire
    try:
        yield
    finally:
        _scope.states, _scope.record, _scope.fire = before


def is_streaming():
    """Return whether layers run one time step of a stream: in a scope with states."""
    return _scope.states is not None


def states_in_scope():
    """Return the states of the innermost `neuron_scope` that sets them, or `()`."""
    return _scope.states or ()


def fire_in_scope():
    """Return the function that stands in for the neurons' dynamics, or `None`."""
    return _scope.fire


def record_spikes(neuron, spikes):
    """Pass the spikes of one call of a neuron to the innermost record, if any.

    Args:
        neuron: neuron layer.
        spikes: tensor `(batch, time, ...)`.
    """
    if _scope.record is not None:
        _scope.record(neuron, spikes)

"""The one way to look into neurons during a call: states go in, spikes come out."""

import contextlib
import threading


class _Scope(threading.local):
    """What `neuron_scope` has set on this thread.

    Not a `ContextVar`, which `torch.compile` can't follow: every neuron would break its
    graph.
    """

    states = None
    record = None


_scope = _Scope()


@contextlib.contextmanager
def neuron_scope(states=None, record=None):
    """Inside, neurons continue from given states, or show their spikes, or both.

    With `states`, layers take one time step of a stream instead of a whole sequence:
    each neuron that is a key starts from the potentials there and puts its last ones in
    their place, and an image is not repeated over time.

    The scope holds for the thread that enters it; the layers themselves remember
    nothing. An inner scope replaces the states or the record of an outer one, whichever
    it is given, until it ends.

    Args:
        states: dict from neuron layers to tensors `(batch, ...)`, which is changed, or
            `None`.
        record: function of a neuron layer and its spikes `(batch, time, ...)`, called
            at every call of a neuron; or a dict, which maps each neuron to the spikes
            of its last call; or `None`.

    Example:
    >>> from keras_qkformer.layers import LIF
    >>> neuron, spikes = LIF(), {}
    >>> with neuron_scope(states={neuron: np.array([0.5], "float32")}, record=spikes):
    ...     _ = neuron(np.array([[1.5]], "float32"))  # h = 0.5 + (1.5 - 0.5) / 2
    >>> ops.convert_to_numpy(spikes[neuron]).tolist()
    [[1.0]]
    """
    before = _scope.states, _scope.record
    if states is not None:
        _scope.states = states
    if record is not None:
        _scope.record = record.__setitem__ if isinstance(record, dict) else record
    try:
        yield
    finally:
        _scope.states, _scope.record = before


def is_streaming():
    """Whether layers run in a `neuron_scope` with states: one step of a stream."""
    return _scope.states is not None


def states_in_scope():
    """The states of the innermost `neuron_scope` that has some, or an empty tuple."""
    return _scope.states or ()


def record_spikes(neuron, spikes):
    """Hand the spikes of one call of a neuron to the innermost record, if any."""
    if _scope.record is not None:
        _scope.record(neuron, spikes)

"""The one way to see, during a call, what goes into every operation with arithmetic."""

import contextlib
import threading


class _Scope(threading.local):
    """What `operation_scope` has set on this thread; see `neuron_scope` for the why."""

    record = None


_scope = _Scope()


@contextlib.contextmanager
def operation_scope(record):
    """Context in which layers tell the tensors that their operations take.

    Convolutions and attention tell them; outside of such a context this costs nothing.
    The scope holds for the thread that enters it, and an inner scope replaces the outer
    one until it ends.

    Args:
        record: function `record(layer, **tensors)` that runs at every call of a layer.
            A convolution passes `inputs`; attention passes the spikes `query`, `key`
            and, where it has them, `value`, all `(batch, time, height, width,
            channels)`; its `mask` if spikes select others, as the neuron returns it; or
            the product `context` of keys and values `(batch * time, heads, channels of
            a head, channels of a head)`.

    Returns:
        Context without a value.

    Example:
    >>> from keras_qkformer.layers import ConvBNLIF
    >>> shapes = []
    >>> with operation_scope(lambda layer, inputs: shapes.append(inputs.shape)):
    ...     _ = ConvBNLIF(8)(np.ones((1, 4, 6, 6, 3), "float32"))
    >>> shapes
    [(1, 4, 6, 6, 3)]
    """
    before = _scope.record
    _scope.record = record
    try:
        yield
    finally:
        _scope.record = before


def record_operation(layer, **tensors):
    """Pass the tensors of one operation to the innermost record, if any.

    Args:
        layer: the layer that computes the operation.
        **tensors: what it takes, see `operation_scope`.
    """
    if _scope.record is not None:
        _scope.record(layer, **tensors)

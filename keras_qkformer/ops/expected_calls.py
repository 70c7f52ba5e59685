"""How often functions will be called, where that decides whether to compile them."""

import contextlib
import contextvars
import math

_CALLS = contextvars.ContextVar("expected_calls", default=math.inf)


@contextlib.contextmanager
def expecting(calls):
    """Context in which each operation of a model is called about so often.

    Args:
        calls: int. In a training: its steps, over all epochs. Those of the whole
            training, also where it is resumed: what is compiled rounds otherwise.
    """
    token = _CALLS.set(calls)
    try:
        yield
    finally:
        _CALLS.reset(token)


def expected_calls():
    """Return how often each operation will be called, infinity if that is unknown."""
    return _CALLS.get()

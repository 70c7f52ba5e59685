"""The stages of long work, told to whoever listens: by default to nobody."""

import contextlib
import contextvars

_LISTENER = contextvars.ContextVar("listener", default=None)


def stage(text):
    """Tell the listener, if there is one, which stage of the work begins.

    Args:
        text: str. Such as `"loading runs/digits"`. Names in it may come from outside.
    """
    listener = _LISTENER.get()
    if listener is not None:
        listener(text)


@contextlib.contextmanager
def heard_by(listener):
    """Context in which a function hears of every stage.

    Args:
        listener: function that takes a str.

    Example:
    >>> with heard_by(print):
    ...     stage("loading runs/digits")
    loading runs/digits
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)

"""Mistakes of the user told apart from bugs of ours."""

import difflib
import dis
import os
from pathlib import Path

PACKAGE = Path(__file__).parent


def is_mistake(error):
    """Return whether an exception reports a user error rather than a bug of ours.

    A `ValueError` that this package raises itself states a rule that the user's input
    breaks. A `ValueError` from another library, or from a builtin such as `int`, was
    not foreseen. Missing files, full disks and missing packages are nobody's bug.

    Args:
        error: exception with its traceback.
    """
    if isinstance(error, OSError | ImportError):
        return True
    if not isinstance(error, ValueError):
        return False
    code = _last_step(error).tb_frame.f_code
    return code.co_filename.startswith(f"{PACKAGE}{os.sep}") and is_raised(error)


def is_raised(error):
    """Return whether Python code raised an exception by a `raise` statement.

    A `KeyboardInterrupt` that is not raised is Ctrl-C.

    Args:
        error: exception with its traceback.
    """
    last = _last_step(error)
    code = last.tb_frame.f_code.co_code
    return code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _last_step(error):
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return last


def did_you_mean(received, names):
    """Return a hint at the name that is spelt most nearly like a wrong one.

    Args:
        received: the wrong name; anything but a str has no hint.
        names: iterable of str. The right names.

    Returns:
        str that starts with a space, to follow the received value, or is empty.

    Example:
    >>> did_you_mean("digit", ["cifar10", "digits"])
    " (did you mean 'digits'?)"
    """
    near = nearest(received, names)
    return "" if near is None else f" (did you mean {near!r}?)"


def nearest(received, names):
    """Return the name that is spelt most nearly like a wrong one, or `None`.

    Args:
        received: the wrong name; nothing is near to anything but a str.
        names: iterable of str. The right names.
    """
    if not isinstance(received, str):
        return None
    return next(iter(difflib.get_close_matches(received[:100], names, 1)), None)

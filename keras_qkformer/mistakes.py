"""Mistakes of the user told apart from bugs of ours."""

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
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    is_ours = code.co_filename.startswith(f"{PACKAGE}{os.sep}")
    return is_ours and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]

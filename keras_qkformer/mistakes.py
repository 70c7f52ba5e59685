"""Mistakes of the user told apart from bugs of ours."""

import dis
import os
from pathlib import Path

PACKAGE = Path(__file__).parent


def is_mistake(error):
    """Whether an exception tells of a mistake of the user's, not of one of ours.

    What we raise as `ValueError` states a rule that the user's input breaks. The same
    type from another library, or from a builtin such as `int`, was not foreseen. Files
    that are missing, disks that are full and packages that are not installed are
    nobody's bug.

    Args:
        error: an exception that was raised and caught.
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

"""Notices that TensorFlow writes while it starts, which help no one."""

import contextlib
import os
import sys
import tempfile


@contextlib.contextmanager
def hidden_notices():
    """Hide standard error, and print it only if an error ends the block.

    While TensorFlow starts, it writes notices to the file descriptor and ignores
    `TF_CPP_MIN_LOG_LEVEL`. Afterwards it respects this variable, which is set to errors
    alone, unless it has a value.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)

"""How a command runs in a process: quiet libraries, exit status, lost hosts."""

import contextlib
import dis
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from keras_qkformer.cli.arguments import PROGRAM

_SUPERVISED = "KERAS_QKFORMER_SUPERVISED"
PACKAGE = Path(__file__).parents[1]


def run_command(arguments):
    """Run a parsed command; returns its exit status.

    A mistake of the user's is one line and status 2. Anything unexpected is a bug of
    ours: one line that says where the traceback is, and status 1.
    """
    try:
        with _hidden_notices():
            import tensorflow as tf

            import keras_qkformer.models  # noqa: F401

            tf.config.list_physical_devices("GPU")
        return arguments.run(arguments) or 0
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.debug:
            raise
        # Keras puts its errors in bold, and on several lines.
        message = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
        if is_mistake(error):
            print(f"{PROGRAM}: error: {message}", file=sys.stderr)
            return 2
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"{PROGRAM}-", suffix=".log", delete=False
        ) as log:
            traceback.print_exc(file=log)
        print(
            f"{PROGRAM}: bug: {type(error).__name__}: {message[:500]}; the traceback "
            f"is in {log.name}: please report it",
            file=sys.stderr,
        )
        return 1


def is_mistake(error):
    """Whether an exception tells of a mistake of the user's, not of one of ours.

    What we raise as `ValueError` states a rule that the user's input breaks. The same
    type from another library, or from a builtin such as `int`, was not foreseen. Files
    that are missing, disks that are full and packages that are not installed are
    nobody's bug.
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


def is_supervised():
    """Whether this process was started by `supervise`."""
    return _SUPERVISED in os.environ


def supervise(arguments):
    """Run the command in another process, and say why if JAX ends that.

    When a host is lost, JAX ends all others at once, from outside of Python.

    Args:
        arguments: list of str, those of the command line.

    Returns:
        Exit status.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_qkformer", *arguments],
        env={**os.environ, _SUPERVISED: "1"},
        stderr=subprocess.PIPE,
    )
    # Ctrl-C reaches both.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    last = b""
    while text := os.read(process.stderr.fileno(), 1 << 16):
        sys.stderr.buffer.write(text)
        sys.stderr.flush()
        last = (last + text)[-(1 << 16) :]
    status = process.wait()
    if status != -signal.SIGABRT:
        return 128 - status if status < 0 else status
    from keras_qkformer.training.hosts import lost_host

    message = lost_host(last.decode(errors="replace"))
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def _hidden_notices():
    """Keep standard error aside, unless an error ends the block.

    TensorFlow writes its notices past Python and heeds no variable while it starts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)

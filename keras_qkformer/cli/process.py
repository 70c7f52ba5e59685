"""Running a command in a process: quiet libraries, exit status, lost hosts."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.cli.arguments import PROGRAM
from keras_qkformer.cli.interruption import INTERRUPTED, answered_interrupts
from keras_qkformer.manifest import trusting
from keras_qkformer.mistakes import is_mistake
from keras_qkformer.notices import hidden_notices
from keras_qkformer.printable import printable
from keras_qkformer.user_modules import import_user_module

# TensorFlow and Keras import them for parts of theirs that no command uses; they take
# more than a second.
_UNUSED = ("matplotlib", "sklearn")
_UNUSED_BUT_ON_JAX = ("jax",)
NOBODY_READS = 141
"""Exit status if standard output was closed: that of a process which SIGPIPE ends."""
_SUPERVISED = "KERAS_QKFORMER_SUPERVISED"


def run_command(arguments):
    """Run a parsed command and return its exit status.

    A user error prints one line and gives status 2. Any other error counts as a bug of
    ours: the traceback goes to a file, one line says where, and the status is 1.

    Args:
        arguments: `argparse.Namespace` with `run` and `debug`. If `debug` is true,
            errors are raised.
    """
    try:
        with (
            answered_interrupts(),
            trusting(getattr(arguments, "trust", False)),
            short_warnings(),
        ):
            status = arguments.run(arguments) or 0
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return NOBODY_READS
        if arguments.debug:
            raise
        # Keras prints errors in bold and over several lines.
        message = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
        message = printable(message, 4096)
        if is_mistake(error):
            print(f"{PROGRAM}: error: {message}", file=sys.stderr)
            return 2
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            prefix=f"{PROGRAM}-",
            suffix=".log",
            delete=False,
        ) as log:
            traceback.print_exc(file=log)
        print(
            f"{PROGRAM}: bug: {type(error).__name__}: {message[:500]}; the traceback "
            f"is in {log.name}: please report it",
            file=sys.stderr,
        )
        return 1


def _nobody_reads():
    """Return whether standard output is a pipe whose reader, as `head`, has ended."""
    try:
        output, poll = sys.stdout.fileno(), select.poll()
    except (AttributeError, OSError):  # No file, or a system without `poll`.
        return False
    poll.register(output, 0)
    if not poll.poll(0):  # Only errors are told.
        return False
    # What is left in the buffer must go somewhere when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


@contextlib.contextmanager
def short_warnings():
    """Context in which a warning to the user is one line, without a place in the code.

    Warnings to developers, as of what is deprecated, keep theirs.
    """
    whole = warnings.formatwarning

    def short(message, category, *place, **options):
        if not issubclass(category, UserWarning):
            return whole(message, category, *place, **options)
        text = " ".join(str(message).split())
        return f"{PROGRAM}: warning: {printable(text, 4096)}\n"

    warnings.formatwarning = short
    try:
        yield
    finally:
        warnings.formatwarning = whole


def load_libraries(arguments):
    """Load TensorFlow and Keras, which takes seconds, without their notices.

    A command calls this after it has checked all that can be checked without them.

    Args:
        arguments: `argparse.Namespace`. The modules of `--import` are imported too.
    """
    unused = _UNUSED + (() if backend_to_come() == "jax" else _UNUSED_BUT_ON_JAX)
    with (
        _shown_while("loading TensorFlow and Keras"),
        hidden_notices(),
        hidden_modules(unused),
    ):
        import tensorflow as tf

        import keras_qkformer.models  # noqa: F401

        tf.config.list_physical_devices("GPU")
    for name in getattr(arguments, "import", ()):
        import_user_module(name, ".")


def backend_to_come():
    """Return the backend that Keras will choose: by variable, file or default."""
    # Not by pathlib, which raises an error if the user has no home.
    home = Path(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras")))
    chosen = "tensorflow"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        text = (home / "keras.json").read_text("utf-8")
        chosen = json.loads(text).get("backend", chosen)
    return os.environ.get("KERAS_BACKEND") or chosen


@contextlib.contextmanager
def hidden_modules(names):
    """Context in which modules can't be imported, unless they are loaded already.

    Args:
        names: iterable of str.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _shown_while(text):
    """Show a text in the terminal, if standard error is one, until the block ends."""
    shown = sys.stderr.isatty()
    if shown:
        print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)


def is_supervised():
    """Return whether `supervise` started this process."""
    return _SUPERVISED in os.environ


def supervise(arguments):
    """Run the command in a child process, and report a lost host.

    When a host is lost, JAX aborts the processes of all others from outside of Python,
    so only a parent process can print an error.

    Args:
        arguments: list of str. Arguments of the command line.

    Returns:
        Exit status of the child: 2 if JAX aborted it, 128 + the number of any other
        signal that ended it.
    """
    process = subprocess.Popen(
        module_command("keras_qkformer", *arguments),
        env=module_environment(**{_SUPERVISED: "1"}),
        stderr=subprocess.PIPE,
    )
    # The terminal sends Ctrl-C to both processes; the child handles it.
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

"""Ctrl-C while Python can't act on it: say why the command goes on, or end it."""

import contextlib
import os
import signal
import socket
import threading

from keras_qkformer.cli.arguments import PROGRAM

PATIENCE_S = 1.5
"""Seconds that a command has to end after Ctrl-C before something is said or done."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + the number of SIGINT, as shells have it."""


@contextlib.contextmanager
def answered_interrupts():
    """Context in which Ctrl-C has an answer within two seconds.

    Python acts on a signal between two of its own instructions. Compiling a model, or a
    step of a large one, is one long call of a library, and `fit` ends between steps. A
    thread, which gets the signal at once, then says why the command still runs. If it
    still runs after a second Ctrl-C, the thread ends the process: files appear whole or
    not at all, so nothing is half written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread gets signals.
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(ours,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        theirs.close()  # Ends the thread.
        watch.join()
        ours.close()


def _watch(received):
    """Read the numbers of signals, until the other end is closed."""
    count = 0
    while number := received.recv(1):
        if number[0] != signal.SIGINT:
            continue
        count += 1
        if _ended_within_patience(received):
            return
        if count == 1:
            _say(
                "waiting for a step, or for compiling, which can't be interrupted; "
                "Ctrl-C again ends it at once, and nothing is half written"
            )
        else:
            _say("ended")
            os._exit(INTERRUPTED)


def _ended_within_patience(received):
    """Wait; return whether the command has ended."""
    received.settimeout(PATIENCE_S)
    try:
        return not received.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    finally:
        received.settimeout(None)


def _say(text):
    # Not through sys.stderr, which the interrupted thread may hold.
    os.write(2, f"\n{PROGRAM}: {text}\n".encode())

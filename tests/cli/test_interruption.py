"""Ctrl-C is answered, also where Python can't act on it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from keras_qkformer.cli.interruption import answered_interrupts

pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX"),
]

# A handler that raises nothing: as for a library that does not return.
DEAF = """
import signal, time
from keras_qkformer.cli import interruption
interruption.PATIENCE_S = 0.05
signal.signal(signal.SIGINT, lambda *_: None)
with interruption.answered_interrupts():
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_command_that_can_not_be_interrupted_says_why_and_then_ends():
    with subprocess.Popen(
        [sys.executable, "-c", DEAF],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        assert "Ctrl-C again ends it at once" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "\nkeras-qkformer: ended\n"


def test_a_command_that_ends_by_itself_says_nothing(capfd):
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), answered_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    assert time.monotonic() - start < 30
    assert capfd.readouterr() == ("", "")
    assert signal.set_wakeup_fd(before) == before

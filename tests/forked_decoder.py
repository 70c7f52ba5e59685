"""Decoders of recordings as forks of the fuzzer: thousands of damaged files in minutes.

Users' files are decoded by processes of their own, which take half a second to start. A
fork has the same limits and starts in milliseconds; its time and memory are checked.
"""

import contextlib
import functools
import os
import resource
import signal
import traceback
from unittest import mock

import fuzzing

MOST_BYTES = 600_000_000  # 512 MiB, and what the decoder has before the limit is set.


@contextlib.contextmanager
def forked_decoders(random, subprocess, decode):
    """Context in which most decoders are forks: one in 50 is a process of its own.

    Args:
        random: `random.Random`.
        subprocess: the module as the reader has imported it.
        decode: function `(command, out)` that does what the process of a command does:
            it reads the file and writes to a binary file object.
    """
    faults = []
    with contextlib.ExitStack() as stack:
        if random.randrange(50):
            popen = functools.partial(ForkedDecoder, decode, faults)
            stack.enter_context(mock.patch.object(subprocess, "Popen", popen))
        yield
    assert not faults, faults


class ForkedDecoder:
    """What readers need of `subprocess.Popen`: the decoder, as a fork of this process.

    If it takes more than `fuzzing.MOST_SECONDS` or `MOST_BYTES`, that is added to
    `faults`.
    """

    def __init__(self, decode, faults, command, *, stderr, **options):
        self._faults = faults
        self.returncode = None
        self._before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end, out = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(end)
            self._run(decode, command, out, stderr)
        os.close(out)
        self.stdout = open(end, "rb")

    def _run(self, decode, command, out, stderr):
        """All that the process does."""
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
            signal.alarm(120)
            os.dup2(stderr.fileno(), 2)
            with open(out, "wb") as pipe:
                decode(command, pipe)
            status = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def wait(self):
        """Wait for its end, and tell what it took."""
        if self._pid is None:
            return
        _, status, used = os.wait4(self._pid, 0)
        self._pid = None
        self.returncode = os.waitstatus_to_exitcode(status)
        seconds = used.ru_utime + used.ru_stime
        most = 1024 * (used.ru_maxrss - self._before)
        if seconds > fuzzing.MOST_SECONDS or os.WTERMSIG(status) == signal.SIGALRM:
            self._faults.append(f"a decoder of {seconds:.1f} s, status {status}")
        if most > MOST_BYTES:
            self._faults.append(f"a decoder of {most} bytes more")

    def kill(self):
        """End the process."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stdout.close()
        self.wait()

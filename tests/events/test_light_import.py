"""Events can be read on a machine that has nothing but NumPy, and at once."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.backend_independent

# CPU seconds, peak memory in MB, and the packages that were loaded.
SCRIPT = """
import resource, sys
import keras_qkformer.events
used = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss, which a process inherits from the one that started it.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, int(peak.split()[1]) / 1024)
print(*{name.split(".")[0] for name in sys.modules})
"""


def test_events_import_in_half_a_second_without_keras_or_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    numbers, loaded = done.stdout.splitlines()
    # CPU time, which a busy machine does not stretch as it does the time of the clock.
    seconds, megabytes = map(float, numbers.split())
    assert not {"keras", "tensorflow", "jax", "torch", "aedat"} & set(loaded.split())
    assert seconds < 0.5
    assert megabytes < 60

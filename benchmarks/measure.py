"""Time and memory of one step, and the machine they were measured on.

Only the standard library is imported here: what is measured must not depend on it.
"""

import ctypes
import gc
import importlib.metadata
import itertools
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "libtpu",
    "torch",
    "spikingjelly",
    "snntorch",
    "spyx",
    "numpy",
)


class Memory:
    """Peak memory between two moments.

    On a CPU (Linux, glibc) that of the process: the high-water mark of its resident
    memory, which the system sets back on request, and by how much it lies above the
    resident memory at the start. On a GPU that of the allocator of the library; JAX
    cannot set its mark back, so tasks of one process go from the small to the large.

    Args:
        device: `"cpu"` or `"gpu"`.
        library: `"tensorflow"`, `"jax"` or `"torch"`: whose allocator, on a GPU.
    """

    def __init__(self, device, library):
        self.device, self.library = device, library

    def start(self):
        """Set the mark back and remember what is resident."""
        if self.device == "cpu":
            # What earlier tasks have freed would hide what this one takes.
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self.resident_mb = resident_mb()
        elif self.library == "torch":
            import torch

            torch.cuda.reset_peak_memory_stats()
        elif self.library == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.reset_memory_stats("GPU:0")

    def stop(self):
        """Dictionary with `peak_mb` and `increase_mb` (`None` on a GPU)."""
        if self.device == "cpu":
            # Not `getrusage`: its mark counts the process that started this one too.
            status = Path("/proc/self/status").read_text()
            peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6
            increase = max(peak - self.resident_mb, 0.0)
            return {"peak_mb": peak, "increase_mb": increase}
        if self.library == "torch":
            import torch

            peak = torch.cuda.max_memory_allocated()
        elif self.library == "tensorflow":
            import tensorflow as tf

            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        else:
            import jax

            peak = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
        return {"peak_mb": peak / 1e6, "increase_mb": None}


def resident_mb():
    """Resident memory of this process, in 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(step, steps, memory):
    """Time a function that returns once the device is done.

    The first call, which may compile, is reported apart; the second one is dropped.

    Args:
        step: function without arguments.
        steps: int > 0. Timed calls.
        memory: a `Memory`.

    Returns:
        Dictionary with `first_s`, `seconds` (one per timed call) and the memory.
    """
    memory.start()
    ends = [time.perf_counter()]
    for _ in range(steps + 2):
        step()
        ends.append(time.perf_counter())
    return from_ends(ends, memory)


def from_ends(ends, memory):
    """The record of `measure` from its start and the end of each call, in seconds."""
    first, _, *seconds = (b - a for a, b in itertools.pairwise(ends))
    return {"first_s": first, "seconds": seconds, **memory.stop()}


def summary(seconds):
    """Median, least and largest of a list of times."""
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "count": len(seconds),
    }


def environment(device):
    """What a reader needs to judge the numbers of this machine; unknown is `None`."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": " ".join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": _output("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "device": device,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpu": _output(
            "nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"
        )
        if device == "gpu"
        else None,
        "load_average_at_start": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return None


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None

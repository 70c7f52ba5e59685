"""Measures time and memory of one step, and describes the machine.

This file imports only the standard library, so that it does not affect the results.
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
    """Peak memory between `start` and `stop`.

    On a CPU (Linux, glibc) this is the peak of the process's resident memory, which the
    system resets on request, and its increase over the resident memory at the start. On
    a GPU it is the peak of the library's allocator. JAX cannot reset that peak, so the
    tasks of one process run from small to large.

    Args:
        device: str. `"cpu"` or `"gpu"`.
        library: str. `"tensorflow"`, `"jax"` or `"torch"`: owner of the allocator on a
            GPU.
    """

    def __init__(self, device, library):
        self.device, self.library = device, library

    def start(self):
        """Reset the peak, and on a CPU remember the resident memory."""
        if self.device == "cpu":
            # Memory that earlier tasks freed would hide what this task allocates.
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
        """Return `peak_mb` and `increase_mb` (`None` on a GPU), in 10^6 bytes."""
        if self.device == "cpu":
            # Not `getrusage`: its peak includes the process that started this one.
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
    """Return the resident memory of this process, in 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(step, steps, memory):
    """Time the calls of a function, and measure their peak memory.

    The first call, which may compile, is reported separately; the second is dropped.

    Args:
        step: function without arguments that returns once the device is done.
        steps: int > 0. Number of timed calls.
        memory: a `Memory`.

    Returns:
        Dictionary with `first_s`, `seconds` (list, one per timed call), `peak_mb` and
        `increase_mb`.
    """
    memory.start()
    ends = [time.perf_counter()]
    for _ in range(steps + 2):
        step()
        ends.append(time.perf_counter())
    return from_ends(ends, memory)


def from_ends(ends, memory):
    """Make the record of `measure` from clock readings.

    Args:
        ends: list of floats, in seconds: the start, and the end of each call. At least
            two calls.
        memory: a `Memory` that was started.
    """
    first, _, *seconds = (b - a for a, b in itertools.pairwise(ends))
    return {"first_s": first, "seconds": seconds, **memory.stop()}


def summary(seconds):
    """Return median, least, largest and number of times.

    Args:
        seconds: list of floats, not empty.
    """
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "count": len(seconds),
    }


def environment(device):
    """Describe this machine, its load, the command and versions; unknown is `None`.

    Args:
        device: str. `"cpu"`, `"gpu"`, or any other description to keep.
    """
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

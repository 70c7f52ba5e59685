"""Command lines of our own modules in a process that the current folder can't change.

Python puts the current folder first on its path for `-m` and `-c`, and so do empty and
relative entries of PYTHONPATH: a `numpy.py` beside a downloaded recording would run.
"""

import math
import os
import sys
import time
from pathlib import Path

# The package comes from its own place, installed or not, and the path stays as it is:
# beside the package there may be anything.
_START = """
import importlib.util, runpy, sys
place, module = sys.argv[1:3]
spec = importlib.util.spec_from_file_location(module.partition(".")[0], place)
package = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
del sys.argv[1:3]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def module_command(module, *arguments):
    """Return the command line that runs a module of this package, as `python -m` does.

    To be started with `module_environment()`.

    Args:
        module: str. Dotted name of a module of this package, or of the package itself.
        *arguments: str, path or number. Arguments of the module.

    Returns:
        List of str.
    """
    place = Path(__file__).with_name("__init__.py")
    parts = [sys.executable, "-P", "-c", _START, place, module, *arguments]
    return [
        os.fspath(part) if isinstance(part, os.PathLike) else str(part)
        for part in parts
    ]


def module_environment(**changes):
    """Return the environment for `module_command`.

    Args:
        **changes: str. Variables to set.

    Returns:
        Dict of the variables of this process, but with only the absolute entries of
        PYTHONPATH.
    """
    environment = {**os.environ, **changes}
    path = environment.pop("PYTHONPATH", "").split(os.pathsep)
    if path := [entry for entry in path if os.path.isabs(entry)]:
        environment["PYTHONPATH"] = os.pathsep.join(path)
    return environment


def limit_memory(most_bytes):
    """Make this process end when it takes this much more memory, on Linux.

    Args:
        most_bytes: int. More memory than it has now.
    """
    if sys.platform != "linux":  # Elsewhere the kernel doesn't count as it should.
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + most_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def limit_seconds(most_seconds):
    """Make this process end when it takes this much more processor time, on Linux.

    The signal is SIGXCPU, which ends it in the midst of any function of a library.

    Args:
        most_seconds: int >= 0, beyond the second that has begun.
    """
    if sys.platform != "linux":
        return
    import resource

    limit = math.ceil(time.process_time()) + most_seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))

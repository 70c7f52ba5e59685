"""What ran: command, versions, machine, commit."""

import platform
import shlex
import subprocess
import sys
from pathlib import Path

import keras


def provenance():
    """Return what ran, as a dict that JSON can hold.

    Its keys are `command`, `versions`, `machine`, and `commit`, which is `None` outside
    of a checkout.
    """
    from keras_qkformer import __version__

    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {
            "keras_qkformer": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "machine": platform.platform(),
        "commit": _commit(),
    }


def _commit():
    """The commit of the checkout, or `None` outside of one or without git."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
    except OSError:  # As in the slim images of containers.
        return None
    return found.stdout.strip() if found.returncode == 0 else None

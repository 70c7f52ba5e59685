"""What ran: command, versions, machine, commit."""

import platform
import shlex
import subprocess
import sys
from pathlib import Path

import keras

PACKAGE = Path(__file__).parent


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
            ["git", "rev-parse", "HEAD", "--show-prefix"],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
        )
    except OSError:  # As in the slim images of containers.
        return None
    commit, _, place = found.stdout.partition("\n")
    # As installed, the package may lie within another repository, of its user's.
    return commit if place.strip() == f"{PACKAGE.name}/" else None

"""A file appears whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path


def write_json(path, value):
    """Write a JSON file so that it is whole at any moment."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path, text):
    """Write a text file so that it is whole at any moment."""
    partial = path.with_name(f"partial-{path.name}")
    with writing(path, partial):
        partial.write_text(text)
        os.replace(partial, path)


@contextlib.contextmanager
def writing(path, partial=None):
    """Turns a failure inside into an `OSError` that says what could not be written.

    What was written of it, at `partial`, is removed: it may have filled the disk.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # The latter from HDF5 at its end.
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written; what was there before is whole: {error}"
        ) from error


CACHE_VARIABLE = "KERAS_QKFORMER_CACHE"


def cache_folder():
    """Where fetched presets are: `$KERAS_QKFORMER_CACHE` or a folder in `~/.cache`."""
    default = Path.home() / ".cache" / "keras_qkformer"
    return Path(os.environ.get(CACHE_VARIABLE) or default)


def file_digest(path):
    """SHA-256 of a file as a hexadecimal string."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

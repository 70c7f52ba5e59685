"""A file or a folder appears whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path


@contextlib.contextmanager
def beside(path):
    """Context that gives a place to write a file or folder which then goes to `path`.

    The place has the name of `path`, in a new folder `partial-...` beside it, so that
    moving it is one rename. That folder, with whatever is left in it, is removed at the
    end. Only a process that is killed leaves one, see `remove_partial`.

    Args:
        path: str or path. Its folder is made if needed.

    Example:
        with beside(path) as place:
            place.write_text("...")
            os.replace(place, path)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=path.parent))
    try:
        yield partial / path.name
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path):
    """Context that gives a path to write to; the file appears at its end.

    Args:
        path: str or path of the file, which is replaced.

    Raises:
        OSError: if it can't be written.
    """
    with writing(path), beside(path) as place:
        yield place
        os.replace(place, path)


def replace_folder(new, path):
    """Put a folder in the place of another one, if there is one.

    Should the process be killed in between, `finish_replacing` goes on.

    Args:
        new: path of a folder on the same disk as `path`.
        path: path.
    """
    old = _old(path)
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(new, path)
    shutil.rmtree(old, ignore_errors=True)


def finish_replacing(path):
    """Bring back the old folder if `replace_folder` was killed before the new came."""
    if _old(path).exists() and not path.exists():
        os.replace(_old(path), path)


def remove_partial(folder):
    """Remove what killed processes left in a folder; no other may be writing there."""
    for path in folder.glob(f"{_PARTIAL}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def write_json(path, value):
    """Write a JSON file so that it is whole at any moment."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path, text):
    """Write a text file so that it is whole at any moment."""
    with whole_file(path) as place:
        place.write_text(text)


@contextlib.contextmanager
def writing(path):
    """Turns a failure inside into an `OSError` that says what could not be written."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # The latter from HDF5 at its end.
        raise OSError(
            f"{path} could not be written; what was there before is whole: {error}"
        ) from error


_PARTIAL = "partial-"


def _old(path):
    return path.with_name(f"{path.name}.old")


CACHE_VARIABLE = "KERAS_QKFORMER_CACHE"


def cache_folder():
    """Where fetched presets are: `$KERAS_QKFORMER_CACHE` or a folder in `~/.cache`."""
    default = Path.home() / ".cache" / "keras_qkformer"
    return Path(os.environ.get(CACHE_VARIABLE) or default)


def file_digest(path):
    """SHA-256 of a file as a hexadecimal string."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Write files and folders so that they appear whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from keras_qkformer.partial_folders import partial_folder


@contextlib.contextmanager
def beside(path):
    """Context that gives a temporary place for a file or folder to be moved to `path`.

    The place has the name of `path` and lies in a new folder `partial-...` beside it,
    so that moving it is one rename. The end of the context removes that folder and its
    contents. Only a killed process leaves one behind, see `partial_folders`.

    Args:
        path: str or path. Its folder is made if needed.

    Returns:
        Context whose value is the path of the place, where nothing exists yet.

    Example:
        with beside(path) as place:
            place.write_text("...")
            move(place, path)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(path) as folder:
        yield folder / path.name


@contextlib.contextmanager
def whole_file(path):
    """Context that gives a temporary path; at its end, that file replaces `path`.

    Args:
        path: str or path of the file.

    Returns:
        Context whose value is the temporary path.

    Raises:
        OSError: if the file can't be written.
    """
    with writing(path), beside(path) as place:
        yield place
        move(place, path)


def move(new, path):
    """Move a finished file or folder to its path, so that a power loss keeps it whole.

    All of it is on the disk before it gets its name, and the name is when this returns.

    Args:
        new: path of a file or folder on the same disk as `path`.
        path: path. A file there is replaced.

    Raises:
        OSError: if it can't be written or moved.
    """
    new, path = Path(new), Path(path)
    for part in [*new.rglob("*"), new]:
        _sync(part)
    os.replace(new, path)
    _sync(path.parent)


def append_text(path, text):
    """Append text to a file; it is on the disk when this returns.

    Args:
        path: str or path of the file.
        text: str.

    Raises:
        OSError: if the file can't be written; it may end with a part of the text.
    """
    with writing(path), open(path, "a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(path):
    """Wait until a file, or the list of a folder's entries, is on the disk."""
    # Some file systems, such as those of other machines, can't sync a folder, and some
    # systems or permissions don't let it be opened.
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NO_SYNC):
            raise
    finally:
        os.close(descriptor)


def replace_folder(new, path):
    """Move a folder to `path`, in place of the folder there, if any.

    If the process is killed in between, `finish_replacing` restores the old folder; if
    the new one can't be moved, it is restored at once.

    Args:
        new: path of a folder on the same disk as `path`.
        path: path of the folder to replace.

    Raises:
        OSError: if a folder can't be written or moved.
    """
    finish_replacing(path)
    if os.path.lexists(path):
        _put_aside(path)
    try:
        move(new, path)
    except OSError:
        finish_replacing(path)
        raise
    _remove(_old(path))


def _put_aside(path):
    """Rename a folder to its old name, or copy it where it can't be renamed."""
    try:
        os.replace(path, _old(path))
    except OSError as error:
        # So it is with folders of a container's image, of whatever disk.
        if error.errno != errno.EXDEV:
            raise
        with beside(_copy(path)) as place:
            shutil.copytree(path, place)
            move(place, _copy(path))
        shutil.rmtree(path)
        os.replace(_copy(path), _old(path))


def finish_replacing(path):
    """Finish what `replace_folder` could not, as it was killed.

    If the new folder had not come, the old one is restored; else it is removed.

    Args:
        path: path that was given to `replace_folder`.

    Raises:
        OSError: if a folder can't be moved.
    """
    if _copy(path).exists():  # Of the old folder, which may be half removed.
        if path.exists():
            shutil.rmtree(path)
        os.replace(_copy(path), _old(path))
    if _old(path).exists() and not path.exists():
        os.replace(_old(path), path)
    _remove(_old(path))


def _remove(path):
    """Remove a folder, or a link to one: of a link, what it leads to stays."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def write_json(path, value, indent=2):
    r"""Write a JSON file that is whole at any moment.

    Halves of surrogate pairs, as Python has them for bytes of names that are no UTF-8,
    become text such as `\udce9`: strict readers of JSON refuse the whole file.

    Args:
        path: str or path of the file.
        value: value that JSON can hold.
        indent: int, or `None` for one line.

    Raises:
        OSError: if the file can't be written.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    text = _HALVES.sub(lambda half: rf"\\u{ord(half[0]):x}", text)
    write_text(path, text + "\n")


def write_text(path, text):
    """Write a text file that is whole at any moment, in UTF-8 on every system.

    Args:
        path: str or path of the file.
        text: str.

    Raises:
        OSError: if the file can't be written.
    """
    with whole_file(path) as place:
        place.write_text(text, "utf-8", "backslashreplace")


def check_writable(path):
    """Raise `OSError` unless a file or folder can be written at a path.

    Whether the disk is full, or a quota used up, only writing tells.

    Args:
        path: str or path. It and its folder need not exist.
    """
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    writable = os.access(place, os.W_OK)
    if writable and place.is_dir():  # Whatever its permissions say: try it.
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError:
            writable = False
    if not writable:
        raise OSError(f"{path} must be writable. Received: {place} is not")


@contextlib.contextmanager
def writing(path):
    """Context that turns a failure into an `OSError` that names the file.

    Args:
        path: str or path for the message.

    Raises:
        OSError: for any `OSError` or `RuntimeError` inside.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 raises the latter on closing.
        raise OSError(
            f"{path} could not be written; any previous version is intact: {error}"
        ) from error


_HALVES = re.compile("[\ud800-\udfff]")
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def _old(path):
    return path.with_name(f"{path.name}.old")


def _copy(path):
    return path.with_name(f"{path.name}.copy")


CACHE_VARIABLE = "KERAS_QKFORMER_CACHE"


def cache_folder():
    """Return the cache folder: `$KERAS_QKFORMER_CACHE` or a folder in `~/.cache`."""
    named = os.environ.get(CACHE_VARIABLE)  # Not every user has a home.
    return Path(named or Path.home() / ".cache" / "keras_qkformer")


def open_regular(path):
    """Open a file to read its bytes, unless it is a pipe or a device.

    A pipe in a folder that came as an archive would be waited at for ever.

    Args:
        path: str or path of the file.

    Returns:
        Binary file object.

    Raises:
        OSError: if it can't be read, or is no regular file.
    """
    file = open(path, "rb", opener=_open_at_once)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} must be a regular file. Received: a pipe or a device")
    return file


def _open_at_once(path, flags):
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows lacks it.


def file_digest(path):
    """Return the SHA-256 of a file.

    Args:
        path: str or path of the file.

    Returns:
        str of 64 hexadecimal digits.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

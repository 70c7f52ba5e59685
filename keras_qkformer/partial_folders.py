"""Folders `partial-...` of what is being written, and the rule for those left behind.

The rule, wherever we write: a folder `partial-...` beside a target belongs to the
process that holds the lock of the file `.writer` in it. The system drops the lock with
the process, however that ends. The next writer to the same target, and
`remove_partial`, remove the folder if nobody holds the lock and it was made on this
machine since its last start; one of another machine, or on a file system without locks,
after a day without a change.
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import socket
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has other locks: there only the age counts.
    fcntl = None

_PARTIAL = "partial-"
_WRITER = ".writer"
# Others may have put a link or a pipe there.
_FLAGS = os.O_RDWR | os.O_CREAT
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_DAY = 24 * 60 * 60
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def partial(folder):
    """Return the paths in a folder that are named `partial-...`, as a list.

    Args:
        folder: path.
    """
    return list(folder.glob(f"{_PARTIAL}*"))


def is_partial(name):
    """Return whether a file's or folder's name is one of what is being written.

    Args:
        name: str.
    """
    return name.startswith(_PARTIAL)


def remove_partial(folder):
    """Remove what killed processes left in a folder of ours, see the rule above.

    What has no file `.writer` is of an older version, and removed too.

    Args:
        folder: path of a folder in which nothing else is named `partial-...`.
    """
    for path in partial(folder):
        if path.is_dir():
            _remove_abandoned(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def partial_folder(path):
    """Context that gives a new folder beside a target; its end removes it.

    The name is the same for the same target, so that its next writer finds the folder
    that a killed one has left, without a look at all other files there.

    Args:
        path: path of the target, in a folder that exists.

    Returns:
        Context whose value is the path of the folder.
    """
    key = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    for number in itertools.count():
        place = path.with_name(f"{_PARTIAL}{key}-{number}")
        _remove_abandoned(place)
        try:
            place.mkdir(mode=0o700)
            descriptor, is_locked = _locked(place)
        except (FileExistsError, FileNotFoundError):
            continue  # Another process has it, or has just removed it.
        if is_locked is not False:
            break
        os.close(descriptor)
    try:
        os.write(descriptor, _line())
        yield place
    finally:
        _remove(place, descriptor)


def _remove_abandoned(place):
    """Remove a folder, unless a process that lives writes to it."""
    if place.is_symlink() or not place.is_dir():
        return
    with contextlib.suppress(OSError):  # It has just been removed, or isn't ours.
        descriptor, is_locked = _locked(place)
        try:
            line = os.read(descriptor, 300)
            # A line without its end is what a loss of power leaves of it.
            is_dead = is_locked and (line == _line() or not line.endswith(b"\n"))
            if is_dead or (is_locked is not False and is_old(place)):
                _remove(place, descriptor)
                return
        except OSError:
            pass
        os.close(descriptor)


def _remove(place, descriptor):
    """Remove a folder, and close its file `.writer`."""
    # While it is locked, nobody takes the folder over. Windows, which removes no open
    # file, has no locks here.
    if fcntl is None:
        os.close(descriptor)
    try:
        shutil.rmtree(place, ignore_errors=True)
    finally:  # Ctrl-C in the middle leaves it to the next writer, not to nobody.
        if fcntl is not None:
            os.close(descriptor)


def _locked(place):
    """Open and lock the file `.writer` of a folder, made if needed.

    Returns:
        `(descriptor, is_locked)`: True; False if another descriptor has the lock, or
        the folder was removed meanwhile; `None` if there are no locks.
    """
    descriptor = os.open(place / _WRITER, _FLAGS, 0o600)
    try:
        if fcntl is None:
            return descriptor, None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here = os.stat(place / _WRITER)
        return descriptor, os.path.samestat(os.fstat(descriptor), here)
    except (BlockingIOError, FileNotFoundError):
        return descriptor, False
    except OSError:
        return descriptor, None


def is_old(place):
    """Return whether nothing in a folder was changed for a day.

    Args:
        place: path of the folder.

    Raises:
        OSError: if it can't be looked through, or changes meanwhile.
    """
    times = [path.lstat().st_mtime for path in [place, *place.rglob("*")]]
    return time.time() - max(times) > _DAY


def _line():
    """Return the line of the running system: some locks don't reach beyond it."""
    try:
        name = _BOOT.read_text("ascii").strip()
    except OSError:
        name = socket.gethostname()
    return f"{name}\n".encode()

"""One training at a time in a workdir: a lock that the operating system keeps."""

import contextlib
import errno
import os
import socket
import warnings

from keras_qkformer.files import writing
from keras_qkformer.printable import printable
from keras_qkformer.training.workdir import LOCK_FILE, check_workdir

try:
    import fcntl
except ImportError:  # Windows has other locks: there nothing is locked.
    fcntl = None

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
# The file is emptied: a link, as in a workdir of others, could lead to any file.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def only_training(recipe, workdir):
    """Context in which no other process trains into a workdir.

    The lock is a `flock` of the file `fit.lock`, which names the process for messages.
    The system drops it with the process, however that ends, so a file that a killed one
    has left locks nothing. Over NFS it holds between machines. On Windows, and on a
    file system without locks, nothing is locked; the latter gives a warning.

    Args:
        recipe: the `Recipe` to train.
        workdir: path of a folder, made if needed. If it is new and stays empty, the end
            of the context removes it.

    Raises:
        ValueError: if another process trains into the workdir, or it holds anything but
            a training of this recipe.
        OSError: if the workdir can't be written.
    """
    check_workdir(recipe, workdir)
    if fcntl is None:
        yield
        return
    path, is_new = workdir / LOCK_FILE, not workdir.exists()
    with writing(path):
        workdir.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    try:
        check_workdir(recipe, workdir)  # Another training may have ended in between.
        yield
    finally:
        path.unlink(missing_ok=True)  # While it is locked: nobody else can hold it.
        if is_new:
            with contextlib.suppress(OSError):  # It isn't empty.
                workdir.rmdir()
        os.close(descriptor)


def _locked(path):
    """Open and lock a file, write who holds it, and return its descriptor."""
    while True:
        descriptor = os.open(path, _FLAGS, 0o666)
        try:
            _lock(descriptor, path)
            # The holder may have removed the file after we opened it.
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                holder = f"process {os.getpid()} on {socket.gethostname()}\n"
                os.write(descriptor, holder.encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor, path):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 300).decode(errors="replace").strip()
        raise ValueError(
            "Only one process at a time may train into a workdir. Received: "
            f"{str(path.parent)!r}, into which {printable(holder)} trains"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{path.parent} is on a file system without locks: let one training at a "
            "time write into it",
            stacklevel=4,
        )


def _is_at(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False

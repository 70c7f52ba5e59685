"""Recordings that are still written: their bytes as they come, and work ahead of need.

`LiveBytes` reads a pipe, a socket or a growing file for `recording.iter_recording`;
`Ahead` makes items of any iterator in a thread, so that reading goes on while a model
is busy with what was read before.
"""

import collections
import os
import re
import select
import socket
import threading
import time

_ADDRESS = re.compile(r"tcp://(?:\[([^\]\s]+)\]|([^:\s/\[\]]+)):([0-9]{1,5})")
_CONNECT_S = 10
_PATIENCE_S = 5
_POLL_S = 0.02
"""How often a file is asked whether it has grown."""


class LiveBytes:
    """The bytes of a source as they come, as a file object for `iter_recording`.

    Args:
        source: one of

            - `"tcp://HOST:PORT"`, a server to connect to;
            - a path of a file that grows: it is read from its start, and its end is
              waited at for more;
            - a binary file object with a descriptor, such as `sys.stdin.buffer` or the
              output of a process, from which nothing was read before;
            - any other binary file object, whose `read` may return fewer bytes.
        idle_s: float > 0. Seconds without a byte after which the source counts as
            ended, or `None` to wait for ever. Ignored for file objects without a
            descriptor.

    Attributes:
        arrived: float. `time.monotonic()` when the latest bytes came.
        received: int. Number of bytes so far.
        ended: str, empty before the end: `"end"` of the source, `"idle"` or `"closed"`.

    Raises:
        ValueError: if an address or `idle_s` is out of range, or a file shrinks.
        OSError: if there is no such file or server, or a connection breaks.

    Example:
    >>> import io
    >>> with LiveBytes(io.BytesIO(b"some")) as file:
    ...     file.read(100), file.read(100), file.ended
    (b'some', b'', 'end')
    """

    def __init__(self, source, idle_s=None):
        if idle_s is not None and not 0 < idle_s <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"idle_s must be above 0 seconds, or None. Received: idle_s={idle_s}"
            )
        self.arrived = time.monotonic()
        self.received = 0
        self.ended = ""
        self._idle_s = idle_s
        self._own = None  # What is to be closed at the end.
        if isinstance(source, str) and source.startswith("tcp://"):
            self._own = self._file = _connect(source)
            self._read = self._read_descriptor
        elif isinstance(source, (str, os.PathLike)):
            self._own = self._file = open(source, "rb", buffering=0)
            self._read = self._read_growing
        else:
            self._file = source
            has_descriptor = _descriptor(source) is not None
            self._read = self._read_descriptor if has_descriptor else source.read
        self._woken, self._wake = socket.socketpair()

    def read(self, size):
        """Wait for bytes and return at most `size` of them; none after the end.

        Args:
            size: int > 0.
        """
        if self.ended:
            return b""
        block = self._read(size)
        self.received += len(block)
        if block:
            self.arrived = time.monotonic()
        else:
            self.ended = self.ended or "end"
        return block

    def close(self):
        """End the source: a `read` that waits returns at once."""
        self.ended = self.ended or "closed"
        self._wake.close()

    def _read_descriptor(self, size):
        if self._wait([self._file], self._idle_s):
            return os.read(self._file.fileno(), size)
        self.ended = self.ended or "idle"
        return b""

    def _read_growing(self, size):
        start = time.monotonic()
        while not (block := self._file.read(size)):
            length, read = os.fstat(self._file.fileno()).st_size, self._file.tell()
            if length < read:
                raise ValueError(
                    "A file that is read while it grows must not shrink. "
                    f"Received: {length} bytes after {read} were read"
                )
            if self._idle_s and time.monotonic() - start > self._idle_s:
                self.ended = "idle"
            if self.ended:
                break
            self._wait([], _POLL_S)
        return block

    def _wait(self, files, seconds):
        """Return whether one of the files has bytes, once one has or it is too late."""
        ready, _, _ = select.select([*files, self._woken], [], [], seconds)
        if self._woken in ready:
            self.ended = self.ended or "closed"
        return bool(ready) and not self.ended

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()

    def release(self):
        """Close what this object has opened, when nothing reads it any more."""
        self.close()
        self._woken.close()
        if self._own is not None:
            self._own.close()


class Ahead:
    """Makes the items of an iterator in a thread, a few ahead of those that are taken.

    Args:
        items: iterator.
        drop: bool. Whether an item that waits is dropped for a newer one, so that one
            at most waits and the iterator never does. Otherwise two wait at most, and
            then the iterator waits itself.

    Attributes:
        dropped: int. Number of items that were dropped so far.

    Raises:
        Exception: what the iterator raises, after the items before.

    Example:
    >>> list(Ahead(iter([1, 2, 3, 4])))
    [1, 2, 3, 4]
    """

    def __init__(self, items, drop=False):
        self.dropped = 0
        self._drop = drop
        self._items = items
        self._waiting = collections.deque()
        self._changed = threading.Condition()
        self._is_done = self._is_stopped = False
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __iter__(self):
        return self

    def __next__(self):
        with self._changed:
            while not self._waiting and not self._is_done:
                self._changed.wait()
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def stop(self):
        """Take no more items and drop those that wait, without counting them."""
        with self._changed:
            self._is_stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(_PATIENCE_S)  # An iterator may wait for ever.

    def _run(self):
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except Exception as error:  # Raised where the items are taken.
            self._error = error
        with self._changed:
            self._is_done = True
            self._changed.notify_all()

    def _put(self, item):
        """Add an item; return whether more are wanted."""
        with self._changed:
            if self._drop and self._waiting:
                self._waiting.popleft()
                self.dropped += 1
            while len(self._waiting) > 1 and not self._is_stopped:
                self._changed.wait()
            if not self._is_stopped:
                self._waiting.append(item)
            self._changed.notify_all()
            return not self._is_stopped


def _connect(address):
    match = _ADDRESS.fullmatch(address)
    if not match or int(match[3]) > 65_535:
        raise ValueError(f"An address must be tcp://HOST:PORT. Received: {address!r}")
    try:
        place = match[1] or match[2], int(match[3])
        connection = socket.create_connection(place, _CONNECT_S)
    except OSError as error:
        raise ConnectionError(f"No connection to {address}: {error}") from error
    connection.settimeout(None)
    return connection


def _descriptor(file):
    """The number of a file object's descriptor, or `None` if it has none."""
    try:
        return file.fileno()
    except (AttributeError, OSError):
        return None

"""Parts of every reader of recordings: bytes with offsets, damage, chunks."""

import contextlib
import io
import os
import warnings

import numpy as np

from keras_qkformer.events.event_array import EVENT_DTYPE

CHUNK_EVENTS = 1 << 16
"""Default maximum of events in a chunk: 0.8 MiB, which fits a core's cache."""
BLOCK_BYTES = 1 << 20
_LONGEST_LINE = 1 << 16


class DamagedRecordingError(ValueError):
    """A recording violates its format.

    Attributes:
        offset: int. Byte at which the damage begins; every event before it is whole.
    """

    def __init__(self, offset, message):
        super().__init__(f"At byte {offset}: {message}")
        self.offset = offset


class DamagedRecordingWarning(UserWarning):
    """The end of a damaged recording was dropped.

    Attributes:
        offset: int. Byte at which the damage begins.
        dropped_bytes: int. Bytes from there to the end of the file.
    """

    def __init__(self, error, dropped_bytes):
        super().__init__(f"{error} Dropped the last {dropped_bytes} bytes.")
        self.offset = error.offset
        self.dropped_bytes = dropped_bytes


class ByteStream:
    """Reads the bytes of a file in order.

    Args:
        file: binary file object.
        path: str or path of the file, or `None` if it has none.

    Attributes:
        offset: int. Offset of the next byte.
        path: as given.
    """

    def __init__(self, file, path):
        self.offset = 0
        self.path = path
        self._file = file
        self._ahead = memoryview(b"")

    def peek(self, size):
        """Return the next `size` bytes, fewer only at the end of the file."""
        missing = size - len(self._ahead)
        if missing > 0:
            pieces = [self._ahead]
            while missing > 0:
                piece = self._file.read(max(missing, BLOCK_BYTES))
                if isinstance(piece, str):
                    raise TypeError("A file must be open in binary mode, not for text")
                if not piece:
                    break
                pieces.append(piece)
                missing -= len(piece)
            self._ahead = memoryview(b"".join(pieces))
        return bytes(self._ahead[:size])

    def take(self, size):
        """Return the next `size` bytes, as `peek` does, and move past them."""
        taken = self.peek(size)
        self._ahead = self._ahead[len(taken) :]
        self.offset += len(taken)
        return taken

    def skip(self, size):
        """Move past `size` bytes, or to the end of the file; return how many."""
        skipped = 0
        while skipped < size:
            block = len(self.take(min(size - skipped, BLOCK_BYTES)))
            if not block:
                break
            skipped += block
        return skipped

    def header_line(self):
        """Read the next line if it begins with `#`, without its end; else `None`.

        Raises:
            DamagedRecordingError: if a line that begins with `#` is no text.
        """
        if self.peek(1) != b"#":
            return None
        line, end, _ = self.peek(_LONGEST_LINE).partition(b"\n")
        if not end or b"\0" in line:
            raise DamagedRecordingError(
                self.offset,
                "expected a line of text, as it begins with '#'. "
                f"Received: {line[:32]!r}.",
            )
        self.take(len(line) + 1)
        return line.rstrip(b"\r")


class Clock:
    """Finds where time runs backwards, over any number of chunks.

    Args:
        ordered: bool. Whether to look for it at all.
    """

    def __init__(self, ordered):
        self._ordered = ordered
        self._last = None

    def fault(self, t):
        """Find the first time less than the one before it.

        Args:
            t: int array `(events,)`. Times of the next chunk.

        Returns:
            See `first_fault`.
        """
        if not self._ordered or not len(t):
            return None
        last = t[0] if self._last is None else self._last
        self._last = t[-1]
        if t[0] < last:
            return 0, f"expected time {last} or later. Received: {t[0]}."
        fault = first_fault(
            t[1:] < t[:-1],
            lambda i: f"expected time {t[i]} or later. Received: {t[i + 1]}.",
        )
        return fault and (fault[0] + 1, fault[1])


def first_fault(wrong, message):
    """Find the first wrong event.

    Args:
        wrong: bool array `(events,)`.
        message: function `index -> str`.

    Returns:
        `(index, message(index))`, or `None` if no event is wrong.
    """
    if not wrong.any():
        return None
    index = int(wrong.argmax())
    return index, message(index)


def earliest(*faults):
    """Return the first of several faults, or `None`.

    Args:
        *faults: `(index, message)` or `None`, see `first_fault`.
    """
    return min((fault for fault in faults if fault), default=None)


def iterate(decode, source, strict, ordered, chunk_events):
    """Decode a recording chunk by chunk.

    Args:
        decode: generator function `(stream, clock, chunk_events)` of a format: takes
            bytes from a `ByteStream`, has a `Clock` check the times, and yields arrays
            of at most `chunk_events` events. Where the bytes violate the format, it
            yields the whole events before and then raises `DamagedRecordingError`.
        source: path, bytes or binary file object.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        chunk_events: int > 0. Maximum number of events in a chunk.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`, none of them empty.

    Raises:
        DamagedRecordingError: if the recording is damaged and `strict`.
        ValueError: if `chunk_events` is not positive.
    """
    if not chunk_events > 0:
        raise ValueError(
            f"chunk_events must be above 0. Received: chunk_events={chunk_events}"
        )
    path = source if isinstance(source, (str, os.PathLike)) else None
    with opened(source, "rb") as file:
        stream = ByteStream(file, path)
        try:
            for events in decode(stream, Clock(ordered), chunk_events):
                if len(events):
                    yield events
        except DamagedRecordingError as error:
            if strict:
                raise
            while stream.skip(BLOCK_BYTES):
                pass
            dropped = stream.offset - error.offset
            warnings.warn(DamagedRecordingWarning(error, dropped), stacklevel=2)


def read_events(decode, source, strict, ordered):
    """Decode a recording into one array.

    Args:
        decode: see `iterate`.
        source: path, bytes or binary file object.
        strict: bool. See `iterate`.
        ordered: bool. See `iterate`.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged and `strict`.
    """
    chunks = list(iterate(decode, source, strict, ordered, CHUNK_EVENTS))
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.empty(0, EVENT_DTYPE)


@contextlib.contextmanager
def opened(file, mode):
    """Context manager that gives a binary file object.

    Args:
        file: path; or binary file object, which stays open; or, to read, bytes.
        mode: str. `"rb"` or `"wb"`.

    Raises:
        TypeError: if `file` is none of these.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, mode) as opened:
            yield opened
    elif mode == "rb" and isinstance(file, (bytes, bytearray, memoryview)):
        yield io.BytesIO(file)
    elif hasattr(file, "read" if mode == "rb" else "write"):
        yield file
    else:
        kinds = "a path, bytes or a" if mode == "rb" else "a path or a"
        raise TypeError(
            f"A recording must be {kinds} binary file object. Received: {file!r}"
        )


def read_magic(stream, magic):
    """Move past the first line, or raise `DamagedRecordingError` if it is another one.

    Args:
        stream: `ByteStream` at the start of a recording.
        magic: bytes of the line, without its end.
    """
    start = stream.peek(32)
    if stream.header_line() != magic:
        raise DamagedRecordingError(
            0,
            f"expected a first line {magic.decode()!r}. "
            f"Received: {start if start else 'an empty file'}.",
        )


def check_whole(block, size, stream):
    """Raise `DamagedRecordingError` unless a block ends with a whole event.

    Args:
        block: bytes that were just taken from the stream.
        size: int > 0. Bytes per event.
        stream: `ByteStream`.
    """
    rest = len(block) % size
    if rest:
        raise DamagedRecordingError(
            stream.offset - rest,
            f"expected the {size} bytes of an event, found the end of the file "
            f"after {rest}.",
        )


def outside(x, y, sensor_size):
    """Find the first event outside the sensor.

    Args:
        x: unsigned int array `(events,)`. Columns.
        y: unsigned int array `(events,)`. Rows.
        sensor_size: (height, width) in pixels.

    Returns:
        See `first_fault`.
    """
    height, width = sensor_size
    return first_fault(
        (x >= width) | (y >= height),
        lambda i: (
            f"expected a pixel of a sensor of {height}x{width} (height x width). "
            f"Received: x={x[i]}, y={y[i]}."
        ),
    )


def check_time(events, bits):
    """Raise `ValueError` unless all times fit a number of bits.

    Args:
        events: array `(events,)` with a field t.
        bits: int. Bits of the format, unsigned.
    """
    t = events["t"]
    if len(t) and not 0 <= t.min() <= t.max() < 1 << bits:
        raise ValueError(
            f"t must lie from 0 to 2^{bits} - 1 in this format. "
            f"Received: t from {t.min()} to {t.max()}"
        )

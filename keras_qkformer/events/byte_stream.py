"""Parts of every reader of recordings: bytes with offsets, damage, chunks."""

import collections
import contextlib
import dataclasses
import io
import os
import tempfile
import warnings

import numpy as np

from keras_qkformer.events.event_array import EVENT_DTYPE

CHUNK_EVENTS = 1 << 16
"""Default maximum of events in a chunk: 0.8 MiB, which fits a core's cache."""
BLOCK_BYTES = 1 << 20
MAX_GAP_US = 3_600_000_000
"""Default for the longest time between two events: an hour.

A sensor of any size gives several noise events per second in the dark. Damage of one
byte or bit that looks like an overflow moves the clock of AEDAT 2.0 by 67 minutes or
more, and that of AEDAT 3.1 by multiples of 36 minutes.
"""
_LONGEST_LINE = 1 << 16
_LONGEST_HEADER = 1 << 20


class DamagedRecordingError(ValueError):
    """A recording violates its format.

    Attributes:
        offset: int. Byte at which the damage begins; every event before it is whole.
    """

    def __init__(self, offset: int, message: str):
        super().__init__(f"At byte {offset}: {message}")
        self.offset = offset


class DamagedRecordingWarning(UserWarning):
    """The end of a damaged recording was dropped.

    Attributes:
        offset: int. Byte at which the damage begins.
        dropped_bytes: int. Bytes from there to the end of the file.
    """

    def __init__(self, error: DamagedRecordingError, dropped_bytes: int):
        super().__init__(f"{error} Dropped the last {dropped_bytes} bytes.")
        self.offset = error.offset
        self.dropped_bytes = dropped_bytes


@dataclasses.dataclass
class Details:
    """What a recording says about itself, filled in while it is read.

    Attributes:
        format: str. Name of its format, empty before the first bytes are read.
        sensor_size: (height, width) in pixels, or `None` if the file does not state it.
        skipped: `Counter`. How many entries that are no events of a pixel were skipped,
            by their kind, such as "trigger events".
    """

    format: str = ""
    sensor_size: tuple[int, int] | None = None
    skipped: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )


class ByteStream:
    """Reads the bytes of a file in order, in blocks of a mebibyte.

    Args:
        file: binary file object.
        path: str or path of the file, or `None` if it has none.
        details: `Details` that the decoder fills in.

    Attributes:
        offset: int. Offset of the next byte.
        path: as given.
        details: as given.
    """

    def __init__(self, file, path, details):
        self.offset = 0
        self.path = path
        self.details = details
        self._file = file
        self._block = b""
        self._next = 0  # Index in the block.

    def peek(self, size):
        """Return the next `size` bytes, fewer only at the end of the file."""
        self._fill(size)
        return self._block[self._next : self._next + size]

    def take(self, size):
        """Return the next `size` bytes, as `peek` does, and move past them."""
        taken = self.peek(size)
        self._next += len(taken)
        self.offset += len(taken)
        return taken

    @property
    def ready(self):
        """How many bytes can be taken without waiting for the file."""
        return len(self._block) - self._next

    def peek_ready(self, most, least):
        """Return the next bytes, those that are there, and wait only for the least.

        So a recording can be decoded while it is written.

        Args:
            most: int. Largest number of bytes.
            least: int > 0. Number of bytes to wait for; fewer come only at the end of
                the file.
        """
        self._fill(least)
        return self.peek(min(most, self.ready))

    def take_ready(self, most, unit):
        """Return as many whole units as are there, at least one, and move past them.

        Args:
            most: int. Largest number of bytes, a multiple of the unit.
            unit: int > 0. Bytes of a unit; fewer come only at the end of the file.
        """
        size = len(self.peek_ready(most, unit))
        return self.take(size - size % unit or size)

    def _fill(self, size):
        """Read on until the block has `size` more bytes or the file ends."""
        missing = size - (len(self._block) - self._next)
        if missing <= 0:
            return
        pieces = [self._block[self._next :]]
        while missing > 0:
            piece = self._file.read(max(missing, BLOCK_BYTES))
            if isinstance(piece, str):
                raise TypeError("A file must be open in binary mode, not for text")
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        self._block, self._next = b"".join(pieces), 0

    def skip(self, size):
        """Move past `size` bytes, or to the end of the file; return how many."""
        skipped = 0
        while skipped < size:
            block = len(self.take(min(size - skipped, BLOCK_BYTES)))
            if not block:
                break
            skipped += block
        return skipped

    def header_line(self, mark=b"#"):
        """Read the next line if it begins with a mark, without its end; else `None`.

        A line has at most 64 KiB, and all lines of a header have at most 1 MiB.

        Args:
            mark: bytes with which every line of the header begins.

        Raises:
            DamagedRecordingError: if a line that begins with the mark is no text, or
                the line or the header is longer.
        """
        if self.peek(len(mark)) != mark:
            return None
        end = self._find_line_end()
        line = self._block[self._next : end]
        if end < 0 or b"\0" in line:
            raise DamagedRecordingError(
                self.offset,
                "expected a line of text of at most 64 KiB, as it begins with "
                f"{mark.decode()!r}. Received: {self.peek(32)!r}.",
            )
        if self.offset + len(line) >= _LONGEST_HEADER:
            raise DamagedRecordingError(
                self.offset, "expected a header of at most 1 MiB before."
            )
        self._next = end + 1
        self.offset += len(line) + 1
        return line.rstrip(b"\r")

    def _find_line_end(self):
        """Index in the block of the end of the next line, or -1 if it has none."""
        searched = 0
        while searched < _LONGEST_LINE:
            start = self._next + searched
            end = self._block.find(b"\n", start, self._next + _LONGEST_LINE)
            if end >= 0:
                return end
            searched = self.ready
            self._fill(searched + 1)
            if self.ready == searched:
                break
        return -1


class Clock:
    """Finds where time runs backwards or leaps ahead, over any number of chunks.

    Args:
        ordered: bool. Whether time that runs backwards is a fault.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds; `None` for no bound.

    Raises:
        ValueError: if `max_gap_us` is out of range.
    """

    def __init__(self, ordered, max_gap_us):
        if max_gap_us is not None and not 0 <= max_gap_us < 1 << 63:
            raise ValueError(
                "max_gap_us must lie from 0 to 2^63 - 1 (microseconds), or be None. "
                f"Received: max_gap_us={max_gap_us}"
            )
        self._ordered = ordered
        self._max_gap = max_gap_us
        self._last = None

    def fault(self, t):
        """Find the first event that comes too early or too late after the one before.

        Args:
            t: int array `(events,)`. Times of the next chunk.

        Returns:
            See `first_fault`.
        """
        if not len(t):
            return None
        last = t[0] if self._last is None else self._last
        self._last = t[-1]
        fault = self._fault_between(np.array([last]), t[:1])
        if fault is None and (fault := self._fault_between(t[:-1], t[1:])):
            fault = fault[0] + 1, fault[1]
        return fault

    def _fault_between(self, before, after):
        if self._max_gap is None:
            wrong = after < before if self._ordered else np.zeros(0, bool)
        else:
            # As uint64, negative differences are larger than any gap, and others are
            # right even where they exceed int64.
            wrong = (after - before).view("u8") > self._max_gap
            if not self._ordered and wrong.any():
                wrong &= after > before
        return first_fault(
            wrong,
            lambda i: (
                f"expected time {before[i]} or later. Received: {after[i]}."
                if after[i] < before[i]
                else f"expected at most {self._max_gap} microseconds after the event "
                f"before, at {before[i]}, or a larger max_gap_us. Received: {after[i]}."
            ),
        )


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


def iterate(decode, source, strict, ordered, max_gap_us, chunk_events, details=None):
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
        max_gap_us: see `Clock`. A longer time counts as damage.
        chunk_events: int > 0. Maximum number of events in a chunk.
        details: `Details` to fill in, or `None`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`, none of them empty.

    Raises:
        DamagedRecordingError: if the recording is damaged and `strict`.
        ValueError: if `chunk_events` is not positive or `max_gap_us` is out of range.
    """
    if not chunk_events > 0:
        raise ValueError(
            f"chunk_events must be above 0. Received: chunk_events={chunk_events}"
        )
    clock = Clock(ordered, max_gap_us)
    path = source if isinstance(source, (str, os.PathLike)) else None
    with opened(source, "rb") as file:
        stream = ByteStream(file, path, Details() if details is None else details)
        try:
            for events in decode(stream, clock, chunk_events):
                if len(events):
                    yield events
        except DamagedRecordingError as error:
            if path is not None:  # A decoder knows bytes, not files.
                error.args = (f"{os.fspath(path)}: {error}",)
            if strict:
                raise
            while stream.skip(BLOCK_BYTES):
                pass
            dropped = stream.offset - error.offset
            warnings.warn(DamagedRecordingWarning(error, dropped), stacklevel=2)


def read_events(decode, source, strict, ordered, max_gap_us, details=None):
    """Decode a recording into one array.

    Args:
        decode: see `iterate`.
        source: path, bytes or binary file object.
        strict: bool. See `iterate`.
        ordered: bool. See `iterate`.
        max_gap_us: see `Clock`.
        details: `Details` to fill in, or `None`.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged and `strict`.
    """
    options = strict, ordered, max_gap_us, CHUNK_EVENTS, details
    chunks = list(iterate(decode, source, *options))
    if len(chunks) == 1:
        return chunks[0]
    # As bytes: NumPy copies records one by one.
    chunks = [np.ascontiguousarray(chunk).view("u1") for chunk in chunks]
    return np.concatenate([np.empty(0, "u1"), *chunks]).view(EVENT_DTYPE)


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


@contextlib.contextmanager
def on_disk(stream, name):
    """Context manager that gives the path of a recording, if need be of a copy.

    Args:
        stream: `ByteStream` at the start of a recording.
        name: str. File name of a copy, which is removed afterwards.
    """
    if stream.path is not None:
        yield stream.path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with open(path, "wb") as copy:
            while block := stream.take(BLOCK_BYTES):
                copy.write(block)
        yield path


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

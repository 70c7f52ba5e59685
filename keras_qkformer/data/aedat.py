"""Recordings of event cameras, to and from arrays of `EVENT_DTYPE`.

| format    | extension      | cameras and data sets                              |
|-----------|----------------|----------------------------------------------------|
| AEDAT 2.0 | `.aedat`       | jAER with a DVS128: CIFAR10-DVS                    |
| AEDAT 3.1 | `.aedat`       | cAER: DVS128 Gesture                               |
| AEDAT 4   | `.aedat4`      | DV; to read: `pip install 'keras_qkformer[events]'`|
| N-MNIST   | `.bin`, `.bs2` | N-MNIST, N-Caltech101                              |

`read_...` returns all events of a path, bytes or a binary file object. `iter_...` takes
the same arguments and yields the events in chunks, so that memory stays bounded
whatever the size of the recording. Both treat damage alike:

- `strict=True`: a file that is truncated, empty, of another format or corrupted raises
  `DamagedRecordingError` with the byte offset and what was expected there;
- `strict=False`: every whole event before the damage is kept, and a
  `DamagedRecordingWarning` says how many bytes were dropped.

Time that runs backwards counts as damage, unless `ordered=False`. What no format lets
anybody see is damage that turns one possible event into another.
"""

import contextlib
import functools
import importlib.util
import io
import os
import struct
import subprocess
import sys
import tempfile
import warnings

import numpy as np

from keras_qkformer.data.events import EVENT_DTYPE, check_coordinates

ORIENTATIONS = ("jaer", "spikingjelly")
CHUNK_EVENTS = 1 << 16
"""Most events in a chunk unless told otherwise: 0.8 MiB, which fits a core's cache."""

_BLOCK_BYTES = 1 << 20
_LONGEST_LINE = 1 << 16
_LARGEST_FALL = (1 << 32) - (1 << 28)  # AEDAT 2.0: 4.5 minutes around an overflow.
_PACKET_HEADER = struct.Struct("<HHIIIIII")  # AEDAT 3.1
_POLARITY, _LARGEST_KIND = 1, 31
_AEDAT4_MAGIC = b"#!AER-DAT4.0\r\n"
_AEDAT4_END = (-1, -1)
# The package aborts its process on some damaged files, so it gets one of its own. That
# writes the number of cameras, stream, height and width of each, and for each packet
# its stream, the size of its events and these.
_AEDAT4_PROCESS = """
import struct, sys
import aedat, numpy
decoder, out = aedat.Decoder(sys.argv[1]), sys.stdout.buffer
streams = decoder.id_to_stream()
cameras = {n: s for n, s in streams.items() if s["type"] == "events"}
out.write(struct.pack("<i", len(cameras)))
for n, s in cameras.items():
    out.write(struct.pack("<3i", n, s["height"], s["width"]))
for packet in decoder:
    events = packet["events"] if packet["stream_id"] in cameras else []
    made = numpy.empty(len(events), "<i8,<u2,<u2,?")
    for ours, theirs in zip(made.dtype.names, ("t", "x", "y", "on")):
        if len(events):
            made[ours] = events[theirs]
    out.write(struct.pack("<iq", packet["stream_id"], made.nbytes))
    out.write(made.tobytes())
out.write(struct.pack("<iq", -1, -1))
"""
_NMNIST_EXTENSIONS = (".bin", ".bs2")
_NMNIST_OVERFLOW_ROW = 240


class DamagedRecordingError(ValueError):
    """A recording is not what its format says.

    Attributes:
        offset: int. Byte at which the damage begins: whole events end before it.
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


def read_recording(
    source,
    *,
    name=None,
    orientation="jaer",
    sensor_size=(34, 34),
    strict=True,
    ordered=True,
):
    """All events of a recording whose format is found out.

    AEDAT files say their version in the first line. N-MNIST files say nothing: they are
    known by the extension `.bin` or `.bs2`.

    Args:
        source: path, bytes or binary file object.
        name: str, or `None` for that of the path. File name, if the source has none.
        orientation: str. See `read_aedat2`; other formats are upright.
        sensor_size: (height, width) in pixels. See `read_nmnist`; others need none.
        strict: bool. Whether damage raises, or its rest is dropped with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged or of no known format.

    Example:
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_recording(file.getvalue()).tolist()
    [(10, 3, 4, True)]
    """
    return _all_events(
        iter_recording(
            source,
            name=name,
            orientation=orientation,
            sensor_size=sensor_size,
            strict=strict,
            ordered=ordered,
        )
    )


def iter_recording(
    source,
    *,
    name=None,
    orientation="jaer",
    sensor_size=(34, 34),
    strict=True,
    ordered=True,
    chunk_events=CHUNK_EVENTS,
):
    """As `read_recording`, in chunks of at most `chunk_events` events.

    Example:
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(10, 3, 4, True)] * 3, EVENT_DTYPE))
    >>> [len(chunk) for chunk in iter_recording(file.getvalue(), chunk_events=2)]
    [2, 1]
    """
    _check_orientation(orientation)
    if name is None and isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)

    def decode(stream, clock, chunk_events):
        start = stream.peek(12)
        if start.startswith(b"#!AER-DAT2"):
            return _decode_aedat2(stream, clock, chunk_events, orientation)
        if start.startswith(b"#!AER-DAT3"):
            return _decode_aedat31(stream, clock, chunk_events, False)
        if start.startswith(b"#!AER-DAT4"):
            return _decode_aedat4(stream, clock, chunk_events)
        if name is not None and name.endswith(_NMNIST_EXTENSIONS):
            return _decode_nmnist(stream, clock, chunk_events, sensor_size)
        raise DamagedRecordingError(
            0,
            "expected '#!AER-DAT' with 2.0, 3.1 or 4.0, or a file named "
            f"{' or '.join(_NMNIST_EXTENSIONS)}. Received: {start or 'an empty file'}.",
        )

    return _iterate(decode, source, strict, ordered, chunk_events)


def read_aedat2(source, *, orientation="jaer", strict=True, ordered=True):
    """All events of an AEDAT 2.0 recording of a DVS128 (128x128 pixels).

    Header lines begin with `#`. Then each event is a 32-bit address and a 32-bit time
    in microseconds, both unsigned and big-endian. In the address, bit 0 is clear for
    ON, bits 1 to 7 hold a column counted from the right and bits 8 to 14 a row counted
    from the bottom; bit 15 marks an external event, which is no pixel and skipped.
    Where the 32 bits of time overflow, after 71.6 minutes, it goes on.

    Args:
        source: path, bytes or binary file object.
        orientation: str. `"jaer"` gives x = 127 - column, y = 127 - row, upright as the
            camera saw it. `"spikingjelly"` gives x = 127 - row, y = 127 - column, its
            transpose, which SpikingJelly's CIFAR10-DVS, and with it QKFormer, uses.
        strict: bool. Whether damage raises, or its rest is dropped with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format.
        ValueError: if `orientation` is unknown.

    Example:
    >>> file = io.BytesIO()
    >>> write_aedat2(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_aedat2(file.getvalue()).tolist()
    [(10, 3, 4, True)]
    >>> read_aedat2(file.getvalue(), orientation="spikingjelly").tolist()
    [(10, 4, 3, True)]
    >>> try:
    ...     read_aedat2(file.getvalue()[:-1])
    ... except DamagedRecordingError as error:
    ...     print(error)
    At byte 84: expected the 8 bytes of an event, found the end of the file after 7.

    Reference:
        jAER `DVS128` and `AEFileInputStream`; SpikingJelly 0.0.0.0.12, `CIFAR10DVS`.
    """
    return _all_events(
        iter_aedat2(source, orientation=orientation, strict=strict, ordered=ordered)
    )


def iter_aedat2(
    source,
    *,
    orientation="jaer",
    strict=True,
    ordered=True,
    chunk_events=CHUNK_EVENTS,
):
    """As `read_aedat2`, in chunks of at most `chunk_events` events."""
    _check_orientation(orientation)
    decode = functools.partial(_decode_aedat2, orientation=orientation)
    return _iterate(decode, source, strict, ordered, chunk_events)


def write_aedat2(target, events, *, orientation="jaer"):
    """Write events as an AEDAT 2.0 recording of a DVS128.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p; t from 0 to 2^32 - 1.
        orientation: str. See `read_aedat2`.

    Raises:
        ValueError: if an event does not fit the format.
    """
    _check_orientation(orientation)
    check_coordinates(events, (128, 128))
    _check_time(events, 32)
    x, y = events["x"].astype("u4"), events["y"].astype("u4")
    column, row = (x, y) if orientation == "jaer" else (y, x)
    words = np.empty((len(events), 2), ">u4")
    words[:, 0] = (127 - row) << 8 | (127 - column) << 1 | (events["p"] == 0)
    words[:, 1] = events["t"]
    with _opened(target, "wb") as file:
        file.write(
            b"#!AER-DAT2.0\r\n"
            b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
            b"#End Of ASCII Header\r\n"
        )
        file.write(words.tobytes())


def read_aedat31(source, *, valid_only=False, strict=True, ordered=True):
    """All polarity events of an AEDAT 3.1 recording.

    Header lines begin with `#`, the last is `#!END-HEADER`. Then come packets, of which
    those of polarity events are read and the others skipped. A packet has room for
    `eventCapacity` events; the first `eventNumber` of them are events. Time is
    `eventTSOverflow * 2^31` plus that of the event, in microseconds.

    Args:
        source: path, bytes or binary file object.
        valid_only: bool. Whether events that the camera's software marked as invalid
            are left out. SpikingJelly keeps them.
        strict: bool. Whether damage raises, or its rest is dropped with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format.

    Example:
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(2**31 + 10, 3, 4, True)], EVENT_DTYPE))
    >>> read_aedat31(file.getvalue()).tolist()
    [(2147483658, 3, 4, True)]

    Reference:
        The AEDAT 3.1 format of iniVation; libcaer `events/polarity.h`.
    """
    return _all_events(
        iter_aedat31(source, valid_only=valid_only, strict=strict, ordered=ordered)
    )


def iter_aedat31(
    source,
    *,
    valid_only=False,
    strict=True,
    ordered=True,
    chunk_events=CHUNK_EVENTS,
):
    """As `read_aedat31`, in chunks of at most `chunk_events` events."""
    decode = functools.partial(_decode_aedat31, valid_only=valid_only)
    return _iterate(decode, source, strict, ordered, chunk_events)


def write_aedat31(target, events, *, packet_events=4096):
    """Write events as an AEDAT 3.1 recording.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p; t from 0 to 2^63 - 1, x and y
            below 2^15.
        packet_events: int > 0. Most events in a packet.

    Raises:
        ValueError: if an event does not fit the format.
    """
    check_coordinates(events, (1 << 15, 1 << 15))
    _check_time(events, 63)
    t = events["t"].astype(np.int64)
    x, y = events["x"].astype("u4"), events["y"].astype("u4")
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = x << 17 | y << 2 | (events["p"] != 0) << 1 | 1
    words[:, 1] = t & 0x7FFFFFFF
    overflow = t >> 31
    # A packet has one overflow count.
    new_overflow = np.flatnonzero(np.diff(overflow)) + 1
    with _opened(target, "wb") as file:
        file.write(
            b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
        )
        for run in np.split(np.arange(len(events)), new_overflow):
            for first in range(0, len(run), packet_events):
                packet = words[run[first : first + packet_events]]
                size = len(packet)
                file.write(
                    _PACKET_HEADER.pack(
                        _POLARITY, 1, 8, 4, overflow[run[0]], size, size, size
                    )
                )
                file.write(packet.tobytes())


def read_nmnist(source, *, sensor_size=(34, 34), strict=True, ordered=True):
    """All events of an N-MNIST or N-Caltech101 recording.

    There is no header. Each event has 5 bytes: column, row, polarity in the highest bit
    and below it 23 bits of time in microseconds, big-endian. An event in row 240 is
    none: it says that 2^13 microseconds were added to the time from there on.

    Args:
        source: path, bytes or binary file object.
        sensor_size: (height, width) in pixels: (34, 34) for N-MNIST, (180, 240) for
            N-Caltech101.
        strict: bool. Whether damage raises, or its rest is dropped with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged, empty or of another camera.

    Example:
    >>> read_nmnist(bytes.fromhex("03 04 80 00 0a")).tolist()
    [(10, 3, 4, True)]

    Reference:
        [Orchard et al., 2015](https://doi.org/10.3389/fnins.2015.00437), and the
        scripts that came with the data.
    """
    return _all_events(
        iter_nmnist(source, sensor_size=sensor_size, strict=strict, ordered=ordered)
    )


def iter_nmnist(
    source,
    *,
    sensor_size=(34, 34),
    strict=True,
    ordered=True,
    chunk_events=CHUNK_EVENTS,
):
    """As `read_nmnist`, in chunks of at most `chunk_events` events."""
    decode = functools.partial(_decode_nmnist, sensor_size=sensor_size)
    return _iterate(decode, source, strict, ordered, chunk_events)


def write_nmnist(target, events):
    """Write events as an N-MNIST recording.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p, at least one; t from 0 to
            2^23 - 1, x below 256, y below 240.

    Raises:
        ValueError: if an event does not fit the format, or there is none: the format
            could not tell that from an empty file.
    """
    if not len(events):
        raise ValueError("An N-MNIST recording must have events. Received: none")
    check_coordinates(events, (_NMNIST_OVERFLOW_ROW, 256))
    _check_time(events, 23)
    t = events["t"].astype("u4")
    high = (events["p"] != 0).astype("u4") << 7 | t >> 16
    columns = np.stack([events["x"], events["y"], high, t >> 8 & 255, t & 255], 1)
    with _opened(target, "wb") as file:
        file.write(columns.astype("u1").tobytes())


def read_aedat4(source, *, strict=True, ordered=True):
    """All events of an AEDAT 4 recording.

    The package `aedat` reads the packets, compressed or not, in a process of its own,
    because some damaged files abort it; what is not events of polarity is skipped.

    Args:
        source: path, bytes or binary file object; what is no path is copied to disk.
        strict: bool. Whether damage raises, or its rest is dropped with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, upright as the camera's software says.

    Raises:
        DamagedRecordingError: if the file is damaged, of another format or of several
            cameras.
        ImportError: if the package `aedat` is not installed.
    """
    return _all_events(iter_aedat4(source, strict=strict, ordered=ordered))


def iter_aedat4(source, *, strict=True, ordered=True, chunk_events=CHUNK_EVENTS):
    """As `read_aedat4`, in chunks of at most `chunk_events` events."""
    return _iterate(_decode_aedat4, source, strict, ordered, chunk_events)


class _Stream:
    """Bytes of a file in order, with the offset of the next one."""

    def __init__(self, file, path):
        self.offset = 0
        self.path = path  # None if the bytes come from elsewhere.
        self._file = file
        self._ahead = memoryview(b"")

    def peek(self, size):
        """The next `size` bytes, fewer only at the end of the file."""
        missing = size - len(self._ahead)
        if missing > 0:
            pieces = [self._ahead]
            while missing > 0:
                piece = self._file.read(max(missing, _BLOCK_BYTES))
                if isinstance(piece, str):
                    raise TypeError("A file must be open in binary mode, not for text")
                if not piece:
                    break
                pieces.append(piece)
                missing -= len(piece)
            self._ahead = memoryview(b"".join(pieces))
        return bytes(self._ahead[:size])

    def take(self, size):
        """As `peek`, and go past them."""
        taken = self.peek(size)
        self._ahead = self._ahead[len(taken) :]
        self.offset += len(taken)
        return taken

    def skip(self, size):
        """Go past `size` bytes, or to the end of the file; returns how many."""
        skipped = 0
        while skipped < size:
            block = len(self.take(min(size - skipped, _BLOCK_BYTES)))
            if not block:
                break
            skipped += block
        return skipped

    def header_line(self):
        """The next line if it begins with `#`, without its end, else `None`."""
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


class _Clock:
    """Finds where time runs backwards, over any number of chunks."""

    def __init__(self, ordered):
        self._ordered = ordered
        self._last = None

    def fault(self, t):
        """The first time that is less than the one before, as `_fault` says it."""
        if not self._ordered or not len(t):
            return None
        last = t[0] if self._last is None else self._last
        self._last = t[-1]
        if t[0] < last:
            return 0, f"expected time {last} or later. Received: {t[0]}."
        fault = _fault(
            t[1:] < t[:-1],
            lambda i: f"expected time {t[i]} or later. Received: {t[i + 1]}.",
        )
        return fault and (fault[0] + 1, fault[1])


def _fault(wrong, message):
    """Index of the first wrong event and `message(index)`; `None` if none is."""
    if not wrong.any():
        return None
    index = int(wrong.argmax())
    return index, message(index)


def _earliest(*faults):
    return min((fault for fault in faults if fault), default=None)


def _iterate(decode, source, strict, ordered, chunk_events):
    """Chunks of `decode(stream, clock, chunk_events)`, and what to do about damage."""
    if not chunk_events > 0:
        raise ValueError(
            f"chunk_events must be above 0. Received: chunk_events={chunk_events}"
        )
    path = source if isinstance(source, (str, os.PathLike)) else None
    with _opened(source, "rb") as file:
        stream = _Stream(file, path)
        try:
            for events in decode(stream, _Clock(ordered), chunk_events):
                if len(events):
                    yield events
        except DamagedRecordingError as error:
            if strict:
                raise
            while stream.skip(_BLOCK_BYTES):
                pass
            dropped = stream.offset - error.offset
            warnings.warn(DamagedRecordingWarning(error, dropped), stacklevel=2)


def _all_events(chunks):
    chunks = list(chunks)
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.empty(0, EVENT_DTYPE)


@contextlib.contextmanager
def _opened(file, mode):
    """A binary file object from a path, bytes (to read), or such an object."""
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


def _read_magic(stream, magic):
    start = stream.peek(32)
    if stream.header_line() != magic:
        raise DamagedRecordingError(
            0,
            f"expected a first line {magic.decode()!r}. "
            f"Received: {start if start else 'an empty file'}.",
        )


def _check_whole(block, size, stream):
    """Raise unless the last bytes of the stream are whole events."""
    rest = len(block) % size
    if rest:
        raise DamagedRecordingError(
            stream.offset - rest,
            f"expected the {size} bytes of an event, found the end of the file "
            f"after {rest}.",
        )


def _decode_aedat2(stream, clock, chunk_events, orientation):
    _read_magic(stream, b"#!AER-DAT2.0")
    while stream.header_line() is not None:
        pass
    last, wraps = 0, 0
    while block := stream.take(8 * chunk_events):
        words = np.frombuffer(block, ">u4", len(block) // 8 * 2).reshape(-1, 2)
        address, t = words[:, 0].astype("u4"), words[:, 1].astype("i8")
        # The counter has overflowed where it falls by nearly all of its 32 bits.
        wrapped = np.diff(t, prepend=last) < -_LARGEST_FALL
        last = t[-1] if len(t) else last
        if wraps or wrapped.any():
            t += (wraps + np.cumsum(wrapped)) << 32
            wraps += int(wrapped.sum())
        fault = _earliest(
            _fault(
                address >= 1 << 16,
                lambda i, address=address: (
                    "expected an address of a DVS128, below "
                    f"0x10000. Received: 0x{address[i]:x}."
                ),
            ),
            clock.fault(t),
        )
        address = address.astype("u2")
        column, row = ~address >> 1 & 127, ~address >> 8 & 127
        events = np.empty(len(t), EVENT_DTYPE)
        events["t"] = t
        events["x"] = column if orientation == "jaer" else row
        events["y"] = row if orientation == "jaer" else column
        events["p"] = ~address & 1
        if fault:
            events, address = events[: fault[0]], address[: fault[0]]
        external = address >= 1 << 15
        yield events[~external] if external.any() else events
        if fault:
            raise DamagedRecordingError(
                stream.offset - len(block) + 8 * fault[0], fault[1]
            )
        _check_whole(block, 8, stream)


def _decode_aedat31(stream, clock, chunk_events, valid_only):
    _read_magic(stream, b"#!AER-DAT3.1")
    while (line := stream.header_line()) != b"#!END-HEADER":
        if line is None:
            raise DamagedRecordingError(
                stream.offset,
                "expected a header line, the last of them '#!END-HEADER'. "
                f"Received: {stream.peek(16) or 'the end of the file'}.",
            )
        key, _, value = line.partition(b":")
        if key == b"#Format" and value.strip() != b"RAW":
            raise DamagedRecordingError(
                stream.offset, f"expected '#Format: RAW' before. Received: {line!r}."
            )
    pieces, count = [], 0
    damage = None
    found = _polarity_pieces(stream, chunk_events)
    while True:
        # Damage of what is yielded must end it all: only that of packets waits.
        try:
            piece = next(found, None)
        except DamagedRecordingError as error:
            damage = error
            break
        if piece is None:
            break
        if count + len(piece[0]) > chunk_events:
            yield from _events_of_pieces(pieces, clock, valid_only)
            pieces, count = [], 0
        pieces.append(piece)
        count += len(piece[0])
    yield from _events_of_pieces(pieces, clock, valid_only)
    if damage:
        raise damage


def _polarity_pieces(stream, chunk_events):
    """`(words, overflow, offset)` of whole packets, or of the parts of large ones.

    `words` are those of events, `(events, 2)`; `offset` is the place of the first.
    """
    camera = None
    while header := stream.take(_PACKET_HEADER.size):
        start = stream.offset - len(header)
        if len(header) < _PACKET_HEADER.size:
            raise DamagedRecordingError(
                start,
                f"expected the {_PACKET_HEADER.size} bytes of a packet header, found "
                f"the end of the file after {len(header)}.",
            )
        kind, source, size, time_at, overflow, capacity, number, valid = (
            _PACKET_HEADER.unpack(header)
        )
        if kind > _LARGEST_KIND or not valid <= number <= capacity:
            raise DamagedRecordingError(
                start,
                f"expected a packet header: event type up to {_LARGEST_KIND}, and "
                "eventValid <= eventNumber <= eventCapacity. "
                f"Received: type {kind}, {valid}, {number}, {capacity}.",
            )
        if kind != _POLARITY:
            number = 0
        elif (size, time_at) != (8, 4) or camera not in (None, source):
            raise DamagedRecordingError(
                start,
                "expected polarity events of 8 bytes with the time at byte 4, from one "
                f"source. Received: {size} bytes, time at {time_at}, source {source}"
                f"{'' if camera is None else f' after {camera}'}.",
            )
        else:
            camera = source
        end = stream.offset + capacity * size
        while number:
            offset = stream.offset
            block = stream.take(8 * min(number, chunk_events))
            if not block:
                break
            whole = len(block) // 8
            words = np.frombuffer(block, "<u4", 2 * whole).reshape(-1, 2)
            yield words, overflow, offset
            _check_whole(block, 8, stream)
            number -= whole
        stream.skip(end - stream.offset)
        if stream.offset < end:
            raise DamagedRecordingError(
                stream.offset if kind == _POLARITY else start,
                f"expected a packet up to byte {end}, found the end of the file "
                f"at {stream.offset}.",
            )


def _events_of_pieces(pieces, clock, valid_only):
    if not pieces:
        return
    words, overflows, offsets = zip(*pieces, strict=True)
    counts = [len(piece) for piece in words]
    words = np.concatenate(words)
    data, t = words[:, 0], words[:, 1].astype("i8")
    fault = _fault(t >> 31 != 0, lambda i: "expected a time below 2^31 in a packet.")
    t += np.repeat(np.array(overflows, "i8") << 31, counts)
    fault = _earliest(fault, clock.fault(t))
    events = np.empty(len(t), EVENT_DTYPE)
    events["t"] = t
    events["x"] = data >> 17
    events["y"] = data >> 2 & 0x7FFF
    events["p"] = data >> 1 & 1
    if fault:
        events, data = events[: fault[0]], data[: fault[0]]
    yield events[data & 1 == 1] if valid_only else events
    if fault:
        firsts = np.cumsum([0, *counts[:-1]])
        piece = int(np.searchsorted(firsts, fault[0], "right")) - 1
        raise DamagedRecordingError(
            offsets[piece] + 8 * (fault[0] - int(firsts[piece])), fault[1]
        )


def _decode_nmnist(stream, clock, chunk_events, sensor_size):
    if not stream.peek(1):
        raise DamagedRecordingError(
            0, "expected the 5 bytes of an event. Received: an empty file."
        )
    added = 0
    while block := stream.take(5 * chunk_events):
        columns = np.frombuffer(block, "u1", len(block) // 5 * 5).reshape(-1, 5).T
        high, middle, low = columns[2:].astype("i8")
        t = (high & 127) << 16 | middle << 8 | low
        marker = columns[1] == _NMNIST_OVERFLOW_ROW
        t += added + (np.cumsum(marker) << 13)
        added += int(marker.sum()) << 13
        events = np.empty(len(t), EVENT_DTYPE)
        events["t"], events["p"] = t, high >> 7
        events["x"], events["y"] = columns[0], columns[1]
        fault = _earliest(
            _outside(columns[0], np.where(marker, 0, columns[1]), sensor_size),
            clock.fault(t),
        )
        if fault:
            events, marker = events[: fault[0]], marker[: fault[0]]
        yield events[~marker]
        if fault:
            raise DamagedRecordingError(
                stream.offset - len(block) + 5 * fault[0], fault[1]
            )
        _check_whole(block, 5, stream)


def _decode_aedat4(stream, clock, chunk_events):
    if importlib.util.find_spec("aedat") is None:
        raise ImportError(
            "AEDAT 4 needs the package aedat: pip install 'keras_qkformer[events]'"
        )
    start = stream.peek(len(_AEDAT4_MAGIC))
    if start != _AEDAT4_MAGIC:
        raise DamagedRecordingError(
            0, f"expected a first line {_AEDAT4_MAGIC!r}. Received: {start!r}."
        )
    if stream.path is not None:
        yield from _decode_aedat4_file(stream.path, clock, chunk_events)
        return
    with tempfile.TemporaryDirectory() as folder:  # The package wants a path.
        path = os.path.join(folder, "recording.aedat4")
        with open(path, "wb") as copy:
            while block := stream.take(_BLOCK_BYTES):
                copy.write(block)
        yield from _decode_aedat4_file(path, clock, chunk_events)


def _decode_aedat4_file(path, clock, chunk_events):
    offset = len(_AEDAT4_MAGIC)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-c", _AEDAT4_PROCESS, os.fspath(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):

        def receive(size):
            received = process.stdout.read(size)
            if len(received) == size:
                return received
            process.wait()
            errors.seek(0)
            said = " ".join(errors.read().decode(errors="replace").split())
            raise DamagedRecordingError(
                offset, f"the package aedat could not read on: {said[-200:]}."
            )

        try:
            (count,) = struct.unpack("<i", receive(4))
            if count != 1:
                raise DamagedRecordingError(
                    offset, f"expected events of one camera. Received: {count}."
                )
            camera, *sensor_size = struct.unpack("<3i", receive(12))
            # Packets follow the header, each after the number of its stream and its
            # size: that tells how far the package is.
            with open(path, "rb") as file:
                file.seek(offset)
                offset += 4 + int.from_bytes(file.read(4), "little")
                while (size := struct.unpack("<iq", receive(12))) != _AEDAT4_END:
                    if size[0] == camera:
                        events = np.frombuffer(receive(size[1]), EVENT_DTYPE)
                        fault = _earliest(
                            _outside(events["x"], events["y"], sensor_size),
                            clock.fault(events["t"]),
                        )
                        events = events[: fault[0]] if fault else events
                        for first in range(0, len(events), chunk_events):
                            yield events[first : first + chunk_events]
                        if fault:
                            raise DamagedRecordingError(
                                offset, f"in this packet, {fault[1]}"
                            )
                    file.seek(offset)
                    offset += 8 + struct.unpack("<ii", file.read(8))[1]
        finally:
            process.kill()


def _outside(x, y, sensor_size):
    height, width = sensor_size
    return _fault(
        (x >= width) | (y >= height),
        lambda i: (
            f"expected a pixel of a sensor of {height}x{width} (height x width). "
            f"Received: x={x[i]}, y={y[i]}."
        ),
    )


def _check_orientation(orientation):
    if orientation not in ORIENTATIONS:
        raise ValueError(
            f"orientation must be one of {ORIENTATIONS}. "
            f"Received: orientation={orientation!r}"
        )


def _check_time(events, bits):
    t = events["t"]
    if len(t) and not 0 <= t.min() <= t.max() < 1 << bits:
        raise ValueError(
            f"t must lie from 0 to 2^{bits} - 1 in this format. "
            f"Received: t from {t.min()} to {t.max()}"
        )

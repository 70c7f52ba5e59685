"""AEDAT 3.1, as cAER writes it: DVS128 Gesture.

Header lines begin with `#`; the last is `#!END-HEADER`. Packets follow, each with a
header of 28 bytes, little-endian. A packet has `eventCapacity` slots of `eventSize`
bytes; the first `eventNumber` hold events. Packets of polarity events are read, others
are skipped. A polarity event is 32 bits of data and 32 bits of time. In the data,

- bit 0 is set if the camera's software considers the event valid;
- bit 1 is set for ON;
- bits 2 to 16 hold the row, from the top;
- bits 17 to 31 hold the column, from the left.

The full time is `eventTSOverflow * 2^31` plus the time of the event, in microseconds.

Over a network, cAER sends 20 bytes instead of the header lines: a magic number and a
sequence number of 8 bytes each, the version 1, the format 0 (RAW) and the source.

Damage: a first line other than `#!AER-DAT3.1`, a missing end of the header, a format
other than RAW, a packet header that contradicts itself, polarity events from two
sources, a time of 2^31 or more in a packet, time that runs backwards or leaps ahead, an
incomplete packet at the end.
"""

import functools
import struct

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    check_time,
    check_whole,
    earliest,
    first_fault,
    opened,
    read_events,
    read_magic,
)
from keras_qkformer.events.event_array import EVENT_DTYPE, check_coordinates

_PACKET_HEADER = struct.Struct("<HHIIIIII")
"""Type, source, size of an event, offset of its time, overflows of the time, capacity,
number, number of valid events."""
_POLARITY, _LARGEST_KIND = 1, 31
NETWORK_MAGIC = bytes.fromhex("58669a0bc98b371d")
_NETWORK_HEADER_BYTES = 20
_VERSION_AND_FORMAT = slice(16, 18)  # Behind the magic and a number of 8 bytes each.


def read_aedat31(
    source, *, valid_only=False, strict=True, ordered=True, max_gap_us=MAX_GAP_US
):
    """Read all polarity events of an AEDAT 3.1 recording.

    Args:
        source: path, bytes or binary file object.
        valid_only: bool. Whether events that the camera's software marked as invalid
            are left out. SpikingJelly keeps them.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format.

    Example:
    >>> import io
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(2**31 + 10, 3, 4, True)], EVENT_DTYPE))
    >>> read_aedat31(file.getvalue()).tolist()
    [(2147483658, 3, 4, True)]

    Reference:
        The AEDAT 3.1 format of iniVation; libcaer `events/polarity.h`.
    """
    decode = functools.partial(decode_aedat31, valid_only=valid_only)
    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_aedat31(stream, clock, chunk_events, valid_only=False):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        valid_only: bool. See `read_aedat31`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    if stream.peek(len(NETWORK_MAGIC)) == NETWORK_MAGIC:
        _read_network_header(stream)
    else:
        _read_header(stream)
    pieces, count = [], 0
    damage = None
    found = _polarity_pieces(stream, chunk_events)
    while True:
        # Damage of a packet waits until the events before it are yielded. Damage of
        # these events comes first in the file, so nothing catches it.
        try:
            piece = next(found, ())
        except DamagedRecordingError as error:
            damage = error
            break
        if piece == ():
            break
        if piece is None or count + len(piece[0]) > chunk_events:
            yield from _events_of_pieces(pieces, clock, valid_only)
            pieces, count = [], 0
        if piece is not None:
            pieces.append(piece)
            count += len(piece[0])
    yield from _events_of_pieces(pieces, clock, valid_only)
    if damage:
        raise damage


def _read_header(stream):
    """Read the lines at the start of a file."""
    read_magic(stream, b"#!AER-DAT3.1")
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
                stream.offset,
                f"expected '#Format: RAW' before. Received: {line[:64]!r}.",
            )


def _read_network_header(stream):
    """Read the bytes with which cAER begins a connection."""
    header = stream.take(_NETWORK_HEADER_BYTES)
    stated = header[_VERSION_AND_FORMAT]
    if len(header) < _NETWORK_HEADER_BYTES or stated != bytes([1, 0]):
        raise DamagedRecordingError(
            0,
            f"expected {_NETWORK_HEADER_BYTES} bytes of a network header of cAER, of "
            f"version 1 and format 0 (RAW). Received: {stated!r}.",
        )


def _polarity_pieces(stream, chunk_events):
    """Yield `(words, overflow, offset)` of packets, of large ones in several pieces.

    `words` are the uint32 data and times `(events, 2)`; `offset` is the byte of the
    first event. `None` comes before the stream may have to wait for more bytes.
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
            if stream.ready < 8:
                yield None
            block = stream.take_ready(8 * min(number, chunk_events), 8)
            if not block:
                break
            whole = len(block) // 8
            words = np.frombuffer(block, "<u4", 2 * whole).reshape(-1, 2)
            yield words, overflow, offset
            check_whole(block, 8, stream)
            number -= whole
        if stream.ready < end - stream.offset:
            yield None
        stream.skip(end - stream.offset)
        if stream.offset < end:
            raise DamagedRecordingError(
                stream.offset if kind == _POLARITY else start,
                f"expected a packet up to byte {end}, found the end of the file "
                f"at {stream.offset}.",
            )
        if stream.ready < _PACKET_HEADER.size:
            yield None


def _events_of_pieces(pieces, clock, valid_only):
    if not pieces:
        return
    words, overflows, offsets = zip(*pieces, strict=True)
    counts = [len(piece) for piece in words]
    words = np.concatenate(words)
    data, t = words[:, 0], words[:, 1].astype("i8")
    fault = first_fault(
        t >> 31 != 0, lambda i: "expected a time below 2^31 in a packet."
    )
    t += np.repeat(np.array(overflows, "i8") << 31, counts)
    fault = earliest(fault, clock.fault(t))
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


def write_aedat31(target, events, *, packet_events=4096):
    """Write events as an AEDAT 3.1 recording.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p; t from 0 to 2^63 - 1, x and y
            below 2^15.
        packet_events: int > 0. Maximum number of events in a packet.

    Raises:
        ValueError: if an event does not fit the format.
    """
    check_coordinates(events, (1 << 15, 1 << 15))
    check_time(events, 63)
    t = events["t"].astype(np.int64)
    x, y = events["x"].astype("u4"), events["y"].astype("u4")
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = x << 17 | y << 2 | (events["p"] != 0) << 1 | 1
    words[:, 1] = t & 0x7FFFFFFF
    overflow = t >> 31
    # Events of one packet share an overflow count, so a new count starts a new packet.
    new_overflow = np.flatnonzero(np.diff(overflow)) + 1
    with opened(target, "wb") as file:
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

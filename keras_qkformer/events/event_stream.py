"""Event Stream, `.es` files of version 2, of a DVS or an ATIS. There is no writer.

After 15 bytes, `Event Stream` and three of the version, one byte tells the kind of the
events, and two 16-bit numbers the width and height of the sensor. An event has 5 bytes:
one with the time since the event before and the polarity, and two 16-bit numbers, the
column from the left and the row from the bottom, little-endian. The first byte is

- of a DVS: 0xff for 127 more microseconds, 0xfe for nothing, or else the time in bits 1
  to 7 and the polarity, 1 for ON, in bit 0;
- of an ATIS: 0xfc and bits 0 and 1, n, for n * 63 more microseconds (nothing for 0), or
  else the time in bits 2 to 7, the polarity in bit 1, and in bit 0 whether the event is
  one of exposure, which are skipped.

Damage: a file of another version or kind, a pixel outside the sensor, time that leaps
ahead, an incomplete event at the end. Behind a byte that was left out, events may be
wrong until pixels lie outside the sensor.
"""

import struct

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    earliest,
    outside,
    read_events,
)
from keras_qkformer.events.event_array import EVENT_DTYPE

MAGIC = b"Event Stream"
_HEADER = struct.Struct("<12s3BB2H")
_DVS, _ATIS = 1, 2
BLOCK_BYTES = 1 << 17  # Bounds memory; smaller ones take longer by their number.
_EVENT_BYTES = 5


def read_event_stream(source, *, strict=True, ordered=True, max_gap_us=MAX_GAP_US):
    """Read all changes of brightness of an Event Stream file.

    Args:
        source: path, bytes or binary file object.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Of no effect, as time can't run backwards in this format.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, with y counted from the top.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format.

    Example:
    >>> header = b"Event Stream" + bytes([2, 0, 0, 1, 64, 0, 48, 0])
    >>> read_event_stream(header + bytes([10 << 1 | 1, 3, 0, 40, 0])).tolist()
    [(10, 3, 7, True)]

    Reference:
        [Event Stream](https://github.com/neuromorphic-paris/event_stream), version 2.0.
    """
    return read_events(decode_event_stream, source, strict, ordered, max_gap_us)


def decode_event_stream(stream, clock, chunk_events):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    kind, size = _read_header(stream)
    stream.details.sensor_size = size
    t = 0
    while block := stream.peek_ready(BLOCK_BYTES, _EVENT_BYTES):
        events, place, t, end = _decode(block, kind, t, stream.details.skipped)
        fault = earliest(
            outside(events["x"], events["y"], size), clock.fault(events["t"])
        )
        count = fault[0] if fault else len(events)
        events["y"] = size[0] - 1 - events["y"]
        for first in range(0, count, chunk_events):
            yield events[first : min(first + chunk_events, count)]
        if fault:
            raise DamagedRecordingError(stream.offset + int(place[count]), fault[1])
        if not end:
            raise DamagedRecordingError(
                stream.offset,
                f"expected the {_EVENT_BYTES} bytes of an event, found the end of the "
                f"file after {len(block)}.",
            )
        stream.take(end)


def _read_header(stream):
    """Return the kind of the events and the (height, width) of the sensor."""
    header = stream.peek(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise DamagedRecordingError(
            0,
            f"expected {_HEADER.size} bytes that begin with {MAGIC!r}. "
            f"Received: {header!r}.",
        )
    _, major, minor, patch, kind, width, height = _HEADER.unpack(header)
    if major != 2:
        raise DamagedRecordingError(
            len(MAGIC),
            f"expected version 2 of Event Stream. Received: {major}.{minor}.{patch}.",
        )
    if kind not in (_DVS, _ATIS) or not width or not height:
        raise DamagedRecordingError(
            len(MAGIC) + 3,
            "expected events of kind 1 or 2, of a DVS or an ATIS, and its sensor. "
            f"Received: kind {kind}, {height}x{width} pixels.",
        )
    stream.take(_HEADER.size)
    return kind, (height, width)


def _decode(block, kind, t, skipped):
    """Decode the whole events of a block, which begins with one.

    Returns `(events, place, t, end)`: the events, with y as in the file, the index of
    the first byte of each, the time at the end in microseconds, and how many bytes
    they take.
    """
    data = np.frombuffer(block, "u1")
    lowest, shift, most = (0xFE, 1, 127) if kind == _DVS else (0xFC, 2, 63)
    place = _starts(data >= lowest)
    value = data[place].astype("i8")
    is_event = value < lowest
    end = len(data)
    if is_event[-1] and place[-1] + _EVENT_BYTES > end:  # The next block has the rest.
        end = int(place[-1])
        place, value, is_event = place[:-1], value[:-1], is_event[:-1]
    passed = np.where(is_event, value >> shift, (value - lowest) * most)
    times = t + np.cumsum(passed)
    t = int(times[-1]) if len(times) else t
    if kind == _ATIS:
        is_exposure = is_event & (value & 1 == 1)
        skipped["exposure events"] += int(np.count_nonzero(is_exposure))
        is_event &= ~is_exposure
    chosen = np.flatnonzero(is_event)
    place = place[chosen]
    events = np.empty(len(place), EVENT_DTYPE)
    events["t"] = times[chosen]
    events["x"] = data[place + 1] | data[place + 2].astype("u2") << 8
    events["y"] = data[place + 3] | data[place + 4].astype("u2") << 8
    events["p"] = value[chosen] >> (shift - 1) & 1
    return events, place, t, end


def _starts(is_mark):
    """Return where events and overflows start, each behind the one before.

    Args:
        is_mark: bool array `(places,)`. Where an overflow of one byte would be, if one
            started there.

    Returns:
        int array of places, the first 0.
    """
    # Between overflows, events are in step. The mark behind an overflow that is one
    # too is the first whose place fits the step that begins there.
    marks = np.concatenate([[-1], np.flatnonzero(is_mark)])
    step = marks % _EVENT_BYTES
    following = np.full(len(marks), len(marks))
    for residue in range(_EVENT_BYTES):
        fitting = 1 + np.flatnonzero(step[1:] == residue)
        those = np.flatnonzero((step + 1) % _EVENT_BYTES == residue)
        place = np.searchsorted(fitting, those, "right")
        following[those] = np.append(fitting, len(marks)).take(place)
    # Mostly it is the next one: only leaps over others are followed one by one.
    number = np.arange(len(marks))
    is_overflow = np.ones(len(marks), bool)
    behind = 0
    leaps = np.flatnonzero(following != number + 1)
    for mark, other in zip(leaps.tolist(), following[leaps].tolist(), strict=True):
        if mark >= behind:
            is_overflow[mark + 1 : other] = False
            behind = other
    first = marks[is_overflow] + 1
    stop = np.append(first[1:], len(is_mark))
    counts = -((first - stop) // _EVENT_BYTES)
    before = np.cumsum(counts) - counts
    starts = np.repeat(first - _EVENT_BYTES * before, counts)
    return starts + _EVENT_BYTES * np.arange(len(starts))

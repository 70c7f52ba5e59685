"""DAT, version 2, as Prophesee's software writes it: N-Cars, GEN1, and exports.

Header lines begin with `% `, see `prophesee`; `% Height` and `% Width` may state the
size of the sensor. Two bytes follow, the kind of the events (0 or 12) and their size
(8). Each event is a 32-bit time in microseconds and 32 bits of data, both unsigned and
little-endian. In the data,

- bits 0 to 13 hold the column, from the left;
- bits 14 to 27 hold the row, from the top;
- bits 28 to 31 hold the polarity, 1 for ON and 0 for OFF.

The time overflows every 71.6 minutes; the reader adds 2^32 microseconds for each
overflow.

Damage: a header of another version, events of another kind or size, a polarity other
than 0 and 1, a pixel outside the sensor, time that runs backwards or leaps ahead, an
incomplete event at the end.
"""

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    check_time,
    check_whole,
    earliest,
    first_fault,
    opened,
    outside,
    read_events,
)
from keras_qkformer.events.event_array import EVENT_DTYPE, check_coordinates
from keras_qkformer.events.prophesee import Overflows, read_header, sensor_size
from keras_qkformer.printable import printable

_KINDS = (0, 12)
_BYTES = 8
_LARGEST_SIZE = (1 << 14, 1 << 14)


def read_dat(source, *, strict=True, ordered=True, max_gap_us=MAX_GAP_US):
    """Read all events of a DAT recording.

    Args:
        source: path, bytes or binary file object.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, with x and y as in the file.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format.

    Example:
    >>> import io
    >>> file = io.BytesIO()
    >>> write_dat(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_dat(file.getvalue()).tolist()
    [(10, 3, 4, True)]

    Reference:
        Prophesee, Metavision SDK documentation, "DAT File Format".
    """
    return read_events(decode_dat, source, strict, ordered, max_gap_us)


def decode_dat(stream, clock, chunk_events):
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
    size = _read_start(stream)
    overflows = Overflows(32, 0)
    while block := stream.take_ready(_BYTES * chunk_events, _BYTES):
        words = np.frombuffer(block, "<u4", len(block) // _BYTES * 2).reshape(-1, 2)
        data = words[:, 1].astype("u4")  # In one piece, it is read faster.
        t = overflows.extend(words[:, 0].astype("i8"))
        x, y, p = data & 0x3FFF, data >> 14 & 0x3FFF, data >> 28
        fault = earliest(
            first_fault(
                p > 1,
                lambda i, p=p: f"expected a polarity of 0 or 1. Received: {p[i]}.",
            ),
            outside(x, y, size),
            clock.fault(t),
        )
        count = fault[0] if fault else len(t)
        events = np.empty(count, EVENT_DTYPE)
        for name, values in zip("txyp", (t, x, y, p), strict=True):
            events[name] = values[:count]
        yield events
        if fault:
            raise DamagedRecordingError(
                stream.offset - len(block) + _BYTES * fault[0], fault[1]
            )
        check_whole(block, _BYTES, stream)


def _read_start(stream):
    """Read header, kind and size; return the (height, width) of the sensor."""
    header = read_header(stream)
    version = header.get("Version", "2")
    if version != "2":
        raise DamagedRecordingError(
            0, f"expected DAT of version 2. Received: {printable(version, 20)}."
        )
    start = stream.take(2)
    if len(start) < 2 or start[0] not in _KINDS or start[1] != _BYTES:
        raise DamagedRecordingError(
            stream.offset - len(start),
            "expected the kind of the events, 0 or 12 for changes of brightness, and "
            f"their size, {_BYTES} bytes. Received: {list(start)}.",
        )
    sides = header.get("Height"), header.get("Width")
    if sides == (None, None):
        return _LARGEST_SIZE
    stream.details.sensor_size = sensor_size(sides, _LARGEST_SIZE)
    return stream.details.sensor_size


def write_dat(target, events, *, sensor_size=None):
    """Write events as a DAT recording of version 2.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p; t from 0 to 2^32 - 1.
        sensor_size: (height, width) in pixels, at most 16384 each, for the header to
            state. `None` if it should not.

    Raises:
        ValueError: if an event does not fit the format.
    """
    check_coordinates(events, _LARGEST_SIZE)
    stated = ""
    if sensor_size is not None:
        check_coordinates(events, sensor_size)
        stated = "% Height {}\n% Width {}\n".format(*sensor_size)
    check_time(events, 32)
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events["t"]
    words[:, 1] = events["y"].astype("u4") << 14 | events["x"]
    words[:, 1] |= (events["p"] != 0).astype("u4") << 28
    with opened(target, "wb") as file:
        file.write(f"% Data file containing CD events.\n% Version 2\n{stated}".encode())
        file.write(bytes([_KINDS[1], _BYTES]))
        file.write(words.tobytes())

"""The files of N-MNIST and N-Caltech101.

There is no header. Each event has 5 bytes: the column, the row and a big-endian number
of 24 bits, whose highest bit is the polarity and whose other 23 bits are the time in
microseconds. An event in row 240 marks an overflow of the time: it belongs to no pixel,
and adds 2^13 microseconds to all times from there on.

Damage: an empty file, a pixel outside the sensor, time that runs backwards or leaps
ahead, an incomplete event at the end.
"""

import functools

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    check_time,
    check_whole,
    earliest,
    opened,
    outside,
    read_events,
)
from keras_qkformer.events.event_array import EVENT_DTYPE, check_coordinates

_OVERFLOW_ROW = 240


def read_nmnist(
    source, *, sensor_size=(34, 34), strict=True, ordered=True, max_gap_us=MAX_GAP_US
):
    """Read all events of an N-MNIST or N-Caltech101 recording.

    Args:
        source: path, bytes or binary file object.
        sensor_size: (height, width) in pixels: (34, 34) for N-MNIST, (180, 240) for
            N-Caltech101.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

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
    decode = functools.partial(decode_nmnist, sensor_size=sensor_size)
    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_nmnist(stream, clock, chunk_events, sensor_size):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        sensor_size: (height, width) in pixels.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    if not stream.peek(1):
        raise DamagedRecordingError(
            0, "expected the 5 bytes of an event. Received: an empty file."
        )
    added = 0
    while block := stream.take(5 * chunk_events):
        columns = np.frombuffer(block, "u1", len(block) // 5 * 5).reshape(-1, 5).T
        high, middle, low = columns[2:].astype("i8")
        t = (high & 127) << 16 | middle << 8 | low
        marker = columns[1] == _OVERFLOW_ROW
        t += added + (np.cumsum(marker) << 13)
        added += int(marker.sum()) << 13
        events = np.empty(len(t), EVENT_DTYPE)
        events["t"], events["p"] = t, high >> 7
        events["x"], events["y"] = columns[0], columns[1]
        if marker.any():  # The time of an overflow is no event's.
            real = np.flatnonzero(~marker)
            late = clock.fault(t[real])
            late = late and (int(real[late[0]]), late[1])
        else:
            late = clock.fault(t)
        fault = earliest(
            outside(columns[0], np.where(marker, 0, columns[1]), sensor_size),
            late,
        )
        if fault:
            events, marker = events[: fault[0]], marker[: fault[0]]
        yield events[~marker]
        if fault:
            raise DamagedRecordingError(
                stream.offset - len(block) + 5 * fault[0], fault[1]
            )
        check_whole(block, 5, stream)


def write_nmnist(target, events):
    """Write events as an N-MNIST recording.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p, at least one; t from 0 to
            2^23 - 1, x below 256, y below 240.

    Raises:
        ValueError: if an event does not fit the format, or there is none: the format
            can't tell a recording without events from an empty file.
    """
    if not len(events):
        raise ValueError("An N-MNIST recording must have events. Received: none")
    check_coordinates(events, (_OVERFLOW_ROW, 256))
    check_time(events, 23)
    t = events["t"].astype("u4")
    high = (events["p"] != 0).astype("u4") << 7 | t >> 16
    columns = np.stack([events["x"], events["y"], high, t >> 8 & 255, t & 255], 1)
    with opened(target, "wb") as file:
        file.write(columns.astype("u1").tobytes())

"""AEDAT 2.0, as jAER writes it for a DVS128 (128x128 pixels).

Header lines begin with `#`. Each event that follows is a 32-bit address and a 32-bit
time in microseconds, both unsigned and big-endian. In the address,

- bit 0 is clear for ON and set for OFF;
- bits 1 to 7 hold the column, counted from the right;
- bits 8 to 14 hold the row, counted from the bottom;
- bit 15 marks an external event, which belongs to no pixel and is skipped; but its time
  counts where time may not run backwards or leap ahead.

The time overflows every 71.6 minutes; the reader adds 2^32 microseconds for each
overflow.

Damage: a first line other than `#!AER-DAT2.0`, an address of 0x10000 or more, time that
runs backwards or leaps ahead, an incomplete event at the end.
"""

import functools

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

ORIENTATIONS = ("jaer", "spikingjelly")
_LARGEST_FALL = (1 << 32) - (1 << 28)  # Overflows leave gaps of up to 4.5 minutes.


def read_aedat2(
    source, *, orientation="jaer", strict=True, ordered=True, max_gap_us=MAX_GAP_US
):
    """Read all events of an AEDAT 2.0 recording of a DVS128 (128x128 pixels).

    Args:
        source: path, bytes or binary file object.
        orientation: str. `"jaer"` gives x = 127 - column, y = 127 - row, upright as the
            camera saw it. `"spikingjelly"` gives x = 127 - row, y = 127 - column, its
            transpose, as in SpikingJelly's CIFAR10-DVS and therefore in QKFormer.
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
        ValueError: if `orientation` is unknown.

    Example:
    >>> import io
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
    check_orientation(orientation)
    decode = functools.partial(decode_aedat2, orientation=orientation)
    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_aedat2(stream, clock, chunk_events, orientation):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        orientation: str. See `read_aedat2`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    read_magic(stream, b"#!AER-DAT2.0")
    while stream.header_line() is not None:
        pass
    last, wraps = 0, 0
    while block := stream.take(8 * chunk_events):
        words = np.frombuffer(block, ">u4", len(block) // 8 * 2).reshape(-1, 2)
        address, t = words[:, 0].astype("u4"), words[:, 1].astype("i8")
        # A fall by nearly 2^32 is an overflow of the counter.
        wrapped = np.diff(t, prepend=last) < -_LARGEST_FALL
        last = t[-1] if len(t) else last
        if wraps or wrapped.any():
            t += (wraps + np.cumsum(wrapped)) << 32
            wraps += int(wrapped.sum())
        fault = earliest(
            first_fault(
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
        check_whole(block, 8, stream)


def write_aedat2(target, events, *, orientation="jaer"):
    """Write events as an AEDAT 2.0 recording of a DVS128.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p; t from 0 to 2^32 - 1.
        orientation: str. See `read_aedat2`.

    Raises:
        ValueError: if an event does not fit the format.
    """
    check_orientation(orientation)
    check_coordinates(events, (128, 128))
    check_time(events, 32)
    x, y = events["x"].astype("u4"), events["y"].astype("u4")
    column, row = (x, y) if orientation == "jaer" else (y, x)
    words = np.empty((len(events), 2), ">u4")
    words[:, 0] = (127 - row) << 8 | (127 - column) << 1 | (events["p"] == 0)
    words[:, 1] = events["t"]
    with opened(target, "wb") as file:
        file.write(
            b"#!AER-DAT2.0\r\n"
            b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
            b"#End Of ASCII Header\r\n"
        )
        file.write(words.tobytes())


def check_orientation(orientation):
    """Raise `ValueError` unless an orientation is known.

    Args:
        orientation: str. One of `ORIENTATIONS`, see `read_aedat2`.
    """
    if orientation not in ORIENTATIONS:
        raise ValueError(
            f"orientation must be one of {ORIENTATIONS}. "
            f"Received: orientation={orientation!r}"
        )

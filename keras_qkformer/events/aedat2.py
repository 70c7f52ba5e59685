"""AEDAT 2.0, as jAER writes it for a DVS128 and for DAVIS cameras.

Header lines begin with `#`; one of them, `# AEChip: `, names the camera, a DVS128
(128x128 pixels) if there is none. Each event that follows is a 32-bit address and a
32-bit time in microseconds, both unsigned and big-endian. In the address of a DVS128,

- bit 0 is clear for ON and set for OFF;
- bits 1 to 7 hold the column, counted from the right;
- bits 8 to 14 hold the row, counted from the bottom;
- bit 15 marks an external event, which belongs to no pixel and is skipped; but its time
  counts where time may not run backwards or leap ahead.

In the address of a DAVIS,

- bit 11 is set for ON and clear for OFF;
- bits 12 to 21 hold the column, counted from the right;
- bits 22 to 30 hold the row, counted from the bottom;
- bit 31 marks samples of frames and of the IMU, and bit 10 external events: both are
  skipped, with their times.

The time overflows every 71.6 minutes; the reader adds 2^32 microseconds for each
overflow.

Damage: a first line other than `#!AER-DAT2.0`, another camera, an address of 0x10000 or
more of a DVS128, a pixel outside the sensor of a DAVIS, time that runs backwards or
leaps ahead, an incomplete event at the end.
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
    outside,
    read_events,
    read_magic,
)
from keras_qkformer.events.event_array import EVENT_DTYPE, check_coordinates
from keras_qkformer.printable import printable

ORIENTATIONS = ("jaer", "spikingjelly")
CHIPS = {
    "DVS128": (128, 128),
    "DAVIS128": (128, 128),
    "DAVIS240": (180, 240),
    "DAVIS346": (260, 346),
    "DAVIS640": (480, 640),
}
"""(height, width) of the cameras that are read, in pixels."""
_END = b"#End Of ASCII Header"
_LARGEST_FALL = (1 << 32) - (1 << 28)  # Overflows leave gaps of up to 4.5 minutes.


def read_aedat2(
    source,
    *,
    orientation="jaer",
    chip=None,
    strict=True,
    ordered=True,
    max_gap_us=MAX_GAP_US,
):
    """Read all events of an AEDAT 2.0 recording of a DVS128 or a DAVIS.

    Args:
        source: path, bytes or binary file object.
        orientation: str. `"jaer"` gives x = 127 - column, y = 127 - row, upright as the
            camera saw it. `"spikingjelly"` gives x = 127 - row, y = 127 - column, its
            transpose, as in SpikingJelly's CIFAR10-DVS and therefore in QKFormer. With
            a DAVIS, 127 is the last column or row of its sensor.
        chip: str, one of `CHIPS`, or `None` for that which the header names. v2e's
            files name none.
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
        ValueError: if `orientation` or `chip` is unknown.

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
    _check_chip(chip)
    decode = functools.partial(decode_aedat2, orientation=orientation, chip=chip)
    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_aedat2(stream, clock, chunk_events, orientation, chip=None):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        orientation: str. See `read_aedat2`.
        chip: str or `None`. See `read_aedat2`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    read_magic(stream, b"#!AER-DAT2.0")
    named = None
    # Behind the last line of jAER's header, the address of an event may begin with `#`.
    while (line := stream.header_line()) not in (None, _END):
        key, _, value = line.partition(b":")
        if key.strip(b"# \t") == b"AEChip":
            named = _find_chip(value, stream)
    chip = chip or named or "DVS128"
    size = CHIPS[chip]
    if chip != "DVS128":  # Of a DVS128, a recipe may have named a part.
        stream.details.sensor_size = size if orientation == "jaer" else size[::-1]
    decode = _decode_dvs128 if chip == "DVS128" else _decode_davis
    for block, address, t in _words(stream, chunk_events):
        events, word, fault = decode(address, t, clock, size, stream.details)
        if orientation == "spikingjelly":
            events["x"], events["y"] = events["y"].copy(), events["x"].copy()
        yield events
        if fault:
            raise DamagedRecordingError(stream.offset - len(block) + 8 * word, fault)
        check_whole(block, 8, stream)


def _find_chip(value, stream):
    """The name in `CHIPS` of the class of jAER that a header names."""
    found = [chip for chip in CHIPS if chip in value.decode("latin-1").upper()]
    if not found:
        raise DamagedRecordingError(
            stream.offset,
            f"expected a camera of {', '.join(CHIPS)} before. Received: "
            f"{printable(value.decode('latin-1').strip(), 80)}; if it stores events as "
            "one of these, read_aedat2(path, chip=...) reads them.",
        )
    return found[0]


def _words(stream, chunk_events):
    """Yield blocks of bytes, with the addresses in them and times without overflows."""
    last, wraps = 0, 0
    while block := stream.take_ready(8 * chunk_events, 8):
        words = np.frombuffer(block, ">u4", len(block) // 8 * 2).reshape(-1, 2)
        address, t = words[:, 0].astype("u4"), words[:, 1].astype("i8")
        # A fall by nearly 2^32 is an overflow of the counter.
        wrapped = np.diff(t, prepend=last) < -_LARGEST_FALL
        last = t[-1] if len(t) else last
        if wraps or wrapped.any():
            t += (wraps + np.cumsum(wrapped)) << 32
            wraps += int(wrapped.sum())
        yield block, address, t


def _decode_dvs128(address, t, clock, size, details):
    """Events of a block, and the index of the first damaged word with its message."""
    fault = earliest(
        first_fault(
            address >= 1 << 16,
            lambda i: (
                f"expected an address of a DVS128, below 0x10000. Received: "
                f"0x{address[i]:x}; another camera's header names its AEChip, or "
                'read_aedat2(path, chip="DAVIS346") does.'
            ),
        ),
        clock.fault(t),
    )
    address = address.astype("u2")
    events = np.empty(len(t), EVENT_DTYPE)
    events["t"] = t
    events["x"], events["y"] = ~address >> 1 & 127, ~address >> 8 & 127
    events["p"] = ~address & 1
    word, message = fault or (None, None)
    events, address = events[:word], address[:word]
    external = address >= 1 << 15
    if external.any():
        details.skipped["external events"] += int(np.count_nonzero(external))
        events = events[~external]
    return events, word, message


def _decode_davis(address, t, clock, size, details):
    """Events of a block, and the index of the first damaged word with its message."""
    is_sample, is_external = address >> 31 == 1, address >> 10 & 1 == 1
    word = np.flatnonzero(~is_sample & ~is_external)
    details.skipped["samples of frames and IMU"] += int(np.count_nonzero(is_sample))
    details.skipped["external events"] += int(
        np.count_nonzero(is_external & ~is_sample)
    )
    address, t = address[word], t[word]
    column, row = address >> 12 & 1023, address >> 22 & 511
    fault = earliest(outside(column, row, size), clock.fault(t))
    count, message = fault or (len(t), None)
    events = np.empty(count, EVENT_DTYPE)
    events["t"] = t[:count]
    events["x"] = size[1] - 1 - column[:count].astype("i4")
    events["y"] = size[0] - 1 - row[:count].astype("i4")
    events["p"] = address[:count] >> 11 & 1
    return events, int(word[count]) if fault else None, message


def write_aedat2(target, events, *, orientation="jaer", chip="DVS128"):
    """Write events as an AEDAT 2.0 recording of a DVS128 or a DAVIS.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p; t from 0 to 2^32 - 1.
        orientation: str. See `read_aedat2`.
        chip: str, one of `CHIPS`.

    Raises:
        ValueError: if an event does not fit the format, or an argument is unknown.
    """
    check_orientation(orientation)
    _check_chip(chip)
    height, width = CHIPS[chip]
    is_upright = orientation == "jaer"
    check_coordinates(events, (height, width) if is_upright else (width, height))
    check_time(events, 32)
    x, y = events["x"].astype("u4"), events["y"].astype("u4")
    column, row = (x, y) if is_upright else (y, x)
    column, row = width - 1 - column, height - 1 - row
    words = np.empty((len(events), 2), ">u4")
    if chip == "DVS128":
        package = b"ch.unizh.ini.jaer.chip.retina."
        words[:, 0] = row << 8 | column << 1 | (events["p"] == 0)
    else:
        package = b"eu.seebetter.ini.chips.davis."
        on = (events["p"] != 0).astype("u4")
        words[:, 0] = row << 22 | column << 12 | on << 11
    words[:, 1] = events["t"]
    with opened(target, "wb") as file:
        file.write(
            b"#!AER-DAT2.0\r\n"
            b"# AEChip: " + package + chip.encode() + b"\r\n" + _END + b"\r\n"
        )
        file.write(words.tobytes())


def _check_chip(chip):
    if chip is not None and chip not in CHIPS:
        raise ValueError(
            f"chip must be one of {', '.join(CHIPS)}, or None. Received: chip={chip!r}"
        )


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

"""Every kind of damage in every format, in the first, a middle and the last chunk.

Good events come once, in order; the error names the byte where the damage begins.
"""

import functools
import io
import struct

import numpy as np
import pytest
from write_aedat4 import aedat4_header, aedat4_packet, aedat4_table

from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
)
from keras_qkformer.events.event_array import EVENT_DTYPE, make_events
from keras_qkformer.events.nmnist import write_nmnist
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent
COUNT, PACKET = 9, 2
EVENTS = make_events(
    1000 + np.arange(COUNT), np.arange(COUNT), 2 * np.arange(COUNT), [1, 0, 1] * 3
)
LEAP = {"t": 5_000_000}
OPTIONS = {"name": "a.bin", "max_gap_us": 1_000_000}


def written(write, events=EVENTS, **options):
    file = io.BytesIO()
    write(file, events, **options)
    return file.getvalue()


def with_event(place, **values):
    events = EVENTS.copy()
    for name, value in values.items():
        events[name][place] = value
    return events


def flat(write, size, kind, place):
    """A damaged AEDAT 2.0 or N-MNIST file: `(content, good events, offset)`."""
    start = len(written(write)) - COUNT * size + place * size
    if kind == "backwards":
        return written(write, with_event(place, t=1000 + place - 2)), place, start
    if kind == "leap":
        return written(write, with_event(place, **LEAP)), place, start
    content = bytearray(written(write))
    if kind == "cut":
        return bytes(content[: start + size - 1]), place, start
    content[start + 1] = 239 if size == 5 else 1  # A row, or bit 16 of an address.
    return bytes(content), place, start


def packets(kind, place):
    """The same of AEDAT 3.1; a damaged header also loses the packet's other events."""
    write = functools.partial(write_aedat31, packet_events=PACKET)
    whole = written(write)
    packet = place // PACKET
    end = len(whole) - (28 * -(-COUNT // PACKET) + 8 * COUNT)  # Of the file's header.
    header = end + packet * (28 + 8 * PACKET)
    event = header + 28 + place % PACKET * 8
    if kind == "backwards":
        return written(write, with_event(place, t=1000 + place - 2)), place, event
    if kind == "leap":
        return written(write, with_event(place, **LEAP)), place, event
    content = bytearray(whole)
    if kind == "cut":
        return bytes(content[: event + 5]), place, event
    if kind == "cut header":
        return bytes(content[: header + 27]), packet * PACKET, header
    if kind == "time":
        content[event + 7] |= 1 << 7
        return bytes(content), place, event
    at, value = {
        "type": (0, 99),
        "source": (2, 7),
        "size": (4, 16),
        "capacity": (16, 0),
        "number": (20, 99),
        "valid": (24, 99),
    }[kind]
    content[header + at] = value
    if kind == "source" and not packet:  # The second packet is from another one then.
        return bytes(content), PACKET, header + 28 + 8 * PACKET
    return bytes(content), packet * PACKET, header


def tables(kind, place):
    """The same of AEDAT 4, whose damage has the byte of its packet."""
    changes = {
        "backwards": {"t": 1000 + place - 2},
        "leap": LEAP,
        "pixel": {"x": 128},
    }
    events = with_event(place, **changes.get(kind, {}))
    parts = [
        bytearray(aedat4_packet(aedat4_table(events[first : first + PACKET])))
        for first in range(0, COUNT, PACKET)
    ]
    packet = place // PACKET
    header = aedat4_header()
    offset = len(header) + sum(map(len, parts[:packet]))
    if kind in changes:
        return header + b"".join(parts), place, offset
    if kind == "cut":
        parts = [*parts[:packet], parts[packet][:-1]]
    elif kind == "size":  # For which `aedat` wants 4 GiB, and aborts.
        struct.pack_into("<i", parts[packet], 4, -1)
    else:
        struct.pack_into("<I", parts[packet], 12, 1 << 20)  # Where the table begins.
    return header + b"".join(parts), packet * PACKET, offset


CASES = {
    "aedat2": (
        functools.partial(flat, write_aedat2, 8),
        ("backwards", "leap", "cut", "address"),
    ),
    "nmnist": (
        functools.partial(flat, write_nmnist, 5),
        ("backwards", "leap", "cut", "pixel"),
    ),
    "aedat31": (
        packets,
        (
            *("backwards", "leap", "cut", "cut header", "time", "type", "source"),
            *("size", "capacity", "number", "valid"),
        ),
    ),
    "aedat4": (tables, ("backwards", "leap", "cut", "pixel", "table", "size")),
}


@pytest.mark.parametrize("place", [0, 2, 5, COUNT - 1])
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, (_, kinds) in CASES.items() for kind in kinds],
)
def test_good_events_come_once_and_the_byte_is_right(name, kind, place):
    if name == "aedat4":
        pytest.importorskip("aedat", reason="AEDAT 4 needs the extra events")
    if place == 0 and kind in ("backwards", "leap"):
        place = 1  # The first event has none before it.
    content, good, offset = CASES[name][0](kind, place)
    is_slow = name == "aedat4"  # Every reading takes a process.
    for size in (1, 2, 3, 4, 100) if not is_slow else (2,):
        if place == 5 or not is_slow:
            found = [np.empty(0, EVENT_DTYPE)]
            with pytest.raises(DamagedRecordingError) as error:
                found.extend(iter_recording(content, chunk_events=size, **OPTIONS))
            assert np.concatenate(found).tolist() == EVENTS[:good].tolist()
            assert error.value.offset == offset
        with pytest.warns(DamagedRecordingWarning) as warned:
            kept = [
                np.empty(0, EVENT_DTYPE),
                *iter_recording(content, chunk_events=size, strict=False, **OPTIONS),
            ]
        assert np.concatenate(kept).tolist() == EVENTS[:good].tolist()
        (warning,) = warned
        assert warning.message.offset == offset
        assert warning.message.dropped_bytes == len(content) - offset
    if not is_slow:
        with pytest.warns(DamagedRecordingWarning):
            whole = read_recording(content, strict=False, **OPTIONS)
        assert whole.tolist() == EVENTS[:good].tolist()

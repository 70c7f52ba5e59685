"""Event Stream files by hand, at every border of a block, and damaged."""

import numpy as np
import pytest
from made_recordings import es_parts

from keras_qkformer.events import event_stream
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
    Details,
)
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.event_stream import read_event_stream
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent


def header(kind=1, width=320, height=300, version=(2, 0, 0)):
    sides = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return b"Event Stream" + bytes([*version, kind]) + sides


def pixel(x, y):
    return x.to_bytes(2, "little") + y.to_bytes(2, "little")


DVS = (
    header()
    + bytes([5 << 1 | 1])
    + pixel(300, 0)
    + bytes([0xFF, 0xFE, 0xFF, 3 << 1])
    + pixel(255, 299)  # Bytes of a pixel may look like overflows.
    + bytes([0])
    + pixel(254, 255)
    + bytes([0xFF])
)
DVS_EVENTS = [(5, 300, 299, True), (262, 255, 0, False), (262, 254, 44, False)]
ATIS = (
    header(2)
    + bytes([5 << 2 | 2])
    + pixel(1, 2)
    + bytes([0xFF, 0xFC, 0xFD, 7 << 2 | 1])  # 3 and 1 times 63, and an exposure.
    + pixel(3, 4)
    + bytes([1 << 2])
    + pixel(5, 6)
)
ATIS_EVENTS = [(5, 1, 297, True), (5 + 4 * 63 + 8, 5, 293, False)]


@pytest.mark.parametrize(
    ("content", "events"), [(DVS, DVS_EVENTS), (ATIS, ATIS_EVENTS)]
)
def test_bytes_by_hand_at_every_border_of_a_block(monkeypatch, content, events):
    details = Details()
    assert np.concatenate(list(iter_recording(content, details=details))).tolist() == (
        events
    )
    assert (details.format, details.sensor_size) == ("Event Stream", (300, 320))
    assert details.skipped["exposure events"] == (content is ATIS)
    for size in range(5, 20):
        monkeypatch.setattr(event_stream, "BLOCK_BYTES", size)
        assert read_event_stream(content).tolist() == events


def test_only_headers_of_known_kinds_are_read():
    for start, said in (
        (b"Event", "20 bytes that begin"),
        (header(version=(1, 0, 0)), "version 2 of Event Stream. Received: 1.0.0"),
        (header(4), "of a DVS or an ATIS"),
        (header(width=0), "Received: kind 1, 300x0 pixels"),
    ):
        with pytest.raises(DamagedRecordingError, match=said):
            read_event_stream(start)
    assert len(read_recording(header())) == 0
    assert len(read_recording(header() + b"\xff\xfe")) == 0


@pytest.mark.parametrize(
    ("content", "said", "kept", "offset"),
    [
        (DVS[:-3], "the 5 bytes of an event, found the end of the file", 2, 33),
        (DVS + b"\0" + pixel(320, 0), "sensor of 300x320", 3, len(DVS)),
        (DVS + b"\xff" * 9 + b"\0" + bytes(4), "at most 1000 microseconds", 3, 48),
    ],
)
def test_damage_is_named(content, said, kept, offset):
    with pytest.raises(DamagedRecordingError, match=said) as error:
        read_recording(content, max_gap_us=1000)
    assert error.value.offset == offset
    with pytest.warns(DamagedRecordingWarning):
        events = read_recording(content, max_gap_us=1000, strict=False)
    assert events.tolist() == DVS_EVENTS[:kept]


@pytest.mark.parametrize("most", [1, 127, 2000])
def test_overflows_are_told_from_bytes_of_pixels(most):
    """Few or many of them, and pixels whose bytes look like one."""
    draw = np.random.default_rng(0).integers
    t = np.cumsum(draw(0, most, 9000))
    t[4000:] += 500
    x, y = draw(250, 260, 9000), draw(0, 480, 9000)
    events = make_events(t, x, y, draw(0, 2, 9000))
    content = b"".join(es_parts(None, events))
    assert read_recording(content).tolist() == events.tolist()

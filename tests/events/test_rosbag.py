"""ROS bags: chunks of every compression, topics, and records that are damaged."""

import struct

import numpy as np
import pytest
from write_rosbag import bag, chunk, connection, lz4, message, record

from keras_qkformer.events import rosbag
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
    Details,
)
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.lz4_frame import decompress_lz4
from keras_qkformer.events.recording import iter_recording, read_recording
from keras_qkformer.events.rosbag import read_rosbag

pytestmark = pytest.mark.backend_independent
START = 1_600_000_000_000_000  # In 2020: bags count from 1970.
EVENTS = make_events(
    START + np.array([5, 7, 7, 90, 95]),
    [0, 63, 2, 3, 4],
    [4, 0, 47, 7, 8],
    [1, 0, 1, 0, 1],
)
MESSAGES = message(EVENTS[:3]) + message(EVENTS[3:])


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_chunks_of_any_compression_are_read(compression):
    other = connection(1, "/chat", "std_msgs/String") + record(
        2, b"hello", conn=struct.pack("<I", 1)
    )
    content = bag(chunk(connection() + other + MESSAGES, compression))
    details = Details()
    chunks = list(iter_recording(content, chunk_events=2, details=details))
    assert [len(part) for part in chunks] == [2, 1, 2]
    np.testing.assert_array_equal(np.concatenate(chunks), EVENTS)
    assert (details.format, details.sensor_size) == ("ROS bag", (48, 64))
    # Without chunks, too.
    np.testing.assert_array_equal(read_rosbag(bag(connection(), MESSAGES)), EVENTS)


# Made with the package lz4 4.4.5: of the data below, by default, and with checksums of
# blocks and content, the size, and level 9.
FRAMES = (
    (
        "04224d1868404a01000000000000ca3e000000ff19000102030405060708090a0b0c0d0e0f10"
        "1112131415161718191a1b1c1d1e1f202122232425262728003d7f6576656e7473200700b350"
        "656e74732000000000"
    ),
    (
        "04224d187c404a010000000000008c3e000000ff19000102030405060708090a0b0c0d0e0f10"
        "1112131415161718191a1b1c1d1e1f202122232425262728003d7f6576656e7473200700b350"
        "656e7473202ebed942000000009a478f2b"
    ),
)


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_of_lz4_by_another_encoder(frame):
    frame = bytes.fromhex(frame)
    data = bytes(range(40)) * 3 + b"events " * 30
    assert decompress_lz4(frame, len(data)) == data
    with pytest.raises(ValueError, match=r"more than 329 bytes|damaged block"):
        decompress_lz4(frame, len(data) - 1)
    rng = np.random.default_rng(0)
    for place in range(len(frame) - 5):
        with pytest.raises(ValueError, match=r"LZ4|more than"):
            decompress_lz4(frame[:place], 1000)
        changed = bytearray(frame)
        changed[place] = rng.integers(256)
        try:
            assert len(decompress_lz4(bytes(changed), 1000)) <= 1000
        except ValueError as error:
            assert "LZ4" in str(error) or "more than" in str(error)


def test_long_runs_of_lz4_end_at_the_bound():
    block = bytes([0x1F, 65, 1, 0]) + b"\xff" * 5000 + bytes([0, 0x50]) + b"bcdef"
    frame = bytes.fromhex("04224d18604082") + struct.pack("<I", len(block)) + block
    assert len(decompress_lz4(frame + bytes(4), 2_000_000)) == 1 + 19 + 255 * 5000 + 5
    with pytest.raises(ValueError, match="a damaged block"):
        decompress_lz4(frame + bytes(4), 1_000_000)


def test_one_of_several_topics_is_read():
    left, right = connection(0, "/left"), connection(1, "/right")
    content = bag(left, right, message(EVENTS, number=1))
    with pytest.raises(DamagedRecordingError, match="Received: /left, /right; read_r"):
        read_recording(content)
    np.testing.assert_array_equal(read_rosbag(content, topic="/right"), EVENTS)
    assert len(read_rosbag(content, topic="/left")) == 0
    with pytest.raises(DamagedRecordingError, match="of /up before"):
        read_rosbag(content, topic="/up")
    content = bag(connection(0, "/chat", "std_msgs/String"))
    with pytest.raises(DamagedRecordingError, match="Received: std_msgs/String of /ch"):
        read_recording(content)


def with_changed(events, **values):
    events = events.copy()
    for name, value in values.items():
        events[name][-1] = value
    return events


def spoilt(place, value):
    """A message whose last event but `place` bytes from its end are changed."""
    data = bytearray(message(EVENTS))
    data[len(data) - place : len(data) - place + len(value)] = value
    return bytes(data)


def bad_chunk(data, compression, size):
    return record(5, data, compression=compression, size=struct.pack("<I", size))


@pytest.mark.parametrize(
    ("last", "said", "kept", "behind"),
    [
        (message(with_changed(EVENTS, t=START)), "expected time", 4, 13),
        (message(with_changed(EVENTS, x=64)), "sensor of 48x64", 4, 13),
        (spoilt(1, b"\2"), "a polarity of 0 or 1. Received: 2", 4, 13),
        (spoilt(5, b"\xff\xff\xff\xff"), r"less than 10\^9 nanoseconds", 4, 13),
        (message(EVENTS)[:-1], "found the end of the file", 0, None),
        (record(2, b"no", conn=bytes(4)), "events of 13 bytes each", 0, 2),
        (record(9), "expected a record of a ROS bag", 0, 16),
        (
            bad_chunk(b"x", b"zip", 1),
            "bz2 or lz4: rec",
            0,
            None,
        ),
        (bad_chunk(b"x", b"bz2", 1), "bz2 or lz4", 0, None),
        (
            bad_chunk(lz4(b"x"), b"lz4", 2),
            "received 1 by",
            0,
            None,
        ),
        (
            bad_chunk(b"", b"lz4", 1 << 30),
            "at most 67108864",
            0,
            None,
        ),
        (b"\xff\xff\xff\x7f", "the header of a record", 0, 4),
        (struct.pack("<I", 6) + b"\2\0\0\0op" + bytes(4), "fields name=value", 0, 14),
    ],
)
def test_damage_is_named_and_what_is_before_it_is_kept(last, said, kept, behind):
    content = bag(connection())[: -len(record(4, b"index") + record(6, b"info"))] + last
    with pytest.raises(DamagedRecordingError, match=said) as error:
        read_recording(content)
    if behind:
        assert error.value.offset == len(content) - behind
    with pytest.warns(DamagedRecordingWarning):
        events = read_recording(content, strict=False)
    np.testing.assert_array_equal(events, EVENTS[:kept])
    if not kept:
        return
    whole = bag(connection())
    for compression in ("bz2", "lz4"):
        content = whole + chunk(last, compression)
        with pytest.raises(DamagedRecordingError, match=said) as error:
            read_recording(content)
        assert error.value.offset == len(whole)


def test_other_bags_are_refused():
    with pytest.raises(DamagedRecordingError, match="a first line b'#ROSBAG V2"):
        read_rosbag(b"#ROSBAG V1.2\n")
    encrypted = record(3, encryptor=b"rosbag/AesCbcEncryptor")
    with pytest.raises(DamagedRecordingError, match="without encryption"):
        read_recording(b"#ROSBAG V2.0\n" + encrypted)


def test_chunks_do_not_unpack_without_end(monkeypatch):
    inner = connection() + MESSAGES
    for _ in range(1200):  # Deeper than Python can call.
        inner = lz4_chunk(inner)
    nested = bag(lz4_chunk(inner))
    with pytest.raises(DamagedRecordingError, match="in this chunk, expected a conn"):
        read_recording(nested)
    monkeypatch.setattr(rosbag, "_LARGEST", 1 << 20)
    picture = record(2, bytes((1 << 20) - 100), conn=struct.pack("<I", 1))
    start = bag(connection(1, "/image", "sensor_msgs/Image"))
    pictures = [chunk(picture, "bz2")] * 3
    with pytest.raises(DamagedRecordingError, match="at most 1032 times") as error:
        read_recording(start + b"".join(pictures))
    assert len(start) < error.value.offset < len(start) + 3 * len(pictures[0])
    read = read_recording(start + pictures[0] + connection() + MESSAGES)
    np.testing.assert_array_equal(read, EVENTS)


def lz4_chunk(records):
    return chunk(records, "lz4")


def test_a_connection_has_a_number():
    with pytest.raises(DamagedRecordingError, match="a number of 4 bytes"):
        read_recording(bag(record(7, b"", topic=b"/events")))

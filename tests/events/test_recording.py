"""Event files: what is written comes back, real files read, damage is named."""

import io
import struct
import time
import zipfile

import numpy as np
import pytest
from conftest import shared_file

from keras_qkformer.events.aedat2 import read_aedat2, write_aedat2
from keras_qkformer.events.aedat31 import read_aedat31, write_aedat31
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
)
from keras_qkformer.events.dat import read_dat, write_dat
from keras_qkformer.events.event_array import EVENT_DTYPE
from keras_qkformer.events.evt2 import read_evt2, write_evt2
from keras_qkformer.events.evt3 import read_evt3, write_evt3
from keras_qkformer.events.nmnist import read_nmnist, write_nmnist
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent

CORNERS = np.array(
    [(0, 0, 0, True), (5, 127, 0, False), (5, 0, 127, True), (9, 127, 127, False)],
    EVENT_DTYPE,
)
SMALL = np.array([(0, 0, 0, True), (7, 33, 33, False)], EVENT_DTYPE)
FORMATS = [
    (write_aedat2, read_aedat2, CORNERS),
    (write_aedat31, read_aedat31, CORNERS),
    (write_nmnist, read_nmnist, SMALL),
    (write_dat, read_dat, CORNERS),
    (write_evt2, read_evt2, CORNERS),
    (write_evt3, read_evt3, CORNERS),
]
each = pytest.mark.parametrize(("write", "read", "events"), FORMATS)
# Those whose events all have the same number of bytes.
each_even = pytest.mark.parametrize(("write", "read", "events"), FORMATS[:4])


def written(write, events, **options):
    file = io.BytesIO()
    write(file, events, **options)
    return file.getvalue()


@each
def test_what_is_written_comes_back(write, read, events, tmp_path):
    content = written(write, events)
    (tmp_path / "file").write_bytes(content)
    for source in (content, io.BytesIO(content), tmp_path / "file"):
        np.testing.assert_array_equal(read(source), events)


@pytest.mark.parametrize(("write", "read", "events"), [*FORMATS[:2], *FORMATS[3:]])
def test_recording_without_events_is_empty(write, read, events):
    assert len(read(written(write, events[:0]))) == 0


def test_empty_nmnist_file_is_an_error():
    with pytest.raises(DamagedRecordingError, match="At byte 0"):
        read_nmnist(b"")


@each
def test_truncated_file_says_where_or_keeps_what_is_whole(write, read, events):
    content = written(write, events)[:-3]
    with pytest.raises(DamagedRecordingError, match=r"At byte \d+: expected"):
        read(content)
    with pytest.warns(DamagedRecordingWarning, match=r"Dropped the last \d+ bytes"):
        kept = read(content, strict=False)
    np.testing.assert_array_equal(kept, events[: len(kept)])
    assert len(kept) < len(events)


def test_damage_of_a_file_has_its_name(tmp_path):
    path = tmp_path / "cup.aedat"
    content = written(write_aedat2, CORNERS)[:-3]
    path.write_bytes(content)
    place = len(content) - 5
    with pytest.raises(DamagedRecordingError) as error:
        read_recording(path)
    assert str(error.value).startswith(f"{path}: At byte {place}: expected the 8 bytes")
    with pytest.warns(DamagedRecordingWarning) as caught:
        read_recording(str(path), strict=False)
    assert str(caught[0].message).startswith(f"{path}: At byte {place}: ")
    with pytest.raises(DamagedRecordingError) as error:
        read_recording(content)
    assert str(error.value).startswith(f"At byte {place}: ")


@pytest.mark.parametrize("content", [b"", b"no events", b"#!AER-DAT9.9\r\n"])
def test_file_of_no_known_format_is_an_error(content):
    with pytest.raises(DamagedRecordingError, match="At byte 0: expected"):
        read_recording(content)


def test_addresses_of_a_dvs128_by_hand():
    # Bit 0 inverted polarity, bits 1 to 7 x from the right, 8 to 14 y from below.
    address = (5 << 8) | (100 << 1) | 1
    content = b"#!AER-DAT2.0\r\n" + np.array([address, 77], ">u4").tobytes()
    (event,) = read_aedat2(content)
    assert event.item() == (77, 127 - 100, 127 - 5, False)


def test_chunks_hold_no_more_than_asked():
    content = written(write_aedat2, CORNERS)
    chunks = list(iter_recording(content, chunk_events=3))
    assert [len(chunk) for chunk in chunks] == [3, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), CORNERS)


def test_chunks_heed_order_and_damage_as_they_are_told():
    events = CORNERS.copy()
    events["t"] = [5, 9, 7, 8]
    content = written(write_aedat31, events)
    np.testing.assert_array_equal(read_recording(content, ordered=False), events)
    (chunk,) = iter_recording(content, ordered=False)
    np.testing.assert_array_equal(chunk, events)
    cut = written(write_aedat31, CORNERS, packet_events=2)[:-3]
    with pytest.warns(DamagedRecordingWarning, match="Dropped the last"):
        chunks = list(iter_recording(cut, strict=False))
    np.testing.assert_array_equal(np.concatenate(chunks), CORNERS[:3])


@pytest.mark.parametrize("read", [read_recording, iter_recording])
def test_unknown_orientation_is_an_error_in_every_format(read):
    with pytest.raises(ValueError, match="Received: orientation='sideways'"):
        read(written(write_aedat31, CORNERS), orientation="sideways")


def overflowing_aedat2():
    """Bytes in which 32 bits of time overflow three times, and the times.

    Bit 15 of the address marks an event of no pixel. The second overflow is between
    such an event and the next: nothing else tells.
    """
    most = 2**32
    raw = [most - 5, most - 1, 0, 3, most - 2, 5, 9, most - 1, 0]
    words = np.zeros((len(raw), 2), ">u4")
    words[4, 0] = 1 << 15
    words[:, 1] = raw
    after = [2 * most + 5, 2 * most + 9, 3 * most - 1, 3 * most]
    return (
        b"#!AER-DAT2.0\r\n" + words.tobytes(),
        [most - 5, most - 1, most, most + 3, *after],
    )


def overflowing_aedat31():
    """Bytes of packets that begin with another overflow count, and the times."""
    most = 2**31
    packets = [
        (0, [most - 2, most - 1]),
        (1, [0, 1, 2, 3]),
        (1, [4]),
        (2, [7, most - 1]),
    ]
    packets += [(5, [0, 1])]
    content = b"#!AER-DAT3.1\r\n#!END-HEADER\r\n"
    for overflow, raw in packets:
        # Events of another kind are skipped, and so is room for one more.
        special = struct.pack("<HHIIIIIIII", 0, 1, 8, 4, 9, 1, 1, 1, 1, 5)
        sizes = len(raw) + 1, len(raw), len(raw)
        content += special + struct.pack("<HHIIIIII", 1, 1, 8, 4, overflow, *sizes)
        content += b"".join(struct.pack("<II", 1, t) for t in raw) + bytes(8)
    return content, [overflow * most + t for overflow, raw in packets for t in raw]


def overflowing_nmnist():
    """Bytes with rows that add 2^13 to the time from there on, and the times."""
    content, times, added = b"", [], 0
    for t in (None, 3, 8000, None, 5, 6, None, None, 0, None):
        row = 240 if t is None else 0
        content += bytes([0, row, 128, *divmod(t or 0, 256)])
        if t is None:
            added += 8192
        else:
            times.append(added + t)
    return content, times


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (overflowing_aedat2, read_aedat2),
        (overflowing_aedat31, read_aedat31),
        (overflowing_nmnist, read_nmnist),
    ],
)
def test_time_overflows_at_the_border_of_a_chunk_too(make, read):
    content, times = make()
    assert read(content, max_gap_us=None)["t"].tolist() == times
    options = {"name": "a.bin", "max_gap_us": None}
    for size in range(1, 12):
        chunks = iter_recording(content, chunk_events=size, **options)
        chunks = [chunk["t"].tolist() for chunk in chunks]
        assert all(0 < len(chunk) <= size for chunk in chunks)
        assert [t for chunk in chunks for t in chunk] == times


@pytest.mark.parametrize(
    ("write", "event_bytes"),
    [
        (write_aedat2, 8),
        (write_aedat31, 8),
        (write_nmnist, 5),
        (write_dat, 8),
    ],
)
def test_time_that_runs_backwards_in_any_chunk_ends_the_recording(write, event_bytes):
    events = np.zeros(6, EVENT_DTYPE)
    events["t"] = [5, 6, 9, 8, 10, 12]
    content = written(write, events)
    for size in range(1, 8):
        found = []
        with pytest.raises(DamagedRecordingError) as error:
            for chunk in iter_recording(content, name="a.bin", chunk_events=size):
                found += chunk["t"].tolist()
        assert found == [5, 6, 9]
        assert error.value.offset == len(content) - 3 * event_bytes
        assert "expected time 9 or later. Received: 8" in str(error.value)


def test_file_made_to_the_specification_gives_its_events():
    path = shared_file("aedat31-made-to-spec.aedat")
    assert len(read_aedat31(path)) == 6
    assert len(read_aedat31(path, valid_only=True)) == 5
    assert read_aedat31(path)["t"].max() > 2**31


def test_real_dvs128_recordings_come_back():
    with zipfile.ZipFile(shared_file("dvs128-objects-aedat2.zip")) as archive:
        name = next(n for n in archive.namelist() if n.endswith("Estilete.aedat"))
        content = archive.read(name)
    events = read_recording(content)
    assert len(events) == 314_257
    assert (events["x"].max(), events["y"].max()) == (127, 127)
    assert (np.diff(events["t"]) >= 0).all()
    np.testing.assert_array_equal(read_aedat2(written(write_aedat2, events)), events)


def test_real_nmnist_recordings_fit_their_sensor():
    with zipfile.ZipFile(shared_file("nmnist-small.zip")) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".bs2"))
        events = read_nmnist(archive.read(name))
    assert len(events) > 1000
    assert max(events["x"].max(), events["y"].max()) < 34


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"MATLAB 7.3 MAT-file, Platform", "a MATLAB file: load its t, x, y and p"),
        (b"#!AER-DAT1.0\r\n", "AEDAT of another version"),
        (b"% evt 3.0\n% format HISTO3D;height=3\n", "frames of a Prophesee camera"),
        (b"% Date 2020\n% end\n", "a Prophesee file that states no format"),
        (b"SQLite format 3\0", "a ROS 2 bag: convert it"),
        (b"\x1f\x8b\x08", "a compressed file or an archive: unpack it"),
        (b"a" * 100 + bytes(57) + b"0000644 " * 12 + b"\0" * 4 + b"ustar", "archive"),
        (b"\x80\x04\x95", "a pickle, which could run code"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html>", "a web page"),
        (b"RIFF\0\0\0\0AVI LIST", "an image or a video"),
        (b"PAR1", "a table of Parquet"),
    ],
)
def test_what_is_no_recording_is_named_with_the_way_that_works(content, said):
    with pytest.raises(DamagedRecordingError, match="At byte 0: expected a rec") as e:
        read_recording(content)
    assert f"this looks like {said}" in str(e.value) or said == "archive"
    assert said in str(e.value)


def test_first_bytes_tell_more_than_the_name():
    """A format with a magic is recognised under the extension of one without."""
    file = io.BytesIO()
    write_aedat31(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    events = read_recording(file.getvalue(), name="cup.bin")
    assert events.tolist() == [(10, 3, 4, True)]


@pytest.mark.parametrize("name", ["a.bin", "A.BIN"])
def test_a_format_without_a_magic_is_known_by_its_name(name):
    content = bytes.fromhex("03 04 80 00 0a")
    assert read_recording(content, name=name).tolist() == [(10, 3, 4, True)]


@each_even
@pytest.mark.parametrize("place", [1, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_leap_of_the_clock_ends_the_recording(write, read, events, place, size):
    events = np.zeros(6, EVENT_DTYPE)
    events["t"] = np.arange(6) * 1000
    events["t"][place:] += 1000
    content = written(write, events)
    event_bytes = len(content) - len(written(write, events[:-1]))
    options = {"name": "a.bin", "chunk_events": size}
    found = []
    with pytest.raises(DamagedRecordingError) as error:
        for chunk in iter_recording(content, max_gap_us=1999, **options):
            found += chunk["t"].tolist()
    assert found == events["t"][:place].tolist()
    assert error.value.offset == len(content) - (6 - place) * event_bytes
    assert "at most 1999 microseconds after the event before" in str(error.value)
    with pytest.warns(DamagedRecordingWarning, match="at most 1999"):
        kept = read(content, strict=False, ordered=False, max_gap_us=1999)
    np.testing.assert_array_equal(kept, events[:place])
    for most in (2000, None):
        np.testing.assert_array_equal(read(content, max_gap_us=most), events)


def test_a_false_overflow_of_the_clock_is_damage_without_an_option():
    """A changed byte of a time moved all events from there on by 71.6 minutes."""
    events = np.zeros(4, EVENT_DTYPE)
    events["t"] = [1000, 2000, 3000, 4000]
    content = bytearray(written(write_aedat2, events))
    content[-3 * 8 + 4] = 0xFF  # The highest byte of the second time.
    with pytest.raises(DamagedRecordingError, match="at most 3600000000 microsec") as e:
        read_aedat2(bytes(content))
    assert e.value.offset == len(content) - 3 * 8
    content = bytearray(written(write_aedat31, events, packet_events=1))
    content[-(28 + 8) + 15] |= 1 << 7  # The highest bit of the packet's overflows.
    with pytest.raises(DamagedRecordingError, match="Received: 4611686018427391904"):
        read_aedat31(bytes(content))


def test_markers_of_nmnist_are_no_events():
    """The clock may run on by overflows alone, as far as the gap between events."""
    content = bytes(5) + 3 * bytes([0, 240, 128, 255, 255]) + bytes(5)
    assert read_nmnist(content)["t"].tolist() == [0, 3 << 13]
    assert len(read_nmnist(content, max_gap_us=3 << 13)) == 2
    for size in range(1, 6):
        options = {"name": "a.bin", "max_gap_us": (3 << 13) - 1, "chunk_events": size}
        with pytest.raises(DamagedRecordingError) as error:
            list(iter_recording(content, **options))
        assert error.value.offset == 20


@pytest.mark.parametrize("gap", [-1, float("nan"), 1 << 63])
def test_gap_out_of_range_is_an_error(gap):
    with pytest.raises(ValueError, match=f"max_gap_us must lie .*max_gap_us={gap}"):
        read_recording(b"#!AER-DAT2.0\r\n", max_gap_us=gap)


@pytest.mark.parametrize(
    ("first", "line"),
    [(b"#!AER-DAT2.0\r\n", b"#\n"), (b"#!AER-DAT3.1\r\n", b"#" * 65_535 + b"\n")],
)
def test_headers_take_linear_time_and_end_at_a_mebibyte(first, line):
    for extra, at in ((b"", None), (line, b"1 MiB")):
        count = ((1 << 20) - len(first) - 20) // len(line)
        content = first + line * count + 20 * extra + b"#!END-HEADER\r\n"
        start = time.process_time()
        if at is None:
            assert len(read_recording(content)) == 0
        else:
            with pytest.raises(DamagedRecordingError, match="header of at most 1 MiB"):
                read_recording(content)
        # Half a million lines take 0.3 s, and 30 s if each copies what may follow.
        assert time.process_time() - start < 4


@pytest.mark.parametrize("first", [b"#!AER-DAT2.0\r\n", b"#!AER-DAT3.1\r\n"])
def test_a_line_of_more_than_64_kib_is_damage(first):
    with pytest.raises(DamagedRecordingError, match="at most 64 KiB") as error:
        read_recording(first + b"#" * 65_536 + b"\n#!END-HEADER\r\n")
    assert error.value.offset == len(first)


def test_message_about_a_long_header_line_is_short():
    with pytest.raises(DamagedRecordingError, match="Format: RAW") as error:
        read_recording(b"#!AER-DAT3.1\r\n#Format: " + b"x" * 60_000 + b"\r\n")
    assert len(str(error.value)) < 300

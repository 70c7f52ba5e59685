"""Every real recording at hand, against ten lines of NumPy that share no code."""

import zipfile

import numpy as np
import pytest
from conftest import shared_file

from keras_qkformer.events.aedat2 import read_aedat2
from keras_qkformer.events.aedat4 import read_aedat4
from keras_qkformer.events.aedat31 import read_aedat31
from keras_qkformer.events.byte_stream import DamagedRecordingError, Details
from keras_qkformer.events.nmnist import read_nmnist
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent


def members(name, suffix):
    """`(name, content)` of the files of an archive."""
    with zipfile.ZipFile(shared_file(name)) as archive:
        for member in archive.namelist():
            if member.endswith(suffix):
                yield member, archive.read(member)


def dvs128_by_hand(content):
    start = 0
    while content[start : start + 1] == b"#":
        start = content.index(b"\n", start) + 1
    address, t = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).T
    column, row, bit = (address >> 1) & 0x7F, (address >> 8) & 0x7F, address & 1
    return t.astype("i8"), 127 - column, 127 - row, bit == 0


def nmnist_by_hand(content):
    x, y, high, middle, low = np.frombuffer(content, "u1").reshape(-1, 5).T.astype("i8")
    return (high % 128) * 65536 + middle * 256 + low, x, y, high >= 128


def check(events, by_hand, sensor_size):
    for field, expected in zip("txyp", by_hand, strict=True):
        np.testing.assert_array_equal(events[field], expected)
    assert (np.diff(events["t"]) >= 0).all()
    assert events["y"].max() < sensor_size[0]
    assert events["x"].max() < sensor_size[1]
    assert 0 < events["p"].mean() < 1


def test_all_dvs128_recordings_read():
    counts = {}
    for name, content in members("dvs128-objects-aedat2.zip", ".aedat"):
        events = read_recording(content)
        check(events, dvs128_by_hand(content), (128, 128))
        assert (events["x"].min(), events["x"].max()) == (0, 127)
        assert (events["y"].min(), events["y"].max()) == (0, 127)
        seconds = (events["t"][-1] - events["t"][0]) / 1e6
        assert 16 < seconds < 37
        counts[name] = len(events)
        sideways = read_aedat2(content, orientation="spikingjelly")
        np.testing.assert_array_equal(sideways["x"], events["y"])
        np.testing.assert_array_equal(sideways["y"], events["x"])
    assert len(counts) == 14
    assert counts["DataSet2/Estilete.aedat"] == 314_257
    assert sum(counts.values()) == 4_459_832


def test_all_nmnist_recordings_read():
    count = total = 0
    for name, content in members("nmnist-small.zip", ".bs2"):
        events = read_recording(content, name=name)
        check(events, nmnist_by_hand(content), (34, 34))
        assert events["t"][-1] < 340_000  # Three saccades of 0.1 s.
        count, total = count + 1, total + len(events)
    assert count == 1100
    assert total > 4_000_000


def test_file_made_to_the_specification_by_hand():
    path = shared_file("aedat31-made-to-spec.aedat")
    content = path.read_bytes()
    start = content.index(b"#!END-HEADER\r\n") + 14
    found = []
    while start < len(content):
        head = np.frombuffer(content, "<u4", 6, start + 4)
        kind = int.from_bytes(content[start : start + 2], "little")
        size, _, overflow, capacity, number, _ = map(int, head)
        for i in range(number if kind == 1 else 0):
            data, t = np.frombuffer(content, "<u4", 2, start + 28 + i * size).tolist()
            found.append(
                (overflow * 2**31 + t, data >> 17, data >> 2 & 32767, data >> 1 & 1)
            )
        start += 28 + capacity * size
    events = read_aedat31(path)
    assert [(t, x, y, int(p)) for t, x, y, p in events.tolist()] == found
    assert (len(events), len(read_aedat31(path, valid_only=True))) == (6, 5)


def aedat4():
    pytest.importorskip("aedat", reason="AEDAT 4 needs the extra events")
    return shared_file("sample.aedat4")


def test_aedat4_recording_reads_from_path_and_bytes():
    path = aedat4()
    events = read_recording(path)
    # Counted with faery 0.7.1 and dv-processing 2.0.4; the events of the second one
    # are all equal to these.
    assert len(events) == 111_954
    assert events[0].item() == (1605537493718345, 154, 204, False)
    assert events[-1].item() == (1605537494308262, 88, 237, True)
    assert (events["x"].max(), events["y"].max()) == (319, 239)
    assert (np.diff(events["t"]) >= 0).all()
    np.testing.assert_array_equal(read_aedat4(path.read_bytes()), events)
    details = Details()
    with path.open("rb") as file:
        chunks = list(iter_recording(file, chunk_events=1000, details=details))
    assert max(map(len, chunks)) == 1000
    np.testing.assert_array_equal(np.concatenate(chunks), events)
    assert details.sensor_size == (240, 320)


@pytest.mark.parametrize("cut", [3, 20, 400, 100_000, 700_001])
def test_cut_aedat4_recording_is_damaged(cut):
    content = aedat4().read_bytes()[:cut]
    with pytest.raises(DamagedRecordingError, match=r"At byte \d+: "):
        read_recording(content)


def test_small_files_are_read_whole():
    (_, content), *_ = members("nmnist-small.zip", "/1.bs2")
    assert len(read_nmnist(content)) == len(content) // 5


def test_damaged_aedat4_recording_is_an_error_or_gives_events():
    """Most damage is seen; some makes the package abort its own process."""
    content = aedat4().read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for number in range(16):
        place = int(rng.integers(0, 4000 if number % 2 else len(content)))
        noise = rng.integers(0, 256, 4, "u1").tobytes()
        damaged = content[:place] + noise + content[place + 4 * (number % 3) :]
        try:
            assert len(read_aedat4(damaged)) <= len(content)
        except DamagedRecordingError as error:
            assert 0 <= error.offset <= len(damaged)
            errors += 1
    assert errors >= 8

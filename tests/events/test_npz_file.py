"""NumPy files of events: the layouts of other libraries, units, and what is refused."""

import io
import zipfile

import numpy as np
import pytest

from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
)
from keras_qkformer.events.event_array import EVENT_DTYPE, make_events
from keras_qkformer.events.npz_file import read_npz, write_npz
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent
EVENTS = make_events([5, 7, 7, 90], [0, 300, 2, 3], [4, 0, 600, 7], [1, 0, 1, 0])
COLUMNS = {name: EVENTS[name] for name in "txyp"}


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def structured(order="xytp", t="<i8", names=None):
    types = {"t": t, "x": "<i2", "y": "<i2", "p": "?"}
    array = np.zeros(4, [((names or {}).get(n, n), types[n]) for n in order])
    for name in order:
        array[(names or {}).get(name, name)] = EVENTS[name]
    return array


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_written_comes_back(tmp_path, compressed):
    write_npz(tmp_path / "a.npz", EVENTS, compressed=compressed)
    file = io.BytesIO()
    write_npz(file, EVENTS, compressed=compressed)
    for source in (tmp_path / "a.npz", file.getvalue(), io.BytesIO(file.getvalue())):
        np.testing.assert_array_equal(read_recording(source), EVENTS)
    chunks = list(iter_recording(file.getvalue(), chunk_events=3))
    assert [len(chunk) for chunk in chunks] == [3, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), EVENTS)
    with np.load(tmp_path / "a.npz") as arrays:  # Others can read it.
        assert sorted(arrays) == ["p", "t", "x", "y"]


@pytest.mark.parametrize(
    "content",
    [
        npy(structured()),  # Tonic.
        npy(structured("txyp", ">u4", {"t": "timestamp", "p": "Polarity"})),
        npy(EVENTS),
        npz(events=structured()),
        npz(**{**COLUMNS, "x": EVENTS["x"].astype(float), "label": np.array(3)}),
        npz(ts=EVENTS["t"], x=EVENTS["x"], y=EVENTS["y"], pol=2 * EVENTS["p"] - 1.0),
        npz(**{**COLUMNS, "p": np.where(EVENTS["p"], 1, -1).astype("i1")}),
    ],
)
def test_layouts_of_other_libraries_are_read(content):
    np.testing.assert_array_equal(read_recording(content), EVENTS)
    np.testing.assert_array_equal(read_npz(content), EVENTS)


@pytest.mark.parametrize(
    ("t", "unit"),
    [
        (EVENTS["t"] / 1e6, "s"),
        (EVENTS["t"].astype("f4") / 1e3, "ms"),
        (EVENTS["t"] * 1000 + 999, "ns"),
        (EVENTS["t"].astype("u8"), "us"),
        (EVENTS["t"].astype(float), None),
    ],
)
def test_times_have_the_unit_that_is_told(t, unit):
    content = npz(**{**COLUMNS, "t": t})
    np.testing.assert_array_equal(read_recording(content, time_unit=unit), EVENTS)
    np.testing.assert_array_equal(read_npz(content, time_unit=unit), EVENTS)


def test_whole_seconds_are_multiplied():
    content = npz(**{**COLUMNS, "t": np.array([0, 1, 2, 2])})
    t = read_npz(content, time_unit="s")["t"]
    assert t.tolist() == [0, 1_000_000, 2_000_000, 2_000_000]


@pytest.mark.parametrize("read", [read_recording, read_npz])
def test_unknown_unit_is_an_error(read):
    with pytest.raises(ValueError, match="one of s, ms, us, ns, or None"):
        read(npz(**COLUMNS), time_unit="minutes")


def changed(name, row, value, dtype=None):
    column = COLUMNS[name].astype(dtype or COLUMNS[name].dtype)
    column[row] = value
    return npz(**{**COLUMNS, name: column})


@pytest.mark.parametrize(
    ("content", "message", "kept"),
    [
        (changed("t", 2, 6), "in row 2, expected time 7 or later. Received: 6", 2),
        (changed("t", 3, 1 << 40), "in row 3, expected at most 3600000000 micro", 3),
        (changed("t", 1, 0.5, float), "in row 1, expected a time in whole micro", 1),
        (changed("t", 1, np.nan, float), "in row 1, expected a time in whole", 1),
        (changed("t", 3, 1 << 63, "u8"), r"in row 3, expected a time below 2\^63", 3),
        (changed("x", 2, -1, "i4"), "in row 2, expected a whole number from 0 to", 2),
        (changed("y", 2, 65536, "i4"), r"from 0 to 65535 as y\. Received: 65536", 2),
        (changed("y", 0, 0.5, "f4"), r"from 0 to 65535 as y\. Received: 0\.5", 0),
        (changed("p", 3, 2, "i8"), "from -1 to 1 as p. Received: 2", 3),
        (npz(), "expected arrays t, x, y and p. Received: an empty zip", 0),
        (npz(x=EVENTS["x"]), "expected numbers|without fields", 0),
        (npz(**{**COLUMNS, "x": EVENTS["x"][1:]}), "arrays of one length", 0),
        (npz(**{**COLUMNS, "x": EVENTS["x"][:, None]}), "one axis that fits", 0),
        (npz(**{**COLUMNS, "p": np.array(["a"] * 4)}), "expected numbers in", 0),
        (npz(**{**COLUMNS, "p": np.array([{}] * 4)}), "Python objects, which", 0),
        (npy(np.array([{}])), "Python objects, which could run code", 0),
        (npy(EVENTS["x"]), "an array with fields t, x, y and p. Received", 0),
        (npy(structured("xyt")), "expected fields t, x, y and p", 0),
        (npy(structured())[:-3], "expected 4 rows, found the end of the file", 3),
        (npy(structured()) + b"!", "expected the end of the file", 4),
        (b"\x93NUMPY\1\0\x76\0{'descr': ((((((((", "a header of NumPy", 0),
        (npz(**COLUMNS)[:-30], "no zip file that can be trusted", 0),
    ],
)
def test_damage_is_named_with_its_row(content, message, kept):
    with pytest.raises(DamagedRecordingError, match=message) as error:
        read_recording(content)
    assert 0 <= error.value.offset <= len(content)
    with pytest.warns(DamagedRecordingWarning):
        events = read_recording(content, strict=False)
    np.testing.assert_array_equal(events, EVENTS[:kept])


def test_a_file_of_pytorch_is_named():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(DamagedRecordingError, match="looks like a file of PyTorch"):
        read_recording(file.getvalue())


def test_a_changed_byte_of_an_array_is_seen_by_its_checksum():
    content = bytearray(npz(**COLUMNS))
    content[content.index(EVENTS["t"].tobytes())] ^= 1
    with pytest.raises(DamagedRecordingError, match=r"entry t\.npy is damaged"):
        read_recording(bytes(content))


def test_rows_behind_the_start_of_a_chunk_have_their_byte():
    content = npy(structured())
    array = structured()
    array["t"][3] = 6
    with pytest.raises(DamagedRecordingError, match="expected time 7") as error:
        list(iter_recording(npy(array), chunk_events=2))
    assert error.value.offset == len(content) - array.dtype.itemsize
    assert len(read_recording(npy(structured()[:0]))) == 0
    assert read_recording(npz(**{n: v[:0] for n, v in COLUMNS.items()})).dtype == (
        EVENT_DTYPE
    )


@pytest.mark.parametrize(
    ("t", "unit"), [(np.array([2**63], ">u8"), None), (np.array([-(2**63)]), "s")]
)
def test_no_time_is_wound_around(tmp_path, t, unit):
    np.savez(tmp_path / "a.npz", t=t, x=[1], y=[1], p=[1])
    with pytest.raises(DamagedRecordingError, match=r"in row 0, expected a time below"):
        read_npz(tmp_path / "a.npz", time_unit=unit)

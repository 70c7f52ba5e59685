"""HDF5 files of events: the layouts of DSEC and Metavision, and what is refused."""

import io
import sys

import h5py
import numpy as np
import pytest

from keras_qkformer.events import hdf5_file, hdf5_process
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
    Details,
)
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.hdf5_file import (
    DAMAGE,
    END,
    EVENTS,
    MESSAGE,
    MISSING,
    read_hdf5,
)
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent
ROWS = make_events([5, 7, 7, 90], [0, 300, 2, 3], [4, 0, 400, 7], [1, 0, 1, 0])


def dsec(path, rows=ROWS, group="events", **options):
    with h5py.File(path, "w") as file:
        for name, kind in (("t", "u4"), ("x", "u2"), ("y", "u2"), ("p", "u1")):
            values = rows[name].astype(options.pop(f"type_{name}", kind))
            file.create_dataset(f"{group}/{name}", data=values, **options)
        file["ms_to_idx"] = np.zeros(1, "u8")
        file["t_offset"] = np.int64(1000)
    return path


def metavision(path):
    table = np.zeros(4, [("x", "u2"), ("y", "u2"), ("p", "i2"), ("t", "i8")])
    for name in "xypt":
        table[name] = ROWS[name]
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = "640x480"
        file["CD/events"] = table
        file["CD/indexes"] = np.zeros(2, [("id", "u8"), ("ts", "i8")])
        file["EXT_TRIGGER/events"] = np.zeros(
            1, [("p", "i2"), ("t", "i8"), ("id", "i2")]
        )
    return path


def test_layout_of_dsec_adds_its_offset(tmp_path):
    path = dsec(tmp_path / "a.h5", compression="gzip", chunks=(2,))
    events = read_recording(path)
    assert events["t"].tolist() == [1005, 1007, 1007, 1090]
    for name in "xyp":
        np.testing.assert_array_equal(events[name], ROWS[name])
    chunks = list(iter_recording(io.BytesIO(path.read_bytes()), chunk_events=3))
    assert [len(chunk) for chunk in chunks] == [3, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), events)


def test_layout_of_metavision_states_the_sensor(tmp_path):
    details = Details()
    (events,) = iter_recording(metavision(tmp_path / "a.hdf5"), details=details)
    np.testing.assert_array_equal(events, ROWS)
    assert (details.format, details.sensor_size) == ("HDF5", (480, 640))
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file.attrs["geometry"] = "640x400"
    with pytest.raises(DamagedRecordingError, match=r"in row 2, .* sensor of 400x640"):
        read_recording(tmp_path / "a.hdf5")


def test_rows_of_damage_are_named_and_those_before_are_kept(tmp_path):
    rows = ROWS.copy()
    rows["t"][2] = 6
    path = dsec(tmp_path / "a.h5", rows)
    with pytest.raises(
        DamagedRecordingError, match="in row 2, expected time 1007"
    ) as e:
        read_hdf5(path)
    with h5py.File(path) as file:
        assert e.value.offset == file["events/t"].id.get_offset()
    with pytest.warns(DamagedRecordingWarning):
        assert len(read_recording(path, strict=False)) == 2
    seconds = ROWS.copy()
    path = dsec(tmp_path / "b.h5", seconds, type_t="f8")
    assert read_hdf5(path, time_unit="s")["t"][0] == 5_001_000
    with pytest.raises(ValueError, match="time_unit must be one of"):
        read_hdf5(path, time_unit="h")


def messages(path, time_unit="", rows=100):
    """What the process writes, in this one: fast."""
    out = io.BytesIO()
    hdf5_process.main(str(path), time_unit, rows, out)
    out.seek(0)
    found = []
    while header := out.read(MESSAGE.size):
        kind, place, size = MESSAGE.unpack(header)
        found.append((kind, place, out.read(size)))
    return found


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch):
    for name in ("limit_memory", "limit_seconds"):
        monkeypatch.setattr(hdf5_process, name, lambda most: None)


def refused(path, kind=DAMAGE):
    *_, (last, _, said) = messages(path)
    assert last == kind
    return said.decode()


def test_columns_are_found_in_any_one_group(tmp_path):
    path = dsec(tmp_path / "a.h5", group="davis/left")
    assert [kind for kind, *_ in messages(path)] == [EVENTS, END]
    with h5py.File(path, "a") as file:
        file.copy("davis/left", "davis/right")
    assert "Received: 2, of davis/left, davis/right" in refused(path)
    with h5py.File(path, "w") as file:
        file["davis/events"] = np.zeros((3, 4))
    assert "columns t, x, y and p. Received: 0, of davis" in refused(path)


def test_numbers_of_other_files_are_not_read(tmp_path):
    path = dsec(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["events"] = h5py.ExternalLink("a.h5", "events")
    assert "Received: 0, of events" in refused(tmp_path / "b.h5")
    with h5py.File(path, "a") as file:
        del file["events/x"]
        file["events"].create_dataset(
            "x", (4,), "u2", external=[(str(tmp_path / "b.h5"), 0, 8)]
        )
    assert "numbers of /events/x in the file itself" in refused(path)
    with h5py.File(path, "a") as file:
        del file["events/x"]
        layout = h5py.VirtualLayout((4,), "u2")
        layout[:] = h5py.VirtualSource(str(tmp_path / "a.h5"), "events/y", (4,))
        file.create_virtual_dataset("events/x", layout)
    assert "numbers of /events/x in the file itself" in refused(path)


def test_columns_of_other_things_are_refused(tmp_path):
    path = dsec(tmp_path / "a.h5")
    for values, message in (
        (np.zeros(3, "u2"), "columns of one length"),
        (np.zeros((4, 1), "u2"), "columns of one length"),
        (np.array([b"a"] * 4), "expected numbers in /events/x"),
        (np.full(4, 70_000), "in row 0, expected a whole number from 0 to 65535 as x"),
    ):
        with h5py.File(path, "a") as file:
            del file["events/x"]
            file["events/x"] = values
        assert message in refused(path)
    path.write_bytes(path.read_bytes()[:500])
    assert "expected an HDF5 file that can be read" in refused(path)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_rows_before_those_that_can_not_be_read_are_kept(tmp_path, rows):
    path = dsec(tmp_path / "a.h5", compression="gzip", chunks=(2,))
    with h5py.File(path) as file:
        chunk = file["events/x"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    *found, (last, place, said) = messages(path, rows=rows)
    assert (last, place) == (DAMAGE, 0) and b"filter returned failure" in said
    assert {kind for kind, *_ in found} == {EVENTS}
    events = np.frombuffer(b"".join(part for *_, part in found), ROWS.dtype)
    assert events["x"].tolist() == ROWS["x"][:2].tolist()


def test_rows_that_no_one_wrote_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(name, (1 << 40,), "u2", chunks=(100,))
            file[name][0] = 0
    said = refused(path)
    assert "1032 rows for each byte" in said
    assert "Received: 1099511627776 rows, 200 bytes" in said


def test_numbers_beside_the_columns_are_single_ones_of_the_file(tmp_path):
    path = dsec(tmp_path / "a.h5")
    for values in (np.arange(9), 1.5):
        with h5py.File(path, "a") as file:
            del file["t_offset"]
            file["t_offset"] = values
        assert "a whole number as t_offset" in refused(path)
    with h5py.File(path, "a") as file:
        del file["t_offset"]
        file.create_dataset("t_offset", (1,), "i8", external=[("b", 0, 8)])
        file.attrs["geometry"] = ["640x480"] * 2
    assert "numbers of /t_offset in the file itself" in refused(path)
    with h5py.File(path, "a") as file:
        del file["t_offset"]
    assert [kind for kind, *_ in messages(path)] == [EVENTS, END]  # No size.


def test_a_file_that_takes_too_long_is_told(tmp_path, monkeypatch):
    path = dsec(tmp_path / "a.h5")
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)"
    monkeypatch.setattr(
        hdf5_file, "module_command", lambda *_: [sys.executable, "-c", kill]
    )
    with pytest.raises(DamagedRecordingError, match="h5py reads on within 60 s"):
        read_hdf5(path)


@pytest.mark.parametrize(
    ("code", "message"),
    [(36559, "install Metavision's plug-in hdf5_ecf"), (32001, "hdf5plugin")],
)
def test_missing_plug_ins_are_named(tmp_path, monkeypatch, code, message):
    path = dsec(tmp_path / "a.h5", compression="gzip", chunks=(4,))

    monkeypatch.setattr(hdf5_process, "filters_of", lambda dataset: [(code, b"x")])
    assert message in refused(path, MISSING)

"""MATLAB files of version 5, as SciPy and MATLAB write them, and what is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
)
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.mat_file import read_mat
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent
EVENTS = make_events([5, 7, 7, 90], [0, 239, 2, 3], [4, 0, 179, 7], [1, 0, 1, 0])
COLUMNS = {"ts": EVENTS["t"], "x": EVENTS["x"], "y": EVENTS["y"], "pol": EVENTS["p"]}


def mat(variables=COLUMNS, **options):
    file = io.BytesIO()
    scipy.io.savemat(file, variables, **{"oned_as": "column", **options})
    return file.getvalue()


@pytest.mark.parametrize("do_compression", [False, True])
@pytest.mark.parametrize("oned_as", ["row", "column"])
@pytest.mark.parametrize("dtype", ["u1", "i8", "f8", "u4"])
def test_vectors_of_any_type_are_events(do_compression, oned_as, dtype, tmp_path):
    columns = {name: values.astype(dtype) for name, values in COLUMNS.items()}
    others = {"about": "a text", "A": np.eye(3), "c": np.array([1j, 2])}
    content = mat({**others, **columns}, do_compression=do_compression, oned_as=oned_as)
    (tmp_path / "a.mat").write_bytes(content)
    for source in (content, io.BytesIO(content), tmp_path / "a.mat"):
        assert read_recording(source).tolist() == EVENTS.tolist()
    chunks = list(iter_recording(content, chunk_events=3))
    assert [len(chunk) for chunk in chunks] == [3, 1]


def test_few_values_stand_beside_their_size_and_none_are_no_events():
    for count in (0, 1, 3):
        few = {name: values[:count].astype("u1") for name, values in COLUMNS.items()}
        for do_compression in (False, True):
            events = read_mat(mat(few, do_compression=do_compression))
            assert events.tolist() == EVENTS[:count].tolist()


def test_times_have_the_unit_that_is_named():
    columns = {**COLUMNS, "ts": EVENTS["t"] / 1e6}
    assert read_mat(mat(columns), time_unit="s").tolist() == EVENTS.tolist()
    with pytest.raises(DamagedRecordingError, match="in row 0, expected a time in who"):
        read_mat(mat(columns))
    with pytest.raises(ValueError, match="time_unit must be one of"):
        read_mat(mat(), time_unit="h")


def test_big_endian_files_are_read():
    """By hand, from the description of the format: MATLAB on other processors."""

    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    def variable(name, values, kind, dtype):
        flags = struct.pack(">II", 6, 0)  # Doubles.
        dims = struct.pack(">ii", len(values), 1)
        small = struct.pack(">HH4s", len(name), 1, name.encode())
        data = element(kind, np.array(values, dtype).tobytes())
        return element(14, element(6, flags) + element(5, dims) + small + data)

    header = b"MATLAB 5.0 MAT-file by hand".ljust(124) + b"\1\0MI"
    content = header + variable("t", EVENTS["t"], 9, ">f8")
    content += variable("x", EVENTS["x"], 4, ">u2")
    deflated = zlib.compress(variable("y", EVENTS["y"], 2, "u1"))
    content += struct.pack(">II", 15, len(deflated)) + deflated
    content += variable("p", EVENTS["p"], 2, "u1")
    assert read_recording(content).tolist() == EVENTS.tolist()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "expected vectors t, x, y and p. Received: no variable"),
        ({"x": [1.0]}, "expected vectors t, x, y and p. Received: x"),
        ({**COLUMNS, "y": EVENTS["y"][:3]}, r"of one length. Received: \[3, 4\]"),
        ({**COLUMNS, "y": np.eye(2)}, "y is no vector of real numbers"),
        ({**COLUMNS, "y": "text"}, "y is no vector of real numbers"),
        ({**COLUMNS, "y": {"a": 1}}, "y is no vector of real numbers"),
        ({**COLUMNS, "y": EVENTS["y"] * 1j}, "y is no vector of real numbers"),
        ({**COLUMNS, "x": [0, 239, 2.5, 3]}, "in row 2, expected a whole number"),
        ({**COLUMNS, "ts": [5, 7, 6, 8]}, "in row 2, expected time 7 or later"),
    ],
)
def test_what_is_no_table_of_events_is_refused(variables, said):
    for do_compression in (False, True):
        content = mat(variables, do_compression=do_compression)
        with pytest.raises(DamagedRecordingError, match=said):
            read_mat(content)
        with pytest.warns(DamagedRecordingWarning):
            kept = read_mat(content, strict=False)
        assert kept.tolist() == EVENTS[: len(kept)].tolist()
        assert len(kept) == (2 if "in row 2" in said else 0)


def test_a_changed_byte_of_a_deflated_variable_is_damage():
    content = bytearray(mat(do_compression=True))
    content[-1] ^= 1  # Of a checksum.
    with pytest.raises(DamagedRecordingError, match="a whole variable of MATLAB 5"):
        read_mat(bytes(content))


def test_damage_behind_the_vectors_comes_after_their_events():
    content = mat(do_compression=True)
    for more in (b"more", content[128:-9]):  # Some of them again: the first count.
        with pytest.raises(DamagedRecordingError, match="and all of it") as error:
            read_mat(content + more)
        assert error.value.offset >= len(content)
        with pytest.warns(DamagedRecordingWarning):
            kept = read_mat(content + more, strict=False)
        assert kept.tolist() == EVENTS.tolist()


def test_a_variable_that_inflates_for_long_takes_little_memory():
    import tracemalloc

    columns = {name: np.zeros(2_000_000, "i8") for name in COLUMNS}
    content = mat(columns, do_compression=True)
    assert len(content) < 100_000
    tracemalloc.start()
    assert sum(map(len, iter_recording(content))) == 2_000_000
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_version_7_3_is_named_with_the_way_that_works():
    start = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
    with pytest.raises(DamagedRecordingError, match="or with save -v7"):
        read_recording(start)
    with pytest.raises(DamagedRecordingError, match="the version and order of MATLAB"):
        read_mat(start)

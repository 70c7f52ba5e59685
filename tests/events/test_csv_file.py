"""Tables of text: names and orders of columns, units, separators, damage."""

import io

import numpy as np
import pytest

from keras_qkformer.events import csv_file
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
    Details,
)
from keras_qkformer.events.csv_file import read_csv, write_csv
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent
EVENTS = make_events([5, 7, 7, 90], [0, 300, 2, 3], [4, 0, 600, 7], [1, 0, 1, 0])
ROWS = EVENTS.tolist()


def table(form, first="", end="\n"):
    lines = [
        form.format(t=t, s=t / 1e6, x=x, y=y, p=int(p), q=2 * p - 1)
        for t, x, y, p in ROWS
    ]
    return (first + end.join(lines) + end).encode()


@pytest.mark.parametrize(
    "content",
    [
        table("{t},{x},{y},{p}", "t,x,y,p\n"),
        table("{x},{y},{p},{t}", "x,y,p,t_us\r\n", "\r\n"),
        table("{t}; {x}; {y}; {q}", '"Time (us)";"x";"y";"Polarity"\n'),
        table("{s:.6f} {x} {y} {p}", "# timestamp[s] x y polarity\n"),
        table("7\t{x}\t{y}\t{t}000\t{p}", "id\tx\ty\tt_ns\tp\n"),
        table("{x},{y},{p},{t}.0", "%geometry:400,700\n% x,y,p,t\n"),
        table("{x},{y},{p},{t}", "x,y,p,t\n")[:-1],
        table("{x},{y},{p},{t}", "x,y,p,t\n") + b"\n\r\n",
    ],
)
@pytest.mark.parametrize("block_bytes", [40, 1 << 18])
def test_names_tell_the_columns_and_the_unit(monkeypatch, content, block_bytes):
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", block_bytes)
    np.testing.assert_array_equal(read_recording(content), EVENTS)
    np.testing.assert_array_equal(read_recording(content, name="a.csv"), EVENTS)
    chunks = list(iter_recording(content, chunk_events=1))
    assert [len(chunk) for chunk in chunks] == [1] * 4


@pytest.mark.parametrize("first", ["t,x,y,p\n", "%geometry:400,700\n# t x y p\n", ""])
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_a_byte_order_mark_means_nothing(first, name):
    content = b"\xef\xbb\xbf" + table("{t},{x},{y},{p}", first)
    columns = None if first else "txyp"
    events = read_recording(content, name=name, columns=columns)
    np.testing.assert_array_equal(events, EVENTS)


def test_order_and_unit_can_be_told():
    content = table("{x},{y},{p},{t}", "%geometry:400,700\n")
    details = Details()
    (events,) = iter_recording(content, columns="xypt", details=details)
    np.testing.assert_array_equal(events, EVENTS)
    assert (details.format, details.sensor_size) == ("CSV", (700, 400))
    content = table("{s:.9f} {x} {y} {p}")
    options = {"columns": "txyp", "time_unit": "s"}
    np.testing.assert_array_equal(read_recording(content, **options), EVENTS)
    content = table("{t} 9 {x} {y} {p}")
    np.testing.assert_array_equal(read_csv(content, columns="t-xyp"), EVENTS)
    large = b"9007199254740993,1,2,1\n"  # 2^53 + 1 is no double.
    assert read_csv(large, columns="txyp")["t"][0] == 2**53 + 1


@pytest.mark.parametrize("read", [read_recording, read_csv])
@pytest.mark.parametrize("columns", ["txy", "txypp", "abcd", ""])
def test_unknown_orders_are_errors(read, columns):
    with pytest.raises(ValueError, match="letters t, x, y and p once"):
        read(b"1,2,3,1\n", columns=columns)


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_a_table_without_names_says_how_to_tell_them(name):
    with pytest.raises(DamagedRecordingError, match="'xypt' for Metavision's tables"):
        read_recording(b"1,2,0,5\n3,4,1,6\n", name=name)


def test_other_files_by_that_name_are_named():
    with pytest.raises(DamagedRecordingError, match="looks like a web page"):
        read_recording(b"<!DOCTYPE html>\n", name="a.csv")
    with pytest.raises(DamagedRecordingError, match="a first line that names the col"):
        read_recording(b"file,label\n1.png,3\n", name="a.csv")
    with pytest.raises(DamagedRecordingError, match="Received: an empty file"):
        read_recording(b"", name="a.csv")


LINES = table("{t},{x},{y},{p}", "t,x,y,p\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"80,1,2,1\n", "expected time 90 or later. Received: 80"),
        (b"4000000000,1,2,1\n", "at most 3600000000 microseconds"),
        (b"99.5,1,2,1\n", "a time in whole microseconds, or the unit of the times as"),
        (b"nan,1,2,1\n", "a time in whole microseconds"),
        (b"99999999999999999999,1,2,1\n", "a time in whole microseconds"),
        (b"99,-1,2,1\n", "from 0 to 65535 as x"),
        (b"99,1,65536,1\n", "from 0 to 65535 as y"),
        (b"99,1.5,2,1\n", "from 0 to 65535 as x"),
        (b"99,1,2,3\n", "from -1 to 1 as p"),
        (b"99,1,2\n", "a line of numbers"),
        (b"99,1,2,on\n", "a line of numbers"),
        (b"99,1,\xff,1\n", "a line of numbers"),
        (b"\n99,1,2,1\n", "a line of numbers"),
        (b"1" * 70_000 + b"\n", None),
    ],
)
@pytest.mark.parametrize("block_bytes", [30, 1 << 18])
def test_damage_has_the_byte_of_its_line(monkeypatch, line, said, block_bytes):
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", block_bytes)
    content = LINES + line + b"100,1,2,1\n"
    with pytest.raises(DamagedRecordingError, match=said) as error:
        read_recording(content)
    assert error.value.offset == len(LINES)
    with pytest.warns(DamagedRecordingWarning):
        events = read_recording(content, strict=False)
    np.testing.assert_array_equal(events, EVENTS)


def test_sensor_that_a_table_states_bounds_its_pixels():
    content = b"%geometry:300,601\n" + table("{x},{y},{p},{t}", "x,y,p,t\n")
    with pytest.raises(DamagedRecordingError, match="sensor of 601x300"):
        read_recording(content)


@pytest.mark.parametrize("sensor_size", [None, (601, 301)])
def test_what_is_written_comes_back(tmp_path, sensor_size):
    file = io.BytesIO()
    for target in (file, tmp_path / "events"):
        write_csv(target, EVENTS, sensor_size=sensor_size)
    details = Details()
    (events,) = iter_recording(tmp_path / "events", details=details)
    np.testing.assert_array_equal(events, EVENTS)
    np.testing.assert_array_equal(read_csv(file.getvalue()), EVENTS)
    assert (details.format, details.sensor_size) == ("CSV", sensor_size)


def test_a_table_without_events_is_empty_and_none_lies_outside_the_sensor():
    file = io.BytesIO()
    write_csv(file, EVENTS[:0])
    assert len(read_csv(file.getvalue())) == 0
    with pytest.raises(ValueError, match="from 0 to 599 on a sensor of 600x301"):
        write_csv(file, EVENTS, sensor_size=(600, 301))


@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t"])
def test_many_blanks_are_seen_through_at_once(blank):
    numbers = [b"1" + blank * (1300 // len(blank))] * 3
    assert csv_file.TABLE.match(b"".join(numbers) + b"x\n") is None
    assert csv_file.TABLE.match(b"".join(numbers) + b"1\n")
    for separator in (b",", b" ;\t", b"\t", b"  ", b", "):
        assert csv_file.TABLE.match(separator.join([b"1"] * 4) + b" \n")
    assert csv_file.TABLE.match(b"1,2,,3") is None

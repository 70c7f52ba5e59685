"""Prophesee's formats: words by hand, a slow decoder, real files, headers."""

import contextlib
import io
import zipfile

import decode_evt
import numpy as np
import pytest
from conftest import shared_file

from keras_qkformer.events import prophesee
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
    Details,
)
from keras_qkformer.events.dat import read_dat, write_dat
from keras_qkformer.events.event_array import EVENT_DTYPE, make_events
from keras_qkformer.events.evt2 import read_evt2, write_evt2
from keras_qkformer.events.evt3 import read_evt3, write_evt3
from keras_qkformer.events.evt21 import read_evt21
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent
RAW = {
    "2.0": (write_evt2, read_evt2, decode_evt.evt2, "<u4"),
    "3.0": (write_evt3, read_evt3, decode_evt.evt3, "<u2"),
}
each = pytest.mark.parametrize("version", RAW)
DECODERS = {**RAW, "2.1": (None, read_evt21, decode_evt.evt21, "<u8")}
each_decoder = pytest.mark.parametrize("version", DECODERS)


def raw(version, words, header=""):
    body = np.array(words, DECODERS[version][3]).tobytes()
    return f"% evt {version}\n{header}% end\n".encode() + body


def written(write, events, **options):
    file = io.BytesIO()
    write(file, events, **options)
    return file.getvalue()


def test_words_of_evt2_by_hand():
    words = [
        0x1_0000000,  # An event before any time: skipped.
        0x8_0000002,  # From 2 * 64 us on.
        0x1 << 28 | 5 << 22 | 600 << 11 | 470,
        0xA_0000001,  # A trigger.
        0x0 << 28 | 63 << 22 | 2047 << 11,
    ]
    details = Details()
    (events,) = iter_recording(raw("2.0", words), details=details)
    assert events.tolist() == [(133, 600, 470, True), (191, 2047, 0, False)]
    assert details.skipped["trigger events"] == 1
    assert details.skipped["events before the first time"] == 1
    assert (details.format, details.sensor_size) == ("EVT 2.0", None)


def test_words_of_evt3_by_hand():
    words = [
        *(0x0005, 0x2001),  # A row and an event before any time: skipped.
        *(0x8002, 0x6003, 0x0007),  # 2 * 4096 + 3 us, row 7.
        *(0x280A, 0x200B),  # ON at column 10, OFF at 11.
        *(0x3864, 0x4801, 0x5081, 0x4001),  # ON from column 100: 12, 8 and 12 columns.
        *(0xA001, 0xE123, 0x7001, 0xF456),  # A trigger, and further information.
        *(0x8002, 0x200C),  # The same high bits change nothing.
        *(0x8003, 0x200D),  # Other high bits clear the low ones.
    ]
    details = Details()
    (events,) = iter_recording(raw("3.0", words), details=details)
    at, after = 2 * 4096 + 3, 3 * 4096
    vector = [100, 111, 112, 119, 120]
    assert events.tolist() == [
        *((at, 10, 7, True), (at, 11, 7, False)),
        *((at, column, 7, True) for column in vector),
        *((at, 12, 7, False), (after, 13, 7, False)),
    ]
    assert details.skipped["trigger events"] == 1
    assert details.skipped["events before the first time or place"] == 1


def test_words_of_evt21_by_hand():
    words = [
        1 << 60 | 0b111,  # Three events before any time: skipped.
        *(8 << 60 | 2 << 32, 10 << 60),  # From 2 * 64 us on, and a trigger.
        1 << 60 | 5 << 54 | 600 << 43 | 470 << 32 | 1 << 31 | 0b101,
        0 << 60 | 63 << 54 | 32 << 43 | 1 << 32 | 0b10,
    ]
    expected = [(133, x, 470, True) for x in (600, 602, 631)] + [(191, 33, 1, False)]
    assert read_recording(raw("2.1", words)).tolist() == expected
    swapped = [(word >> 32 | word << 32) % (1 << 64) for word in words]
    legacy = "% format EVT21;height=720;width=1280;endianness=legacy\n"
    for header in ("", legacy):  # The words tell it, if the header does not.
        details = Details()
        (events,) = iter_recording(raw("2.1", swapped, header), details=details)
        assert events.tolist() == expected
        assert details.skipped["trigger events"] == 1
        assert details.skipped["events before the first time"] == 3
    with pytest.raises(DamagedRecordingError, match="expected a word of EVT 2"):
        read_evt21(raw("2.1", [1 << 60 | 3 << 28], legacy))
    with pytest.raises(DamagedRecordingError, match="little or legacy"):
        read_evt21(raw("2.1", words, "% format EVT21;endianness=big\n"))


def random_words(rng, version, count):
    """Words of known kinds, mostly of events, whose time mostly grows."""
    if version == "2.1":
        upper = random_words(rng, "2.0", count)
        lower = rng.integers(0, 1 << 32, count) & rng.integers(0, 1 << 32, count)
        lower = np.where(upper >> 28 == 8, 0, lower)
        # Room for the columns of a vector.
        upper = np.where(upper >> 28 < 2, upper & ~(1 << 21), upper)
        return upper.astype("u8") << 32 | lower.astype("u8")
    if version == "2.0":
        kinds = rng.choice(
            [0, 1, 8, 10, 14, 15], count, p=[0.4, 0.4, 0.1, *[1 / 30] * 3]
        )
        high = np.cumsum(kinds == 8) * (1 << 24)  # Overflows after 16 of them.
        value = np.where(kinds == 8, high % (1 << 28), rng.integers(0, 1 << 28, count))
        return kinds << 28 | value
    kinds = rng.choice(
        [0, 2, 3, 4, 5, 6, 8, 10, 7, 14, 15],
        count,
        p=[0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, *[0.025] * 4],
    )
    high = np.cumsum(kinds == 8) * 300
    value = np.where(kinds == 8, high % 4096, rng.integers(0, 4096, count))
    value = np.where(kinds == 3, value & 0xBFF, value)  # Room for vectors behind it.
    return kinds << 12 | value


@each_decoder
@pytest.mark.parametrize("seed", range(6))
def test_any_words_are_read_as_a_slow_decoder_reads_them(version, seed):
    rng = np.random.default_rng(seed)
    words = random_words(rng, version, 2000)
    if seed < 3:  # Early words alone, so that the state is unknown for long.
        words = words[: 4 + seed]
    content = raw(version, words)
    _, _, slowly, dtype = DECODERS[version]
    expected = list(slowly(np.array(words, dtype).tobytes()))
    outside = [i for i, event in enumerate(expected) if event[1] > 2047]
    expected = expected[: outside[0] if outside else None]
    options = {"ordered": False, "max_gap_us": None, "strict": not outside}
    with warned_if(outside):
        events = read_recording(content, **options)
    assert events.tolist() == [event[:4] for event in expected]
    assert seed < 3 or len(events) > 1000
    for size in (1, 7, 1000):
        with warned_if(outside):
            chunks = list(iter_recording(content, chunk_events=size, **options))
        assert all(0 < len(chunk) <= size for chunk in chunks)
        joined = np.concatenate([np.empty(0, EVENT_DTYPE), *chunks])
        np.testing.assert_array_equal(joined, events)


def warned_if(condition):
    if condition:
        return pytest.warns(DamagedRecordingWarning, match="pixel of a sensor")
    return contextlib.nullcontext()


@each_decoder
@pytest.mark.parametrize("block_bytes", [8, 24, 56])
def test_the_state_goes_on_from_block_to_block(monkeypatch, version, block_bytes):
    """A block may end behind any word: of a vector, of a time, of a row."""
    words = random_words(np.random.default_rng(9), version, 300)
    content = raw(version, words)
    options = {"ordered": False, "max_gap_us": None, "strict": True}
    read = DECODERS[version][1]
    whole = read(content, **options)
    monkeypatch.setattr(prophesee, "BLOCK_BYTES", block_bytes)
    np.testing.assert_array_equal(read(content, **options), whole)
    assert len(whole) > 100


@each_decoder
def test_unknown_kinds_of_words_are_damage(version):
    known = {0, *range(2, 9), 10, 14, 15} if version == "3.0" else {0, 1, 8, 10, 14, 15}
    size = {"2.0": 28, "2.1": 60, "3.0": 12}[version]
    first = {
        "2.0": [8 << 28, 1 << 28],
        "2.1": [8 << 60, 1 << 60 | 2],
        "3.0": [8 << 12, 0, 2 << 12],
    }[version]
    for kind in range(16):
        words = [*first, kind << size, *first]
        content = raw(version, words)
        if kind in known:
            assert len(read_recording(content)) >= 2
            continue
        with pytest.raises(DamagedRecordingError, match="expected a word of EVT") as e:
            read_recording(content)
        with pytest.warns(DamagedRecordingWarning):
            assert len(read_recording(content, strict=False)) == 1
        word_bytes = np.dtype(DECODERS[version][3]).itemsize
        assert e.value.offset == len(content) - word_bytes * (len(first) + 1)


@each
def test_times_overflow_and_may_be_far_apart(version):
    t = [5, 6, 1 << 12, 1 << 24, (1 << 24) + 4, 9 << 24, (1 << 34) - 1]
    events = make_events(t, *np.zeros((2, 7), int), [1] * 7)
    content = written(RAW[version][0], events)
    back = read_recording(content, max_gap_us=None)
    np.testing.assert_array_equal(back, events)
    with pytest.raises(ValueError, match="t must lie from 0 to 2"):
        written(RAW[version][0], make_events([1 << 34], [0], [0], [1]))


def test_the_clock_of_evt3_overflows_in_the_file():
    words = [0x8FFF, 0x6FFF, 0x0000, 0x2000, 0x8000, 0x2000, 0x8FFF, 0x8001, 0x2000]
    most = 1 << 24
    assert read_evt3(raw("3.0", words))["t"].tolist() == [
        *(most - 1, most, 2 * most + 4096),
    ]


@each
@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("% geometry 300x200\n", (200, 300)),
        ("% format EVT{};height=200;width=300\n", (200, 300)),
        ("% Date 2020\r\n% system_ID 48\n", None),
    ],
)
def test_headers_state_the_size_of_the_sensor(version, header, size):
    content = written(RAW[version][0], make_events([7], [299], [199], [1]))
    body = content[content.index(b"% end\n") + 6 :]
    head = f"% evt {version}\n" + header.format(version[0])
    details = Details()
    chunks = iter_recording(head.encode() + b"% end\n" + body, details=details)
    assert len(next(chunks)) == 1
    assert details.sensor_size == size
    if size:
        smaller = head.replace("300", "299").encode() + b"% end\n" + body
        with pytest.raises(DamagedRecordingError, match="sensor of 200x299"):
            read_recording(smaller)


@pytest.mark.parametrize(
    "header",
    [
        "% geometry 0x200\n",
        "% geometry 2049x200\n",
        "% geometry wide\n",
        "% format EVT2;height=200\n",
        "% format EVT2;height=-1;width=3\n",
    ],
)
def test_impossible_sizes_are_damage(header):
    with pytest.raises(DamagedRecordingError, match=r"size|height and width"):
        read_recording(raw("2.0", [0x80000000], header))


def test_headers_of_other_words_are_refused():
    with pytest.raises(DamagedRecordingError, match=r"header of EVT3\. Received: EVT2"):
        read_evt3(raw("2.0", []))
    with pytest.raises(DamagedRecordingError, match="lines that begin with '% '"):
        read_evt2(b"no header")
    assert len(read_evt2(b"% Date 2014\n" + bytes.fromhex("00000080 00000010"))) == 1


def test_dat_by_hand():
    body = np.array([7, 1 << 28 | 100 << 14 | 200, 9, 5], "<u4").tobytes()
    head = b"% Data file containing CD events.\n% Version 2\n"
    for start in (bytes([0, 8]), bytes([12, 8])):
        events = read_recording(head + start + body)
        assert events.tolist() == [(7, 200, 100, True), (9, 5, 0, False)]
    details = Details()
    sized = head + b"% Height 101\n% Width 201\n" + bytes([12, 8]) + body
    assert sum(map(len, iter_recording(sized, details=details))) == 2
    assert (details.format, details.sensor_size) == ("DAT", (101, 201))
    with pytest.raises(DamagedRecordingError, match=r"version 2\. Received: 1"):
        read_recording(head.replace(b"2", b"1") + bytes([12, 8]) + body)
    for start in (b"", bytes([14, 8]), bytes([12, 9])):
        with pytest.raises(DamagedRecordingError, match="expected the kind of the ev"):
            read_dat(head + start)
    with pytest.raises(
        DamagedRecordingError, match=r"expected a polarity .*: 2\."
    ) as e:
        read_recording(head + bytes([12, 8]) + body + bytes([9, 0, 0, 0, 0, 0, 0, 32]))
    assert e.value.offset == len(head) + 18


def test_time_of_dat_overflows():
    t = np.array([(1 << 32) - 2, 5, 4_000_000_000, 3])
    words = np.stack([t, np.zeros(4)], 1).astype("<u4").tobytes()
    content = b"% Version 2\n" + bytes([12, 8]) + words
    found = read_dat(content, max_gap_us=None)["t"].tolist()
    most = 1 << 32
    assert found == [most - 2, most + 5, most + 4_000_000_000, 2 * most + 3]


@pytest.mark.parametrize("write", [write_evt2, write_evt3, write_dat])
def test_writers_refuse_pixels_outside_the_sensor(write):
    events = make_events([0], [300], [200], [1])
    with pytest.raises(ValueError, match="y must lie from 0 to 199"):
        written(write, events, sensor_size=(200, 301))
    for size in ((201, 301), None):
        details = Details()
        content = written(write, events, sensor_size=size)
        (back,) = iter_recording(content, details=details)
        np.testing.assert_array_equal(back, events)
        assert details.sensor_size == size


def sample(name):
    with zipfile.ZipFile(shared_file("prophesee-samples.zip")) as archive:
        (member,) = (n for n in archive.namelist() if n.endswith(name))
        return archive.read(member)


def test_real_recording_of_evt2_has_the_counted_events():
    events = read_recording(sample("evt2_sample.raw"))
    assert (len(events), events["p"].sum()) == (539_481, 367_855)
    assert (events["t"][0], events["t"][-1]) == (1_317_888, 1_367_888)
    assert (events["x"].min(), events["x"].max()) == (60, 599)
    assert (events["y"].min(), events["y"].max()) == (18, 475)
    assert events["x"].sum(dtype=int) == 171_811_022
    assert events["y"].sum(dtype=int) == 110_162_026
    np.testing.assert_array_equal(read_evt2(written(write_evt2, events)), events)
    np.testing.assert_array_equal(read_evt3(written(write_evt3, events)), events)


def test_real_recording_of_evt3_equals_the_array_of_another_decoder():
    """But for its times, which that decoder moves on whenever the low bits fall.

    It adds 4096 us at each fall, although words of the high bits say that the time has
    not moved on, or have moved it on already: the camera repeats these every 16 us, and
    551 of them make 8.8 ms, where the array's last event comes after 53.9 ms.
    """
    content = sample("evt3_sample.raw")
    array = np.load(io.BytesIO(sample("evt3_sample.npy")))
    events = read_recording(content)
    for name in "xy":
        np.testing.assert_array_equal(events[name], array[name])
    np.testing.assert_array_equal(events["p"], array["p"] == 1)
    words = np.frombuffer(content, "<u2", offset=content.rindex(b"48\n") + 3)
    low = (words[words >> 12 == 6] & 0xFFF).astype(int)
    falls = np.concatenate([[0], np.cumsum(np.diff(low) < 0)])
    moved = (array["t"] - events["t"]) // 4096
    assert (array["t"] == events["t"] + 4096 * moved).all()
    assert (moved[-1], falls[-1]) == (11, 11)
    assert (np.diff(moved) >= 0).all() and moved[0] == 0
    assert events["t"][-1] - events["t"][0] == 8801
    assert np.count_nonzero(words >> 12 == 8) * 16 == 8816

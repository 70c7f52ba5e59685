"""Frames of events by hand and against their definition."""

import hashlib
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import shared_file

from keras_qkformer.events import event_array
from keras_qkformer.events import frames as frames_module
from keras_qkformer.events.aedat2 import read_aedat2
from keras_qkformer.events.event_array import make_events, slice_time, split_windows
from keras_qkformer.events.frames import (
    events_to_frames,
    events_to_frames_by_duration,
    events_to_voxel_grid,
    iter_frames,
)

pytestmark = pytest.mark.backend_independent


def random_events(count, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 10_000, count))
    x, y, p = rng.integers(0, 7, count), rng.integers(0, 5, count), rng.random(count)
    return make_events(t, x, y, p < 0.4)


def by_definition(events, num_frames, split_by):
    """The sentence of the docstring, event by event."""
    frames = np.zeros((num_frames, 5, 7, 2))
    start, end = int(events["t"][0]), int(events["t"][-1])
    for i, event in enumerate(events):
        if split_by == "number":
            frame = i // (len(events) // num_frames)
        else:
            frame = (int(event["t"]) - start) // ((end - start) // num_frames)
        cell = (min(frame, num_frames - 1), event["y"], event["x"], int(event["p"]))
        frames[cell] += 1
    return frames


@pytest.mark.parametrize("split_by", ["number", "time"])
@pytest.mark.parametrize("num_frames", [1, 3, 16])
@pytest.mark.parametrize("count", [16, 100, 1001])
def test_frames_are_those_of_the_definition(split_by, num_frames, count):
    events = random_events(count)
    frames = events_to_frames(events, num_frames, (5, 7), split_by=split_by)
    np.testing.assert_array_equal(frames, by_definition(events, num_frames, split_by))
    assert frames.sum() == count


@pytest.mark.parametrize("split_by", ["number", "time"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_events_than_frames_are_all_counted(split_by, count):
    events = random_events(count)
    frames = events_to_frames(events, 8, (5, 7), split_by=split_by)
    assert frames.shape == (8, 5, 7, 2)
    assert frames.sum() == count


def test_event_outside_the_sensor_is_an_error():
    with pytest.raises(ValueError, match="Received"):
        events_to_frames(make_events([1], [7], [0], [True]), 2, (5, 7))


def test_slices_of_time_are_half_open():
    events = make_events([10, 20, 30], [0, 1, 2], [0, 0, 0], [1, 0, 1])
    assert slice_time(events, 10, 30)["t"].tolist() == [10, 20]


def test_voxel_grid_shares_every_event_among_its_bins():
    grid = events_to_voxel_grid(random_events(200), 5, (5, 7))
    assert grid.shape[0] == 5
    assert grid.sum() == pytest.approx(200, abs=1e-3)


@pytest.mark.parametrize("duration_us", [1, 700, 2499, 2500, 10_000])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_frames_of_a_duration_are_those_that_come_one_at_a_time(duration_us, count):
    events = random_events(count)
    frames = events_to_frames_by_duration(events, duration_us, (5, 7))
    chunks = np.array_split(events, 4)
    one_by_one = [*iter_frames(chunks, duration_us, (5, 7))]
    assert len(frames) == len(one_by_one)
    for frame, expected in zip(frames, one_by_one, strict=True):
        np.testing.assert_array_equal(frame, expected)
    if count:
        t = events["t"] - events["t"][0]
        number = max(1, -(-int(t[-1]) // duration_us))
        expected = np.bincount(np.minimum(t // duration_us, number - 1), None, number)
        np.testing.assert_array_equal(frames.sum((1, 2, 3)), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_count_that_does_not_fit_is_an_error(dtype):
    events = make_events([1] * 300, [0] * 300, [0] * 300, [1] * 300)
    with pytest.raises(OverflowError, match=f"must fit dtype={dtype}. Received: 300"):
        events_to_frames(events, 1, (5, 7), dtype=dtype)


def golden():
    """`(events, split_by, number of frames, SpikingJelly's frames in our order)`."""
    path = Path(__file__).parents[1] / "golden" / "events_small.npz"
    with np.load(path) as arrays:
        for name in arrays.files:
            count, _, rest = name.partition("/")
            split_by, slash, num_frames = rest.partition("/")
            if slash:
                fields = [arrays[f"{count}/{field}"] for field in "txyp"]
                frames = np.moveaxis(arrays[name], 1, -1)
                yield make_events(*fields), split_by, int(num_frames), frames


def test_frames_are_those_of_spikingjelly():
    count = 0
    for events, split_by, num_frames, expected in golden():
        frames = events_to_frames(events, num_frames, (5, 7), split_by=split_by)
        np.testing.assert_array_equal(frames, expected)
        count += 1
    assert count == 18


@pytest.mark.parametrize(
    ("split_by", "digest"),
    [
        ("number", "4c7626ad272566d81d5c6a0a3facd9b67eedd64ce85fd25826cc8eeacf0c9f91"),
        ("time", "3277bea8f32d33b00c944ff3129acd3cf28bc02bb6f82420904454de115725e2"),
    ],
)
def test_frames_of_a_real_recording_are_those_of_spikingjelly(split_by, digest):
    """Hashes by `tests/golden/make_events_small.py RECORDING.aedat`."""
    path = shared_file("dvs128-objects-aedat2.zip")
    with zipfile.ZipFile(path) as archive:
        content = archive.read("DataSet2/Lapiseira.aedat")
    events = read_aedat2(content, orientation="spikingjelly")
    frames = events_to_frames(events, 16, (128, 128), split_by=split_by, dtype="<u2")
    theirs = np.moveaxis(frames, -1, 1)
    assert hashlib.sha256(np.ascontiguousarray(theirs).tobytes()).hexdigest() == digest


def leaping(*times):
    return make_events(times, *np.zeros((3, len(times)), int))


@pytest.mark.parametrize("gap", [3_600_000_000, 46_000_000_000_000, 1 << 62])
@pytest.mark.parametrize("split", [1, 2, 3])
def test_a_leap_of_the_clock_makes_no_frames(gap, split):
    """An error at once, in little memory, and after the frames before the leap."""
    events = leaping(0, 10, 2500, 2500 + gap, 2510 + gap)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(ValueError, match=f"at most 100000 frames.*and {2500 + gap} us"):
        events_to_frames_by_duration(events, 1000, (128, 128))
    found = []
    with pytest.raises(ValueError, match=f"at most 100000 frames.*and {2500 + gap} us"):
        for frame in iter_frames(np.split(events, [split]), 1000, (128, 128)):
            found.append(frame.sum())
    assert found in ([], [2, 0])
    assert time.process_time() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_gap_of_the_longest_length_is_frames_without_events():
    events = leaping(0, 100_000)
    number = 0
    for number, frame in enumerate(iter_frames(events, 1, (1, 1)), 1):
        assert frame.sum() == (number in (1, 100_000))
    assert number == len(events_to_frames_by_duration(events, 1, (1, 1))) == 100_000
    for make in (lambda *a: [*iter_frames(*a)], events_to_frames_by_duration):
        with pytest.raises(ValueError, match="at most 100000 frames"):
            make(leaping(0, 100_001), 1, (1, 1))


@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_frames_without_events_are_bounded_in_all(monkeypatch, chunks):
    """Whatever the gaps, and however the events come."""
    monkeypatch.setattr(frames_module, "MAX_EMPTY_FRAMES_IN_ALL", 9)
    at_limit = leaping(0, 5, 45, 46, 85, 90, 91, 135)
    assert len(events_to_frames_by_duration(at_limit, 10, (1, 1))) == 14
    frames = [*iter_frames(np.array_split(at_limit, chunks), 10, (1, 1))]
    assert [frame.sum() for frame in frames].count(0) == 9
    too_many = leaping(*at_limit["t"], 180)
    message = "at most 9 frames without events. Received: more, of 10 us"
    with pytest.raises(ValueError, match=message):
        events_to_frames_by_duration(too_many, 10, (1, 1))
    found = []
    with pytest.raises(ValueError, match=message):
        for frame in iter_frames(np.array_split(too_many, chunks), 10, (1, 1)):
            found.append(frame.sum())
    assert found.count(0) == 9 and sum(found) == len(at_limit)


@pytest.mark.parametrize(
    "make",
    [
        lambda size, count: events_to_frames(leaping(0, 9), count, size),
        lambda size, count: events_to_voxel_grid(leaping(0, 9), count, size),
        lambda size, count: events_to_frames_by_duration(
            leaping(*range(0, 10 * count, 10)), 10, size
        ),
    ],
)
@pytest.mark.parametrize(
    ("size", "count", "rule"),
    [
        ((99999, 99999), 16, "frames of 99999x99999 pixels"),
        ((1 << 14, 1 << 14), 4, "[34] frames of 16384x16384 pixels"),
        ((0, 5), 4, r"sensor_size \(height\) must be a whole number above 0.*=0"),
        ((5, 2.5), 4, r"sensor_size \(width\) must be a whole number above 0.*=2.5"),
    ],
)
def test_frames_are_bounded_before_memory_is_taken(make, size, count, rule):
    with pytest.raises(ValueError, match=rule):
        make(size, count)


def test_frames_one_at_a_time_are_bounded_each_and_as_an_array(monkeypatch):
    with pytest.raises(ValueError, match="1 frames of 99999x99999 pixels"):
        next(iter_frames(leaping(0, 9), 10, (99999, 99999)))
    monkeypatch.setattr(event_array, "MAX_FRAME_VALUES", 2 * 35 * 3)
    events = leaping(*range(0, 41, 10))
    assert len([*iter_frames([events], 10, (5, 7))]) == 4
    for given in (events, [events]):
        assert len(events_to_frames_by_duration(given, 14, (5, 7))) == 3
        with pytest.raises(ValueError, match="4 frames of 5x7 pixels"):
            events_to_frames_by_duration(given, 10, (5, 7))


def test_windows_are_bounded():
    with pytest.raises(ValueError, match=r"at most 1048576 windows.*for 4600000 win"):
        split_windows(leaping(0, 46_000_000_000_000), 10_000_000)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1 << 63, -1, 2.5])
def test_durations_that_are_no_number_of_microseconds_are_errors(value):
    for make in (
        split_windows,
        lambda e, d: events_to_frames_by_duration(e, d, (1, 1)),
    ):
        with pytest.raises(ValueError, match="duration_us must be a whole number"):
            make(leaping(0, 9), value)
    if value != 2.5 and value != -1:
        with pytest.raises(ValueError, match="start_us and end_us must lie"):
            slice_time(leaping(0, 9), 0, value)

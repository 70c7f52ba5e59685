"""Frames of events by hand and against their definition."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import shared_file

from keras_qkformer.events.aedat2 import read_aedat2
from keras_qkformer.events.event_array import make_events, slice_time
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

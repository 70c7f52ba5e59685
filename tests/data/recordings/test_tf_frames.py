"""Frames in TensorFlow are those of NumPy, on random and on real events."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import shared_file

from keras_qkformer.data.recordings import tf_frames as of_tf
from keras_qkformer.events import event_array
from keras_qkformer.events import frames as events_frames
from keras_qkformer.events.aedat2 import read_aedat2

pytestmark = pytest.mark.backend_independent

SIGNATURE = [
    tf.TensorSpec([None], dtype) for dtype in (tf.int64, tf.uint16, tf.uint16, tf.bool)
]
CASES = [
    ("events_to_frames", {"num_frames": 7}),
    ("events_to_frames", {"num_frames": 7, "split_by": "time"}),
    ("events_to_frames", {"num_frames": 16, "dtype": "uint16"}),
    ("events_to_frames_by_duration", {"duration_us": 900}),
    ("events_to_voxel_grid", {"num_bins": 6}),
    ("events_to_voxel_grid", {"num_bins": 1}),
]
each = pytest.mark.parametrize(("name", "options"), CASES)


def random_events(count, sensor_size=(5, 7), seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(10**15, 10**15 + 10_000, count))
    x, y = (rng.integers(0, size, count) for size in sensor_size[::-1])
    return event_array.make_events(t, x, y, rng.random(count) < 0.4)


def fields(events):
    return [np.ascontiguousarray(events[name]) for name in "txyp"]


@each
def test_frames_are_those_of_numpy(name, options):
    options = {**options, "sensor_size": (5, 7)}
    graph = tf.function(
        lambda *events: getattr(of_tf, name)(*events, **options),
        input_signature=SIGNATURE,
    )
    for count in (0, 1, 2, 5, 16, 17, 1000):
        events = random_events(count, seed=count)
        expected = getattr(events_frames, name)(events, **options)
        for function in (graph, graph.python_function):
            result = function(*fields(events))
            assert result.dtype == expected.dtype
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
            if name != "events_to_voxel_grid":
                np.testing.assert_array_equal(result, expected)


@each
def test_frames_of_a_real_recording_are_those_of_numpy(name, options):
    path = shared_file("dvs128-objects-aedat2.zip")
    with zipfile.ZipFile(path) as archive:
        events = read_aedat2(archive.read("DataSet2/Lapiseira.aedat"))[:50_000]
    options = {**options, "sensor_size": (128, 128)}
    if "duration_us" in options:
        options["duration_us"] = 500_000
    expected = getattr(events_frames, name)(events, **options)
    result = getattr(of_tf, name)(*fields(events), **options)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


def test_frames_have_a_known_shape_in_a_pipeline():
    events = random_events(100)
    data = tf.data.Dataset.from_tensors(tuple(fields(events))).map(
        lambda *e: of_tf.events_to_frames(*e, num_frames=4, sensor_size=(5, 7))
    )
    assert data.element_spec.shape == (4, 5, 7, 2)
    (frames,) = data
    np.testing.assert_array_equal(
        frames, events_frames.events_to_frames(events, 4, (5, 7))
    )


@each
@pytest.mark.parametrize(
    ("changed", "place", "value"), [("x", 3, 7), ("y", 4, 5), ("t", 9, 0)]
)
def test_impossible_event_is_an_error(name, options, changed, place, value):
    if changed == "t" and name == "events_to_frames" and "split_by" not in options:
        pytest.skip("frames of equally many events need no order in time")
    events = random_events(20)
    events[changed][place] = value
    graph = tf.function(
        lambda *e: getattr(of_tf, name)(*e, sensor_size=(5, 7), **options),
        input_signature=SIGNATURE,
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must (lie from 0|be)"):
        graph(*fields(events))


def test_count_that_does_not_fit_is_an_error():
    events = event_array.make_events([1] * 300, [0] * 300, [0] * 300, [1] * 300)
    options = {"num_frames": 1, "sensor_size": (1, 1), "dtype": "uint8"}
    with pytest.raises(tf.errors.InvalidArgumentError, match="must fit dtype=uint8"):
        of_tf.events_to_frames(*fields(events), **options)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("events_to_frames", {"num_frames": 0}),
        ("events_to_frames", {"num_frames": 2, "split_by": "size"}),
        ("events_to_frames_by_duration", {"duration_us": -1}),
        ("events_to_voxel_grid", {"num_bins": 1.5}),
    ],
)
def test_argument_out_of_range_is_an_error(name, option):
    with pytest.raises(ValueError, match=r"must be .*Received: "):
        getattr(of_tf, name)(*fields(random_events(3)), sensor_size=(5, 7), **option)

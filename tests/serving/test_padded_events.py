"""Events inside a graph: the frames of NumPy, and what is refused."""

import numpy as np
import pytest

from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.frames import events_to_frames
from keras_qkformer.serving.check_answers import frames_to_events
from keras_qkformer.serving.padded_events import padded_events_to_frames
from keras_qkformer.serving.wire import pad_events

pytestmark = pytest.mark.backend_independent
SIZE = (6, 9)


def recording(count, seed, size=SIZE):
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, size[1], count), draw.integers(0, size[0], count)
    return make_events(
        np.sort(draw.integers(0, 5000, count)), x, y, draw.random(count) < 0.5
    )


def run(inputs, frames_by="number", size=SIZE):
    frames, reasons = padded_events_to_frames(
        **inputs, num_frames=4, sensor_size=size, split_by=frames_by
    )
    return frames.numpy(), [reason.decode() for reason in reasons.numpy()]


@pytest.mark.parametrize("frames_by", ["number", "time"])
def test_frames_are_those_of_numpy(frames_by):
    recordings = [
        recording(count, seed) for seed, count in enumerate((1, 3, 4, 50, 999))
    ]
    inputs = pad_events(recordings)
    inputs["x"][inputs["t"] == 0] += 0  # Padding stays zero, which is a place.
    frames, reasons = run(inputs, frames_by)
    assert reasons == [""] * 5
    for found, events in zip(frames, recordings, strict=True):
        expected = events_to_frames(events, 4, SIZE, split_by=frames_by)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("frames_by", ["number", "time"])
@pytest.mark.parametrize("span_us", [0, 3, 4, 5, 1000])
@pytest.mark.parametrize("count", [2, 300])
def test_events_of_frames_make_the_same_frames(frames_by, span_us, count):
    """Also of fewer microseconds or events than frames."""
    events = recording(count, 0)
    events["t"] = np.sort(events["t"] % (span_us + 1))
    events["t"][-1] = events["t"][0] + span_us
    frames = events_to_frames(events, 4, SIZE, split_by=frames_by)
    again, reasons = run(pad_events([frames_to_events(frames, frames_by)]), frames_by)
    assert reasons == [""]
    np.testing.assert_array_equal(again[0], frames)


def test_ten_thousand_events_out_of_range_are_refused_alone():
    size = (128, 128)
    good, bad = recording(500, 1, size), recording(10_000, 0, size)
    inputs = pad_events([good, bad, good])
    inputs["x"][1], inputs["y"][1] = -(2**31), 2**31 - 1
    frames, reasons = run(inputs, size=size)
    assert reasons == ["", "with y=2147483647 in event 0, outside 0 to 127", ""]
    assert not frames[1].any()
    np.testing.assert_array_equal(frames[::2], [events_to_frames(good, 4, size)] * 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": (2, 9)}, "with x=9 in event 2, outside 0 to 8"),
        ({"y": (0, -1)}, "with y=-1 in event 0, outside 0 to 5"),
        ({"t": (3, -1)}, "with t=-1 in event 3, before the event in front of it"),
        ({"num_events": 0}, "without events"),
        ({"num_events": 6}, "with num_events below 0 or above its row"),
        ({"num_events": -1}, "with num_events below 0 or above its row"),
    ],
)
def test_what_is_wrong_is_said(change, reason):
    inputs = pad_events([recording(5, 0), recording(5, 1)])
    for name, value in change.items():
        if name == "num_events":
            inputs[name][1] = value
        else:
            inputs[name][1, value[0]] = value[1]
    frames, reasons = run(inputs, "time")
    assert reasons == ["", reason]
    assert frames[0].sum() == 5 and not frames[1].any()


def test_times_of_one_recording_reach_into_no_other():
    far = {"t": np.array([-(2**63), 4 - 2**63, 2**63 - 1])}
    far |= {name: np.zeros(3, int) for name in "xyp"}
    good = recording(5, 0)
    frames, reasons = run(pad_events([good, far, good]), "time")
    late = "with t=9223372036854775807 in event 2, 2^63 or more after the first event"
    assert reasons == ["", late, ""]
    alone = events_to_frames(good, 4, SIZE, split_by="time")
    np.testing.assert_array_equal(frames, [alone, 0 * alone, alone])

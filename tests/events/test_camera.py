"""The simulated camera: by hand, by definition, and what it sees of a moving edge."""

import math

import numpy as np
import pytest

from keras_qkformer.events.camera import (
    move_image,
    saccade_path,
    simulate_events,
)

pytestmark = pytest.mark.backend_independent


def film(*log_intensities):
    """Frames whose log intensity, dark intensity included, is exactly as given."""
    values = np.exp(np.asarray(log_intensities, float)) - 0.1
    return values.reshape(len(values), -1, values[0].size)


def fired(events):
    return [(t, "ON" if p else "OFF") for t, _, _, p in events.tolist()]


def test_a_rise_by_two_and_a_half_thresholds_fires_twice_in_between():
    # L = 0 at 1000 us, 0.5 at 2000 us: 0.2 at 1400 us and 0.4 at 1800 us.
    events = simulate_events(film(0, 0.5), [1000, 2000], 0)
    assert fired(events) == [(1400, "ON"), (1800, "ON")]


def test_a_fall_fires_off_by_its_own_threshold():
    events = simulate_events(film(0, -0.7), [0, 700], 0, threshold_off=0.3)
    assert fired(events) == [(300, "OFF"), (600, "OFF")]


def test_the_level_is_remembered_from_frame_to_frame():
    # Levels: 0.2 at 1333, 0.4 at 2667 us; then L must fall to 0.2 for an OFF.
    events = simulate_events(
        film(0, 0.15, 0.3, 0.45, 0.21, 0.19), 1000 * np.arange(6), 0
    )
    assert fired(events) == [(1333, "ON"), (2667, "ON"), (4500, "OFF")]


def test_what_does_not_move_does_not_fire():
    frames = np.broadcast_to(np.random.default_rng(0).random((5, 6)), (4, 5, 6))
    assert len(simulate_events(frames, range(4), 0)) == 0


def test_more_frames_of_the_same_light_give_the_same_events():
    times = np.linspace(0, 9000, 2), np.linspace(0, 9000, 31)
    few, many = (simulate_events(film(*(t / 4000)), t, 0) for t in times)
    assert fired(few) == fired(many)
    assert len(few) == 11


def by_definition(frames, times_us, on, off):
    """The rule of the docstring, pixel by pixel and event by event."""
    seen = np.log(frames + 0.1)
    found = []
    for y, x in np.ndindex(frames.shape[1:]):
        level = seen[0, y, x]
        for i in range(1, len(frames)):
            start, end = seen[i - 1, y, x], seen[i, y, x]
            while not level - off < end < level + on:
                level += on if end > level else -off
                share = (level - start) / (end - start)
                t = times_us[i - 1] + share * (times_us[i] - times_us[i - 1])
                found.append((round(t), x, y, end > start))
    return sorted(found)


def test_events_of_many_pixels_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    frames, times = rng.random((6, 7, 9)), np.cumsum(rng.integers(1, 10**6, 6))
    events = simulate_events(frames, times, 0, threshold_on=0.31, threshold_off=0.17)
    assert len(events) > 500
    assert sorted(events.tolist()) == by_definition(frames, times, 0.31, 0.17)
    assert (np.diff(events["t"]) >= 0).all()


@pytest.mark.parametrize(("sign", "polarity"), [(1, True), (-1, False)])
def test_thresholds_of_pixels_are_normal(sign, polarity):
    # On a ramp of 1 per second the first event of a pixel comes at its threshold.
    ramp = film(np.zeros(4000), np.full(4000, 0.35 * sign))
    events = simulate_events(ramp, [0, 350_000], 0, threshold_std=0.03)
    assert (events["p"] == polarity).all()
    first = np.unique(events["x"], return_index=True)[1]
    assert len(first) == 4000
    thresholds = events["t"][first] * 1e-6
    # Four standard errors.
    assert thresholds.mean() == pytest.approx(0.2, abs=4 * 0.03 / math.sqrt(4000))
    assert thresholds.std() == pytest.approx(0.03, rel=4 / math.sqrt(8000))


def test_large_mismatch_leaves_thresholds_above_a_tenth():
    ramp = film(np.zeros(4000), np.full(4000, 0.0199))
    assert len(simulate_events(ramp, [0, 100], 0, threshold_std=0.5)) == 0
    ramp = film(np.zeros(4000), np.full(4000, 0.0201))
    assert len(simulate_events(ramp, [0, 100], 0, threshold_std=0.5)) > 1000


def test_a_pixel_rests_after_an_event():
    # Without rest: 200, 400, 600, 800 us.
    events = simulate_events(film(0, 0.9), [0, 900], 0, refractory_us=300)
    assert fired(events) == [(200, "ON"), (600, "ON")]


def test_leak_fires_on_regularly_where_nothing_moves():
    events = simulate_events(
        film(0, 0, 0), [0, 300_000, 1_000_000], 0, leak_rate_hz=4.2
    )
    period = 1e6 / 4.2
    assert fired(events) == [(round(period * i), "ON") for i in (1, 2, 3, 4)]


def test_noise_is_poisson_of_both_polarities_everywhere():
    events = simulate_events(np.ones((2, 10, 10)), [0, 10**7], 0, noise_rate_hz=5.0)
    # 5000 expected; four standard deviations.
    assert abs(len(events) - 5000) < 4 * math.sqrt(5000)
    assert abs(events["p"].sum() - len(events) / 2) < 4 * math.sqrt(5000) / 2
    counts = np.histogram2d(events["y"], events["x"], 10, ((0, 10), (0, 10)))[0]
    chi_squared = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi_squared < 148.2  # 99.9 % quantile, 99 degrees of freedom.
    assert 0 <= events["t"].min() <= events["t"].max() < 10**7


def test_a_seed_or_a_generator_decides_all():
    frames = np.random.default_rng(0).random((4, 6, 6))
    real = {"threshold_std": 0.05, "noise_rate_hz": 100.0}
    once, again, other, generator = (
        simulate_events(frames, [0, 10**5, 2 * 10**5, 10**6], seed, **real)
        for seed in (3, 3, 4, np.random.default_rng(3))
    )
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once, generator)
    assert not np.array_equal(once, other)


def test_a_bright_square_fires_on_in_front_and_off_behind():
    path = np.linspace((8, 4), (8, 16), 25)
    frames = move_image(np.ones((4, 4)), (20, 24), path)
    events = simulate_events(frames, np.linspace(0, 24_000, 25), 0)
    left = 4 + events["t"] / 2000  # Of the square, when the event came.
    ahead = events["x"] + 0.5 - (left + 2)
    assert (events["p"] == (ahead > 0)).all()
    assert np.abs(ahead).max() < 3
    assert set(events["y"].tolist()) == {8, 9, 10, 11}


def test_images_move_by_whole_pixels():
    image = np.random.default_rng(0).random((3, 4))
    frames = move_image(image, (6, 7), [(0, 0), (2, 3), (-1, 5)], background=0.25)
    expected = np.full((3, 6, 7), 0.25)
    expected[0, :3, :4] = image
    expected[1, 2:5, 3:7] = image
    expected[2, :2, 5:] = image[1:, :2]
    np.testing.assert_allclose(frames, expected, atol=1e-12)


def test_images_are_enlarged_by_interpolation_and_reduced_by_area():
    image = np.array([[0.0, 4.0], [8.0, 12.0]])
    (large,) = move_image(image, (4, 4), [(0, 0)], scale=2, background=0)
    np.testing.assert_allclose(large[1:3, 1:3], [[3, 5], [7, 9]])
    (small,) = move_image(image, (1, 1), [(0, 0)], scale=0.5)
    np.testing.assert_allclose(small, [[6]])
    # A third of its size, half a pixel to the right.
    (third,) = move_image(np.ones((6, 6)), (3, 4), [(0, 0.5)], scale=1 / 3)
    np.testing.assert_allclose(third[:2], [[0.5, 1, 0.5, 0]] * 2, atol=1e-12)
    np.testing.assert_allclose(third[2], 0, atol=1e-12)


def test_light_is_neither_lost_nor_made_on_the_way():
    image = np.random.default_rng(0).random((5, 5))
    for scale in (0.4, 1.0, 3.0):
        path = saccade_path((4, 3), 5, 20)
        total = move_image(image, (30, 30), path, scale=scale).sum((1, 2))
        np.testing.assert_allclose(total, image.sum() * scale**2, rtol=1e-9)


def test_saccades_return_at_constant_speed():
    path = saccade_path((10, 20), -6, 31)
    np.testing.assert_allclose(
        path[[0, 10, 20, 30]], [[10, 20], [4, 17], [10, 14], [10, 20]]
    )
    speed = np.hypot(*np.diff(path, axis=0).T).reshape(3, 10)
    np.testing.assert_allclose(speed, speed[:, :1].repeat(10, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold_on": 0}, "Received: threshold_on=0"),
        ({"threshold_off": -1}, "Received: threshold_off=-1"),
        ({"dark_intensity": 0}, "Received: dark_intensity=0"),
        ({"threshold_std": -1}, "Received: threshold_std=-1"),
        ({"leak_rate_hz": -1}, "Received: leak_rate_hz=-1"),
        ({"noise_rate_hz": math.nan}, "Received: rate_hz=nan"),
        ({"refractory_us": -1}, "Received: period_us=-1"),
        ({"frames": np.ones((2, 3))}, r"Received: \(2, 3\) and \(2,\)"),
        ({"frames": np.ones((1, 2, 3)), "times_us": [0]}, "at least two"),
        ({"times_us": [0, 1, 2]}, r"and \(3,\)"),
        ({"times_us": [0, math.inf]}, r"between -2\^53 and 2\^53.*Received: \[ 0. inf"),
        ({"threshold_on": math.inf}, "Received: threshold_on=inf"),
        ({"dark_intensity": math.inf}, "Received: dark_intensity=inf"),
        ({"leak_rate_hz": math.inf}, "Received: leak_rate_hz=inf"),
        (
            {"threshold_on": 1e-12, "frames": np.ones((2, 2, 3)) * [[[1]], [[2]]]},
            r"that give 3.88e\+12",
        ),
        ({"noise_rate_hz": 1e18}, r"at most 67108864\..*that give "),
        ({"noise_rate_hz": math.inf}, "that give inf"),
        ({"times_us": [1, 1]}, r"must rise. Received: \[1. 1.\]"),
        ({"frames": np.array([0, -1.0]).reshape(2, 1, 1)}, "from -1.0 to 0.0"),
        ({"frames": np.array([0, np.nan]).reshape(2, 1, 1)}, "from nan to nan"),
    ],
)
def test_arguments_out_of_range_are_errors(changes, message):
    arguments = {"frames": np.ones((2, 2, 3)), "times_us": [0, 1], "seed": 0}
    with pytest.raises(ValueError, match=message):
        simulate_events(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 2, 3)), (4, 4), [(0, 0)]), r"Received: \(2, 2, 3\)"),
        ((np.ones((2, 2)), (4, 4), (0, 0)), r"and \(2,\)"),
    ],
)
def test_shapes_that_do_not_fit_a_movement_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        move_image(*arguments)
    with pytest.raises(ValueError, match="scale=0"):
        move_image(np.ones((2, 2)), (4, 4), [(0, 0)], scale=0)


def test_renderings_are_bounded():
    image = np.ones((2, 2))
    with pytest.raises(ValueError, match="1 frames of 99999x99999 pixels"):
        move_image(image, (99999, 99999), [(0, 0)])
    with pytest.raises(ValueError, match=r"path from 0.0 to inf"):
        move_image(image, (3, 3), [(0, math.inf)])
    with pytest.raises(ValueError, match="scale=inf"):
        move_image(image, (3, 3), [(0, 0)], scale=math.inf)
    with pytest.raises(ValueError, match="Received: 10000000000 frames"):
        saccade_path((0, 0), 1, 10**10)


def test_refractory_periods_of_any_length_fit():
    frames, times = film(0, 0.5), [1000, 2000]
    for period in (10**6, 1 << 62, math.inf):
        events = simulate_events(frames, times, 0, refractory_us=period)
        assert fired(events) == [(1400, "ON")]

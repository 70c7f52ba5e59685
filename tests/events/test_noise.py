"""Events lost, moved, added and filtered: by hand, by definition, by their chances."""

import math

import numpy as np
import pytest

from keras_qkformer.events import noise as events_noise
from keras_qkformer.events.event_array import make_events, sort_by_time

pytestmark = pytest.mark.backend_independent

SENSOR = (20, 30)


def new_rng(seed=0):
    return np.random.default_rng(seed)


def random_events(count, sensor_size=SENSOR, duration_us=1_000_000, seed=1):
    rng = new_rng(seed)
    y, x = (rng.integers(0, size, count) for size in sensor_size)
    t = 5_000 + rng.integers(0, duration_us, count)
    return sort_by_time(make_events(t, x, y, rng.random(count) < 0.5))


CALLS = {
    "drop_events": lambda events, rng: events_noise.drop_events(events, rng, 0.3),
    "drop_time_span": lambda events, rng: events_noise.drop_time_span(events, rng, 0.3),
    "drop_area": lambda events, rng: events_noise.drop_area(events, rng, 0.3, SENSOR),
    "jitter_time": lambda events, rng: events_noise.jitter_time(events, rng, 900.0),
    "jitter_space": lambda events, rng: events_noise.jitter_space(
        events, rng, 1.5, SENSOR
    ),
    "add_hot_pixels": lambda events, rng: events_noise.add_hot_pixels(
        events, rng, 5, 100.0, SENSOR
    ),
    "filter_refractory": lambda events, rng: events_noise.filter_refractory(
        events, 90_000
    ),
    "filter_background": lambda events, rng: events_noise.filter_background(
        events, 9_000
    ),
}
ANY_ORDER = {"drop_events", "drop_area", "jitter_space"}


@pytest.mark.parametrize("name", CALLS)
def test_results_are_other_ordered_events_and_the_same_again(name):
    events = random_events(3000)
    before = events.copy()
    result = CALLS[name](events, new_rng())
    np.testing.assert_array_equal(events, before)
    np.testing.assert_array_equal(result, CALLS[name](events, new_rng()))
    assert result.dtype == events.dtype
    assert not np.array_equal(result, events)
    assert (np.diff(result["t"]) >= 0).all()
    assert not np.shares_memory(result, events)


@pytest.mark.parametrize("name", CALLS)
def test_no_events_stay_none(name):
    assert len(CALLS[name](random_events(0), new_rng())) == 0


@pytest.mark.parametrize("name", sorted(CALLS.keys() - ANY_ORDER))
def test_time_that_runs_backwards_is_an_error(name):
    with pytest.raises(ValueError, match="backwards in event 1"):
        CALLS[name](random_events(10)[::-1], new_rng())


def test_each_event_is_dropped_with_the_probability():
    events = random_events(20_000)
    kept = events_noise.drop_events(events, new_rng(), 0.3)
    # Four standard deviations of a binomial.
    assert abs(len(kept) - 14_000) < 4 * math.sqrt(20_000 * 0.3 * 0.7)
    assert len(events_noise.drop_events(events, new_rng(), 0)) == 20_000
    assert len(events_noise.drop_events(events, new_rng(), 1)) == 0


def test_a_dropped_span_of_time_is_one_gap_of_its_length():
    events = make_events(np.arange(1000), np.zeros(1000), np.zeros(1000), np.ones(1000))
    starts = []
    for seed in range(200):
        kept = events_noise.drop_time_span(events, new_rng(seed), 0.25)["t"]
        assert len(kept) == 750
        gaps = np.diff(kept, prepend=-1, append=1000)
        assert sorted(gaps)[-2:] == [1, 251]
        starts.append(gaps.argmax())
    assert min(starts) < 20
    assert max(starts) > 730
    assert len(events_noise.drop_time_span(events, new_rng(), 1)) == 0


def test_a_dropped_area_is_one_rectangle_of_its_size():
    rows, columns = np.divmod(np.arange(20 * 30), 30)
    events = make_events(np.arange(600), columns, rows, np.ones(600))
    corners = set()
    for seed in range(300):
        kept = events_noise.drop_area(events, new_rng(seed), 0.25, SENSOR)
        lost = np.setdiff1d(events["t"], kept["t"])
        y, x = rows[lost], columns[lost]
        assert len(lost) == 10 * 15
        assert (np.ptp(y), np.ptp(x)) == (9, 14)
        corners.add((y.min(), x.min()))
    assert {y for y, _ in corners} == set(range(11))
    assert {x for _, x in corners} == set(range(16))


def test_jitter_in_time_is_normal_and_ends_at_the_ends():
    t = np.array([0, *[500_000] * 10_000, 1_000_000])
    events = make_events(t, np.arange(len(t)), np.zeros(len(t)), np.ones(len(t)))
    moved = events_noise.jitter_time(events, new_rng(), 1000.0)
    shift = moved["t"][1:-1] - 500_000
    assert shift.mean() == pytest.approx(0, abs=4 * 1000 / 100)
    assert shift.std() == pytest.approx(1000, rel=4 / math.sqrt(20_000))
    assert sorted(moved["x"]) == sorted(events["x"])
    far = events_noise.jitter_time(events, new_rng(), 1e7)
    assert (far["t"][0], far["t"][-1]) == (0, 1_000_000)


def test_jitter_in_space_is_normal_and_what_leaves_is_lost():
    events = make_events(np.arange(9000), [15] * 9000, [10] * 9000, [1] * 9000)
    moved = events_noise.jitter_space(events, new_rng(), 1.5, SENSOR)
    assert len(moved) == 9000
    for name, middle in (("x", 15), ("y", 10)):
        shift = moved[name].astype(int) - middle
        # Rounding adds a variance of 1/12.
        assert shift.std() == pytest.approx(math.sqrt(1.5**2 + 1 / 12), rel=0.03)
    events["x"] = 0
    moved = events_noise.jitter_space(events, new_rng(), 1.5, SENSOR)
    # Lost: what moves by -1 or less, a normal below -0.5; 1/3 of the deviation.
    lost = 0.5 * (1 - math.erf(1 / 3 / math.sqrt(2)))
    assert 1 - len(moved) / 9000 == pytest.approx(lost, abs=0.02)
    assert moved["x"].min() == 0


def test_hot_pixels_fire_at_their_rate_with_one_polarity_each():
    events = make_events([0, 9_999_999], [0, 0], [0, 0], [1, 1])
    result = events_noise.add_hot_pixels(events, new_rng(), 8, 50.0, SENSOR)
    added = result[1:-1]
    pixels, counts = np.unique(added[["y", "x"]], return_counts=True)
    assert len(pixels) == 8
    # 500 each, four standard deviations of a Poisson count.
    assert np.abs(counts - 500).max() < 4 * math.sqrt(500)
    polarities = [
        set(added["p"][added[["y", "x"]] == pixel].tolist()) for pixel in pixels
    ]
    assert all(len(found) == 1 for found in polarities)
    assert set.union(*polarities) == {True, False}
    assert np.histogram(added["t"], 4, (0, 1e7))[0].min() > 850


def refractory_by_definition(events, period_us):
    last, kept = {}, []
    for i, event in enumerate(events):
        pixel = event["x"], event["y"]
        if pixel not in last or event["t"] - last[pixel] >= period_us:
            last[pixel] = event["t"]
            kept.append(i)
    return events[kept]


def background_by_definition(events, window_us):
    kept = []
    for i, event in enumerate(events):
        before = events[:i]
        step_x = np.abs(before["x"].astype(int) - int(event["x"]))
        step_y = np.abs(before["y"].astype(int) - int(event["y"]))
        near = np.maximum(step_x, step_y) == 1
        if (near & (event["t"] - before["t"] <= window_us)).any():
            kept.append(i)
    return events[kept]


@pytest.mark.parametrize("period_us", [0, 1, 700, 20_000, 10**7])
def test_refractory_filter_is_that_of_the_definition(period_us):
    events = random_events(2000, (3, 4), duration_us=50_000)
    np.testing.assert_array_equal(
        events_noise.filter_refractory(events, period_us),
        refractory_by_definition(events, period_us),
    )


@pytest.mark.parametrize("window_us", [0, 100, 3000, 10**7])
@pytest.mark.parametrize("sensor_size", [(1, 1), (1, 9), (9, 1), (12, 7)])
def test_background_filter_is_that_of_the_definition(window_us, sensor_size):
    events = random_events(600, sensor_size, duration_us=20_000)
    np.testing.assert_array_equal(
        events_noise.filter_background(events, window_us),
        background_by_definition(events, window_us),
    )


def test_background_filter_takes_noise_and_leaves_a_moving_edge():
    t = np.repeat(np.arange(28) * 1000, 20)
    edge = make_events(t, t // 1000, np.tile(np.arange(20), 28), np.ones(560))
    noise = events_noise.poisson_events(new_rng(), np.arange(600), 5.0, 0, 28_000, 30)
    both = sort_by_time(np.concatenate([edge, noise]))
    kept = events_noise.filter_background(both, 2000)
    assert len(noise) > 50
    assert np.isin(edge, kept).sum() > 0.9 * len(edge)
    assert np.isin(noise, kept).sum() < 0.4 * len(noise)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, r: events_noise.drop_events(e, r, 1.5), "probability=1.5"),
        (lambda e, r: events_noise.drop_time_span(e, r, -0.1), "fraction=-0.1"),
        (lambda e, r: events_noise.drop_area(e, r, 2, SENSOR), "fraction=2"),
        (lambda e, r: events_noise.drop_area(e, r, 0.5, (4, 4)), "on a sensor of 4x4"),
        (lambda e, r: events_noise.jitter_time(e, r, -1), "std_us=-1"),
        (lambda e, r: events_noise.jitter_space(e, r, math.nan, SENSOR), "std_px=nan"),
        (lambda e, r: events_noise.add_hot_pixels(e, r, 601, 1, SENSOR), "count=601"),
        (lambda e, r: events_noise.add_hot_pixels(e, r, 1, -1, SENSOR), "rate_hz=-1"),
        (lambda e, r: events_noise.filter_refractory(e, -1), "period_us=-1"),
        (lambda e, r: events_noise.filter_background(e, -1), "window_us=-1"),
    ],
)
def test_arguments_out_of_range_are_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_events(10), new_rng())

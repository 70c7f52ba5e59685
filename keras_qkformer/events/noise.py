"""Drop, move and add events at random, as augmentation, and filter noise.

All functions but `poisson_events` take events ordered by time and return a changed
copy, ordered by time. They raise `ValueError` for an argument out of range and, where
the order matters, for time that runs backwards. Random functions take a
`numpy.random.Generator`; a generator in the same state gives the same events.
"""

import numpy as np

from keras_qkformer.events.event_array import (
    EVENT_DTYPE,
    check_coordinates,
    check_frames,
    check_new_events,
    sort_by_time,
)


def drop_events(events, rng, probability):
    """Drop each event with the same probability.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        rng: `numpy.random.Generator`.
        probability: float in [0, 1].

    Example:
    >>> events = np.zeros(1000, EVENT_DTYPE)
    >>> len(drop_events(events, np.random.default_rng(0), 0.25))
    769
    """
    _check_fraction("probability", probability)
    return events[rng.random(len(events)) >= probability]


def drop_time_span(events, rng, fraction):
    """Drop all events of one span of time, at a random time.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        rng: `numpy.random.Generator`.
        fraction: float in [0, 1]. Length of the span, as a fraction of the recording's
            duration.
    """
    _check_fraction("fraction", fraction)
    _check_order(events)
    if not len(events):
        return events.copy()
    t = events["t"]
    duration = int(t[-1]) - int(t[0]) + 1
    length = fraction * duration
    start = t[0] + rng.random() * (duration - length)
    return events[(t < start) | (t >= start + length)]


def drop_area(events, rng, fraction, sensor_size):
    """Drop all events of one rectangle, of the sensor's proportions, at a random place.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        rng: `numpy.random.Generator`.
        fraction: float in [0, 1]. Area of the rectangle, as a fraction of the sensor's;
            its sides are rounded to whole pixels.
        sensor_size: (height, width) in pixels.
    """
    _check_fraction("fraction", fraction)
    check_coordinates(events, sensor_size)
    inside = np.ones(len(events), bool)
    for name, size in zip("yx", sensor_size, strict=True):
        side = round(size * fraction**0.5)
        first = rng.integers(size - side, endpoint=True)
        inside &= (events[name] >= first) & (events[name] < first + side)
    return events[~inside]


def jitter_time(events, rng, std_us):
    """Shift every event in time by a normally distributed amount.

    Shifts are rounded to microseconds. Times are clipped to those of the first and the
    last event of the recording.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        rng: `numpy.random.Generator`.
        std_us: float >= 0. Standard deviation in microseconds.
    """
    _check_not_negative("std_us", std_us)
    _check_order(events)
    if not len(events):
        return events.copy()
    moved = events.copy()
    t = events["t"]
    shift = np.rint(rng.normal(0, std_us, len(t))).astype(np.int64)
    moved["t"] = np.clip(t + shift, t[0], t[-1])
    return sort_by_time(moved)


def jitter_space(events, rng, std_px, sensor_size):
    """Shift every event on the sensor by normally distributed amounts.

    Shifts are rounded to pixels. Events that leave the sensor are dropped.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        rng: `numpy.random.Generator`.
        std_px: float >= 0. Standard deviation in pixels, of rows and of columns.
        sensor_size: (height, width) in pixels.
    """
    _check_not_negative("std_px", std_px)
    check_coordinates(events, sensor_size)
    moved = events.copy()
    kept = np.ones(len(events), bool)
    for name, size in zip("yx", sensor_size, strict=True):
        shift = np.rint(rng.normal(0, std_px, len(events))).astype(np.int64)
        value = events[name] + shift
        kept &= (value >= 0) & (value < size)
        moved[name] = np.clip(value, 0, size - 1)
    return moved[kept]


def add_hot_pixels(events, rng, count, rate_hz, sensor_size):
    """Make some random pixels fire throughout the recording, whatever they see.

    Each hot pixel fires with one random polarity, as a Poisson process, from the first
    to the last event of the recording.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        rng: `numpy.random.Generator`.
        count: int. Number of hot pixels, from 0 to the number of pixels of the sensor.
        rate_hz: float >= 0. Events per second of each hot pixel.
        sensor_size: (height, width) in pixels.

    Raises:
        ValueError: if an argument is out of range, or time runs backwards.
    """
    check_frames(1, sensor_size)
    height, width = sensor_size
    if count not in range(height * width + 1):
        raise ValueError(
            f"count must be a whole number from 0 to {height * width}, the pixels of "
            f"the sensor. Received: count={count}"
        )
    _check_order(events)
    pixels = rng.choice(height * width, count, replace=False)
    polarity = rng.random(count) < 0.5
    if not len(events):
        return events.copy()
    noise = poisson_events(
        rng, pixels, rate_hz, int(events["t"][0]), int(events["t"][-1]) + 1, width
    )
    by_pixel = np.zeros(height * width, bool)
    by_pixel[pixels] = polarity
    noise["p"] = by_pixel[noise["y"] * np.intp(width) + noise["x"]]
    return sort_by_time(np.concatenate([events, noise]))


def poisson_events(rng, pixels, rate_hz, start_us, end_us, width):
    """Draw events of pixels that fire as Poisson processes, with both polarities.

    Args:
        rng: `numpy.random.Generator`.
        pixels: int array `(pixels,)`. `row * width + column` of each.
        rate_hz: float >= 0. Events per second of each pixel.
        start_us: int. Start in microseconds.
        end_us: int. Exclusive end in microseconds.
        width: int. Columns of the sensor.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, ordered by time.

    Raises:
        ValueError: if `rate_hz` is negative or more than `MAX_NEW_EVENTS` are expected.
    """
    _check_not_negative("rate_hz", rate_hz)
    expected = rate_hz * (end_us - start_us) * 1e-6 * len(pixels)
    check_new_events(expected)
    number = rng.poisson(expected)
    noise = np.empty(number, EVENT_DTYPE)
    if number:
        noise["t"] = np.sort(rng.integers(start_us, end_us, number))
        noise["y"], noise["x"] = np.divmod(rng.choice(pixels, number), width)
        noise["p"] = rng.random(number) < 0.5
    return noise


def filter_refractory(events, period_us):
    """Drop events that come too soon after the last kept event of their pixel.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        period_us: int >= 0. Shortest time between two kept events of a pixel, in
            microseconds.

    Example:
    >>> events = np.zeros(4, EVENT_DTYPE)
    >>> events["t"] = [0, 60, 100, 170]
    >>> filter_refractory(events, 100)["t"].tolist()
    [0, 100]
    """
    _check_not_negative("period_us", period_us)
    _check_order(events)
    if not len(events):
        return events.copy()
    # Put the times of all pixels on one line, pixel after pixel, with gaps of more than
    # a period between pixels.
    order = np.argsort(_pixels(events), kind="stable")
    pixels, t = _pixels(events)[order], events["t"][order].astype(np.int64)
    block = np.cumsum(np.diff(pixels, prepend=pixels[0]) != 0)
    t = t - t.min()
    # A longer period does the same, and might not fit 64 bits.
    period_us = min(period_us, int(t.max()) + 1)
    line = block * (int(t.max()) + int(period_us) + 1) + t
    # An event at least a period after its predecessor is kept in any case.
    kept = np.diff(line, prepend=line[0] - period_us) >= period_us
    last = np.flatnonzero(kept)
    while len(last):  # After each event just kept, keep the next one a period later.
        last = np.searchsorted(line, line[last] + period_us)
        last = last[last < len(line)]
        last = last[~kept[last]]
        kept[last] = True
    return events[np.sort(order[kept])]


def filter_background(events, window_us):
    """Keep events that a neighbour supports: the background-activity filter.

    An event is kept if one of the 8 pixels around it had an event, of any polarity, at
    most `window_us` before and earlier in the array. Events of moving edges have
    neighbours like that, noise seldom has. The first event of a group is dropped, too.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        window_us: int >= 0. Longest time since the neighbour's event, in microseconds.

    Example:
    >>> events = np.zeros(3, EVENT_DTYPE)
    >>> events["t"], events["x"] = [0, 10, 500], [3, 4, 4]
    >>> filter_background(events, 100)["t"].tolist()
    [10]

    Reference:
        Delbruck, "Frame-free dynamic digital vision", 2008.
    """
    _check_not_negative("window_us", window_us)
    _check_order(events)
    count = len(events)
    if not count:
        return events.copy()
    y, x = events["y"].astype(np.int64), events["x"].astype(np.int64)
    width = int(x.max()) + 2  # An empty column keeps neighbours from wrapping around.
    # Sorted by pixel, then by index in the array, to search for the latest event of a
    # neighbour before each event.
    line = np.sort((y * width + x) * count + np.arange(count))
    pixel, index = np.divmod(line, count)
    t = events["t"][index]
    kept = np.zeros(count, bool)
    for step in (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1):
        before = np.searchsorted(line, line + step * count) - 1
        found = pixel[before] == pixel + step
        kept |= found & (t - t[before] <= window_us)
    return events[np.sort(index[kept])]


def _pixels(events):
    return events["y"].astype(np.int64) << 16 | events["x"]


def _check_fraction(name, value):
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1]. Received: {name}={value}")


def _check_not_negative(name, value):
    if not value >= 0:
        raise ValueError(f"{name} must not be negative. Received: {name}={value}")


def _check_order(events):
    back = events["t"][1:] < events["t"][:-1]
    if back.any():
        raise ValueError(
            "Events must be ordered by time, see sort_by_time. Received: time that "
            f"runs backwards in event {int(back.argmax()) + 1}"
        )

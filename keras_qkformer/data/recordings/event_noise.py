"""Augmentation of the events of a recording, before frames are made from them."""

import numpy as np

from keras_qkformer.events import noise
from keras_qkformer.events.event_array import sort_by_time


def change_events(events, rng, settings, sensor_size):
    """Drop, move and add events, in this order, as the settings say.

    Drops single events, one span of time and one area; moves events in time and on the
    sensor; adds hot pixels and background noise. Last, with probability 1/2, a
    background-activity filter removes noise, and some events with it.

    Args:
        events: array `(events,)` with fields t, x, y, p, in any order.
        rng: `numpy.random.Generator`.
        settings: `EventAugmentation`.
        sensor_size: (height, width) in pixels.

    Returns:
        Array `(events,)`, ordered by time.

    Raises:
        ValueError: if an event lies outside the sensor, or there are more hot pixels
            than pixels.

    Example:
    >>> from keras_qkformer.data.settings import EventAugmentation
    >>> from keras_qkformer.events import EVENT_DTYPE
    >>> settings = EventAugmentation(flip="none", drop_events=0.25)
    >>> rng = np.random.default_rng(0)
    >>> len(change_events(np.zeros(1000, EVENT_DTYPE), rng, settings, (4, 4)))
    769
    """
    height, width = sensor_size
    events = sort_by_time(events)
    if settings.drop_events:
        events = noise.drop_events(events, rng, settings.drop_events)
    if settings.drop_time:
        events = noise.drop_time_span(events, rng, settings.drop_time)
    if settings.drop_area:
        events = noise.drop_area(events, rng, settings.drop_area, sensor_size)
    if settings.jitter_us:
        events = noise.jitter_time(events, rng, settings.jitter_us)
    if settings.jitter_pixels:
        events = noise.jitter_space(events, rng, settings.jitter_pixels, sensor_size)
    if settings.hot_pixels:
        hot = settings.hot_pixels, settings.hot_pixel_hz
        events = noise.add_hot_pixels(events, rng, *hot, sensor_size)
    if settings.noise_hz and len(events):
        start, end = int(events["t"][0]), int(events["t"][-1]) + 1
        pixels = np.arange(height * width)
        added = noise.poisson_events(rng, pixels, settings.noise_hz, start, end, width)
        events = sort_by_time(np.concatenate([events, added]))
    if settings.filter_us is not None and rng.random() < 0.5:
        events = noise.filter_background(events, settings.filter_us)
    return events

"""A simulated event camera: turns a moving image into the events of every pixel.

With it, any still images make a labelled set of recordings, without a download and the
same every time:

    path = saccade_path((3, 3), 8, 60)
    frames = move_image(image, (34, 34), path)
    times_us = np.linspace(0, 300_000, 60)
    events = simulate_events(frames, times_us, seed=0)

Reference:
    Rebecq et al., "ESIM: an Open Event Camera Simulator", CoRL 2018, for events between
    frames; [Hu et al., 2021](https://arxiv.org/abs/2006.07722), v2e, for mismatch of
    thresholds, leak and noise; [Orchard et al.,
    2015](https://doi.org/10.3389/fnins.2015.00437) for saccades. The code is our own.
"""

import math

import numpy as np

from keras_qkformer.events.event_array import (
    EVENT_DTYPE,
    check_frames,
    check_new_events,
    sort_by_time,
)
from keras_qkformer.events.noise import filter_refractory, poisson_events


def simulate_events(
    frames,
    times_us,
    seed,
    *,
    threshold_on=0.2,
    threshold_off=0.2,
    threshold_std=0.0,
    dark_intensity=0.1,
    refractory_us=0,
    leak_rate_hz=0.0,
    noise_rate_hz=0.0,
):
    """Simulate the events of a camera that sees `frames` at `times_us`.

    Each pixel sees `L = log(intensity + dark_intensity)`, interpolated linearly between
    two frames, and remembers a level, which starts at L of the first frame. When L has
    risen by `threshold_on` above the level, or fallen by `threshold_off` below it, the
    pixel fires ON or OFF and the level moves to L. A pixel may fire several times
    between two frames, each time at its own microsecond.

    Differences from the sources: an event within the refractory period of a pixel is
    dropped but still moves the level, as in ESIM, and noise events, too, start a
    refractory period; pixels are as fast in the dark as in the light.

    Args:
        frames: array `(time, height, width)`. Intensity >= 0, linear (not gamma).
        times_us: array `(time,)`, increasing. Time of each frame, in microseconds.
        seed: int or `numpy.random.Generator`.
        threshold_on: float > 0. In natural log intensity: 0.2 is a rise by 22 %.
        threshold_off: float > 0. In natural log intensity.
        threshold_std: float >= 0. Standard deviation of both thresholds over the
            pixels, in log intensity; no threshold is below a tenth of its mean.
        dark_intensity: float > 0. Intensity that a pixel adds to what it sees: the
            smaller, the more events dark places give.
        refractory_us: int >= 0. Time for which a pixel can't fire after an event, in
            microseconds.
        leak_rate_hz: float >= 0. ON events per pixel and second where nothing moves, at
            regular times, as the level leaks.
        noise_rate_hz: float >= 0. Noise events per pixel and second, at random times
            and of both polarities.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, ordered by time.

    Raises:
        ValueError: if an argument is out of range, the shapes do not fit, or more than
            `event_array.MAX_NEW_EVENTS` events would be made.

    Example: from 1 to e, L rises by 1 in 1000 us, by 2.5 thresholds.
    >>> frames = np.array([1, np.e]).reshape(2, 1, 1)
    >>> simulate_events(frames, [0, 1000], 0, threshold_on=0.4,
    ...                 dark_intensity=1e-9)["t"].tolist()
    [400, 800]
    """
    frames = np.asarray(frames, np.float64)
    times_us = np.asarray(times_us, np.float64)
    if frames.ndim != 3 or len(frames) < 2 or times_us.shape != frames.shape[:1]:
        raise ValueError(
            "frames must be (time, height, width) with at least two, times_us (time,). "
            f"Received: {frames.shape} and {times_us.shape}"
        )
    if not (np.diff(times_us) > 0).all():
        raise ValueError(f"times_us must rise. Received: {times_us}")
    if not np.abs(times_us).max() < 1 << 53:
        raise ValueError(
            "times_us must lie between -2^53 and 2^53 (microseconds). "
            f"Received: {times_us[[0, -1]]}"
        )
    if not (frames.min() >= 0 and np.isfinite(frames.max())):
        raise ValueError(
            "frames must be finite and not negative. "
            f"Received: from {frames.min()} to {frames.max()}"
        )
    for name, value in (
        ("threshold_on", threshold_on),
        ("threshold_off", threshold_off),
        ("dark_intensity", dark_intensity),
    ):
        if not 0 < value < math.inf:
            raise ValueError(
                f"{name} must be above 0 and finite. Received: {name}={value}"
            )
    for name, value in (
        ("threshold_std", threshold_std),
        ("leak_rate_hz", leak_rate_hz),
    ):
        if not 0 <= value < math.inf:
            raise ValueError(
                f"{name} must not be negative or infinite. Received: {name}={value}"
            )
    rng = np.random.default_rng(seed)
    steps, height, width = frames.shape
    pixels = height * width

    mean = np.array([[threshold_on], [threshold_off]])
    on, off = np.maximum(rng.normal(mean, threshold_std, (2, pixels)), mean / 10)
    seen = np.log(frames.reshape(steps, pixels) + dark_intensity)
    if leak_rate_hz:
        # A falling level is equivalent to a rising L.
        seen += on * (leak_rate_hz * 1e-6 * (times_us - times_us[0]))[:, None]
    signal = _crossings(seen, times_us, on, off, width)
    start_us, end_us = np.rint(times_us[[0, -1]]).astype(np.int64)
    noise = poisson_events(
        rng, np.arange(pixels), noise_rate_hz, start_us, end_us, width
    )
    events = sort_by_time(np.concatenate([signal, noise]))
    return filter_refractory(events, refractory_us) if refractory_us else events


def _crossings(seen, times_us, on, off, width):
    """Return the events where `seen` `(time, pixels)`, linear in time, crosses a level.

    Events are in order within a pixel and step, not overall.
    """
    level = seen[0].copy()
    levels, counts = np.empty((2, *seen[1:].shape))
    for now, before, count in zip(seen[1:], levels, counts, strict=True):
        before[:] = level
        rise = now - level
        threshold = np.where(rise > 0, on, off)
        np.trunc(rise / threshold, out=count)
        level += count * threshold

    check_new_events(np.abs(counts).sum())
    step, pixel = np.nonzero(counts)
    count = counts[step, pixel]
    number = np.abs(count).astype(np.intp)
    # One row per event from here on; `nth` numbers those of a pixel in a step from 1.
    nth = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + 1
    step, pixel, sign = (
        np.repeat(x, number) for x in (step, pixel, np.sign(count).astype(np.intp))
    )
    crossed = levels[step, pixel] + sign * nth * np.where(
        sign > 0, on[pixel], off[pixel]
    )
    start, end = seen[step, pixel], seen[step + 1, pixel]
    fraction = np.clip((crossed - start) / (end - start), 0, 1)
    first, last = times_us[step], times_us[step + 1]
    events = np.empty(len(step), EVENT_DTYPE)
    events["t"] = np.rint(first + fraction * (last - first))
    events["y"], events["x"] = np.divmod(pixel, width)
    events["p"] = sign > 0
    return events


def move_image(image, sensor_size, path, *, scale=1.0, background=0.0):
    """Render an image that moves over a sensor.

    Enlarged images are interpolated linearly, reduced ones averaged by area. Positions
    between pixels are exact.

    Args:
        image: array `(height, width)` of any numeric type.
        sensor_size: (height, width) in pixels.
        path: array `(time, 2)`. Row and column, on the sensor, of the upper left corner
            of the image, in pixels; the upper left corner of the sensor is (0, 0).
        scale: float > 0. Pixels of the sensor per pixel of the image.
        background: float. Intensity outside the image.

    Returns:
        float64 array `(time, *sensor_size)`.

    Raises:
        ValueError: if a shape is wrong, an argument is out of range, or the frames have
            more values than `check_frames` allows.

    Example: move half a pixel to the right.
    >>> image = np.array([[4.0, 8.0]])
    >>> move_image(image, (1, 4), [(0, 0), (0, 0.5)]).tolist()
    [[[4.0, 8.0, 0.0, 0.0]], [[2.0, 6.0, 4.0, 0.0]]]
    """
    image, path = np.asarray(image, np.float64), np.asarray(path, np.float64)
    if image.ndim != 2 or path.ndim != 2 or path.shape[1] != 2:
        raise ValueError(
            "image must be (height, width) and path (time, 2). "
            f"Received: {image.shape} and {path.shape}"
        )
    if not (0 < scale < math.inf and np.isfinite(path).all()):
        raise ValueError(
            "scale must be above 0 and finite, and path finite. "
            f"Received: scale={scale}, path from {path.min()} to {path.max()}"
        )
    check_frames(len(path), sensor_size)
    rows, columns = (
        _weights(path[:, axis], sensor_size[axis], image.shape[axis], scale)
        for axis in (0, 1)
    )
    return background + rows @ (image - background) @ columns.swapaxes(1, 2)


def _weights(corners, sensor_pixels, image_pixels, scale):
    """Weight of each image pixel in each sensor pixel: (time, sensor, image)."""
    index = np.arange(image_pixels)
    if scale < 1:
        edges = (np.arange(sensor_pixels + 1) - corners[:, None]) / scale
        start, end = edges[:, :-1, None], edges[:, 1:, None]
        return scale * np.maximum(
            np.minimum(end, index + 1) - np.maximum(start, index), 0
        )
    centre = (np.arange(sensor_pixels) + 0.5 - corners[:, None]) / scale - 0.5
    return np.maximum(1 - np.abs(centre[:, :, None] - index), 0)


def saccade_path(corner, amplitude_px, num_frames):
    """Return a path of three straight movements around a triangle, as in N-MNIST.

    The path goes from `corner` down and half to the right, up and half to the right,
    and straight back: every edge of the image crosses the sensor in more than one
    direction.

    Args:
        corner: (row, column) in pixels, at the first frame and at the last.
        amplitude_px: float. Height and width of the triangle in pixels; a negative one
            goes up and to the left.
        num_frames: int. Number of frames, a third for each movement.

    Returns:
        float64 array `(num_frames, 2)`.

    Example:
    >>> saccade_path((5, 5), 4, 4).tolist()
    [[5.0, 5.0], [9.0, 7.0], [5.0, 9.0], [5.0, 5.0]]
    """
    check_frames(num_frames, (1, 1))
    place = np.linspace(0, 3, num_frames)
    row, column = ([0, 1, 0, 0], [0, 0.5, 1, 0])
    steps = np.stack([np.interp(place, range(4), x) for x in (row, column)], 1)
    return np.asarray(corner) + amplitude_px * steps

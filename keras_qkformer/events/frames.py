"""Events of an event camera as one structured array, and frames made of them.

An event says that the brightness of one pixel rose or fell at one moment. Recordings
of any camera become arrays of `EVENT_DTYPE`; models take frames of counts
`(time, height, width, 2)`, channel 0 for falling (OFF) and 1 for rising (ON).
"""

import itertools

import numpy as np

from keras_qkformer.events.event_array import (
    check_coordinates,
    check_positive,
    ordered_time,
)

_BLOCK_EVENTS = 1 << 20  # Bounds the memory of long recordings: 8 MiB of indices.


def events_to_frames(
    events, num_frames, sensor_size, *, split_by="number", dtype="float32"
):
    """A fixed number of frames of counts, as SpikingJelly makes them.

    With N events and T frames, event i at time t[i] goes to frame

        min(i // (N // T), T - 1)                     split_by="number"
        min((t[i] - t[0]) // ((t[N-1] - t[0]) // T), T - 1)    split_by="time"

    so the last frame also takes the remainder. Where that would divide by zero, because
    there are fewer events or microseconds than frames, all go to the last frame.

    Differences from the source: a frame without events is zero, not an `IndexError`;
    the axes are ours; time must not run backwards if it decides.

    Args:
        events: array `(events,)` with fields t, x, y, p.
        num_frames: int > 0.
        sensor_size: (height, width) in pixels.
        split_by: str. `"number"` for frames of equally many events, `"time"` for frames
            of equal length; only that needs events ordered by time.
        dtype: type of the counts.

    Returns:
        Array `(time, height, width, 2)` that sums to the number of events.

    Raises:
        ValueError: if an event lies outside the sensor, time runs backwards, or an
            argument is out of range.
        OverflowError: if a count does not fit `dtype`.

    Example:
    >>> from keras_qkformer.events import make_events
    >>> events = make_events([10, 20, 30], [3, 3, 0], [1, 1, 0], [1, 1, 0])
    >>> frames = events_to_frames(events, 2, (2, 4))
    >>> frames.shape, frames[0].sum().item(), frames[1].sum().item()
    ((2, 2, 4, 2), 1.0, 2.0)
    >>> events_to_frames(events, 1, (2, 4))[0, 1, 3].tolist()  # OFF, ON
    [0.0, 2.0]

    Reference:
        SpikingJelly 0.0.0.0.12, `integrate_events_by_fixed_frames_number`.
    """
    check_positive("num_frames", num_frames)
    count = len(events)
    if split_by == "number":
        starts = (count // num_frames) * np.arange(num_frames)
    elif split_by == "time":
        t = ordered_time(events)
        first, last = (int(t[0]), int(t[-1])) if count else (0, 0)
        step = (last - first) // num_frames
        starts = np.searchsorted(t, first + step * np.arange(num_frames))
    else:
        raise ValueError(
            f"split_by must be 'number' or 'time'. Received: split_by={split_by!r}"
        )
    return _frames_between(events, [*starts, count], sensor_size, dtype)


def events_to_frames_by_duration(events, duration_us, sensor_size, *, dtype="float32"):
    """Frames of a fixed length, as many as the recording fills.

    With d the length, event i goes to frame

        min((t[i] - t[0]) // d, T - 1),    T = max(1, ceil((t[N-1] - t[0]) / d))

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time; or an
            iterable of such arrays, one after the other.
        duration_us: int > 0. Length of a frame in microseconds.
        sensor_size: (height, width) in pixels.
        dtype: type of the counts.

    Returns:
        Array `(time, height, width, 2)`, time 0 if there are no events.

    Raises:
        ValueError: if an event lies outside the sensor, time runs backwards, or
            `duration_us` is not positive.
        OverflowError: if a count does not fit `dtype`.

    Example:
    >>> from keras_qkformer.events import make_events
    >>> events = make_events([10, 20, 30, 45], [0, 1, 2, 3], [0] * 4, [1] * 4)
    >>> frames = events_to_frames_by_duration(events, 20, (1, 4))
    >>> frames[..., 1].tolist()
    [[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]]

    Reference:
        SpikingJelly after 0.0.0.0.14, `integrate_events_by_fixed_duration`.
    """
    check_positive("duration_us", duration_us)
    if not isinstance(events, np.ndarray):
        frames = list(iter_frames(events, duration_us, sensor_size, dtype=dtype))
        return np.stack(frames) if frames else np.zeros((0, *sensor_size, 2), dtype)
    t = ordered_time(events)
    if not len(t):
        return np.zeros((0, *sensor_size, 2), dtype)
    first = int(t[0])
    num_frames = max(1, -((first - int(t[-1])) // duration_us))
    starts = np.searchsorted(t, first + duration_us * np.arange(num_frames))
    return _frames_between(events, [*starts, len(t)], sensor_size, dtype)


def iter_frames(events, duration_us, sensor_size, *, dtype="float32"):
    """The frames of `events_to_frames_by_duration`, one at a time.

    A recording too large for memory, or one that is still going on, comes in as an
    iterable of arrays, such as that of `events.iter_recording`. A frame comes out as
    soon as an event after its end is known.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time; or an
            iterable of such arrays, one after the other.
        duration_us: int > 0. Length of a frame in microseconds.
        sensor_size: (height, width) in pixels.
        dtype: type of the counts.

    Yields:
        Arrays `(height, width, 2)`.

    Raises:
        ValueError: if an event lies outside the sensor, time runs backwards, or
            `duration_us` is not positive.
        OverflowError: if a count does not fit `dtype`.

    Example:
    >>> from keras_qkformer.events import make_events
    >>> first = make_events([10, 20], [0, 1], [0, 0], [1, 1])
    >>> second = make_events([30, 45], [2, 3], [0, 0], [1, 1])
    >>> [frame[..., 1].tolist() for frame in iter_frames([first, second], 20, (1, 4))]
    [[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]]
    """
    check_positive("duration_us", duration_us)
    held, frame_start = None, 0
    for chunk in [events] if isinstance(events, np.ndarray) else events:
        if not len(chunk):
            continue
        if held is None:
            frame_start = int(chunk["t"][0])
            held = chunk
        else:
            held = np.concatenate([held, chunk])
        t = ordered_time(held)
        # A frame ends at the first event after its end; one at its very end may be the
        # last of the recording and belong to it.
        closed = (int(t[-1]) - frame_start - 1) // duration_us
        for _ in range(closed):
            frame_start += duration_us
            end = np.searchsorted(t, frame_start)
            yield _counted(held[:end], sensor_size, dtype)
            held, t = held[end:], t[end:]
    if held is not None:
        yield _counted(held, sensor_size, dtype)


def events_to_voxel_grid(events, num_bins, sensor_size):
    """A grid in which every event is shared by the two moments around it.

    With `s[i] = (num_bins - 1) * (t[i] - t[0]) / (t[N-1] - t[0])`, event i adds
    `max(0, 1 - |b - s[i]|)` to bin b of its pixel.

    Differences from the source: ON and OFF are kept apart, so that a grid has the shape
    of frames; the published grid is `grid[..., 1] - grid[..., 0]`.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        num_bins: int > 0.
        sensor_size: (height, width) in pixels.

    Returns:
        float32 array `(time, height, width, 2)` that sums to the number of events.

    Raises:
        ValueError: if an event lies outside the sensor, time runs backwards, or
            `num_bins` is not positive.

    Example:
    >>> from keras_qkformer.events import make_events
    >>> events = make_events([0, 25, 100], [0, 0, 0], [0, 0, 0], [1, 1, 1])
    >>> events_to_voxel_grid(events, 3, (1, 1))[:, 0, 0, 1].tolist()
    [1.5, 0.5, 1.0]

    Reference:
        [Zhu et al., 2019](https://arxiv.org/abs/1812.08156), section 3.1.
    """
    check_positive("num_bins", num_bins)
    t = ordered_time(events)
    cells = sensor_size[0] * sensor_size[1] * 2
    grid = np.zeros(num_bins * cells)
    span = max(int(t[-1] - t[0]), 1) if len(t) else 1
    for start in range(0, len(events), _BLOCK_EVENTS):
        block = slice(start, start + _BLOCK_EVENTS)
        position = (num_bins - 1) * ((t[block] - t[0]) / span)
        lower = position.astype(np.intp)
        fraction = position - lower
        index = lower * cells + _cells(events[block], sensor_size)
        grid += np.bincount(index, 1.0 - fraction, len(grid))
        # At the last bin the fraction is zero, and there is no bin above.
        above = np.minimum(index + cells, len(grid) - 1)
        grid += np.bincount(above, fraction, len(grid))
    return grid.astype("float32").reshape(num_bins, *sensor_size, 2)


def _frames_between(events, edges, sensor_size, dtype):
    frames = np.zeros((len(edges) - 1, *sensor_size, 2), dtype)
    for frame, (start, end) in zip(frames, itertools.pairwise(edges), strict=True):
        _count_into(frame, events[start:end])
    return frames


def _counted(events, sensor_size, dtype):
    frame = np.zeros((*sensor_size, 2), dtype)
    _count_into(frame, events)
    return frame


def _count_into(frame, events):
    """Add to `frame` (height, width, 2), which is zero, the counts of the events."""
    if not len(events):
        return
    if frame.dtype in ("float32", "float64") and 8 * len(events) < frame.size:
        # Most cells stay zero: touch the others alone. A one of another type is slow.
        one = frame.dtype.type(1)
        np.add.at(frame.reshape(-1), _cells(events, frame.shape[:2]), one)
        return
    counts = 0
    for start in range(0, len(events), _BLOCK_EVENTS):
        cells = _cells(events[start : start + _BLOCK_EVENTS], frame.shape[:2])
        counts = counts + np.bincount(cells, minlength=frame.size)
    if frame.dtype.kind in "ui":
        largest = counts.max()
        if largest > np.iinfo(frame.dtype).max:
            raise OverflowError(
                f"A count of events must fit dtype={frame.dtype}. Received: {largest}"
            )
    frame[...] = counts.reshape(frame.shape)


def _cells(events, sensor_size):
    """Place of each event in a flattened (height, width, 2)."""
    check_coordinates(events, sensor_size)
    cells = events["y"].astype(np.intp)
    cells *= sensor_size[1]
    cells += events["x"]
    cells *= 2
    cells += events["p"] != 0
    return cells

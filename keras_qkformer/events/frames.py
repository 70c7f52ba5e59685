"""Frames made from arrays of events.

An event says that the brightness of one pixel rose or fell at one moment. Models take
frames of counts `(time, height, width, 2)`: channel 0 counts falls (OFF), channel 1
rises (ON).
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from keras_qkformer.events.event_array import (
    check_coordinates,
    check_frames,
    check_positive,
    ordered_time,
)

MAX_EMPTY_FRAMES = 100_000
"""Most durations of a frame from one event to the next: 83 minutes of 50 ms."""
MAX_EMPTY_FRAMES_IN_ALL = 1_000_000
"""Most frames without an event of a whole recording: 14 hours of 50 ms."""
_BLOCK_EVENTS = 1 << 20  # Bounds the memory of long recordings: 8 MiB of indices.


def events_to_frames(
    events: np.ndarray,
    num_frames: int,
    sensor_size: tuple[int, int],
    *,
    split_by: str = "number",
    dtype: npt.DTypeLike = "float32",
) -> np.ndarray:
    """Make a fixed number of frames of counts, as SpikingJelly does.

    With N events and T frames, event i at time t[i] goes to frame

        min(i // (N // T), T - 1)                     split_by="number"
        min((t[i] - t[0]) // ((t[N-1] - t[0]) // T), T - 1)    split_by="time"

    The last frame also takes the remainder. With fewer events (or microseconds) than
    frames, the divisor is zero, and all events go to the last frame.

    Differences from the source: a frame without events is zero, not an `IndexError`;
    channels are the last axis; `split_by="time"` does not accept time that runs
    backwards.

    Args:
        events: array `(events,)` with fields t, x, y, p.
        num_frames: int > 0. Number of frames.
        sensor_size: (height, width) in pixels.
        split_by: str. `"number"` for frames of equally many events; `"time"` for frames
            of equal duration, which needs events ordered by time.
        dtype: str or dtype. Type of the counts.

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
    check_frames(num_frames, sensor_size)
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


def events_to_frames_by_duration(
    events: np.ndarray | Iterable[np.ndarray],
    duration_us: int,
    sensor_size: tuple[int, int],
    *,
    dtype: npt.DTypeLike = "float32",
) -> np.ndarray:
    """Make frames of a fixed duration, as many as the recording fills.

    With d the duration, event i goes to frame

        min((t[i] - t[0]) // d, T - 1),    T = max(1, ceil((t[N-1] - t[0]) / d))

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time; or an
            iterable of such arrays, one after the other.
        duration_us: int > 0. Duration of a frame in microseconds.
        sensor_size: (height, width) in pixels.
        dtype: str or dtype. Type of the counts.

    Returns:
        Array `(time, height, width, 2)`, without frames if there are no events.

    Raises:
        ValueError: if an event lies outside the sensor, time runs backwards or leaps
            over more than `MAX_EMPTY_FRAMES` frames, more than
            `MAX_EMPTY_FRAMES_IN_ALL` have no event, or an argument is out of range.
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
        frames = []
        for frame in iter_frames(events, duration_us, sensor_size, dtype=dtype):
            frames.append(frame)
            check_frames(len(frames), sensor_size)
        return np.stack(frames) if frames else np.zeros((0, *sensor_size, 2), dtype)
    check_frames(1, sensor_size)
    t = ordered_time(events)
    if not len(t):
        return np.zeros((0, *sensor_size, 2), dtype)
    _check_gaps(t, duration_us)
    first = int(t[0])
    num_frames = max(1, -((first - int(t[-1])) // duration_us))
    check_frames(num_frames, sensor_size)
    starts = np.searchsorted(t, first + duration_us * np.arange(num_frames))
    _check_empty(np.count_nonzero(starts[1:] == starts[:-1]), duration_us)
    return _frames_between(events, [*starts, len(t)], sensor_size, dtype)


def iter_frames(
    events: np.ndarray | Iterable[np.ndarray],
    duration_us: int,
    sensor_size: tuple[int, int],
    *,
    dtype: npt.DTypeLike = "float32",
    live: bool = False,
) -> Iterator[np.ndarray]:
    """Yield the frames of `events_to_frames_by_duration`, one at a time.

    Pass a recording too large for memory, or one still in progress, as an iterable of
    arrays, such as `events.iter_recording` returns. A frame is yielded as soon as an
    event after its end is known. Until then only its counts are kept.

    A recording makes at most one frame per event and `MAX_EMPTY_FRAMES_IN_ALL` more.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time; or an
            iterable of such arrays, one after the other.
        duration_us: int > 0. Duration of a frame in microseconds.
        sensor_size: (height, width) in pixels.
        dtype: str or dtype. Type of the counts.
        live: bool. Whether the recording may last for ever, so that any number of its
            frames may have no event.

    Yields:
        Arrays `(height, width, 2)`.

    Raises:
        ValueError: if an event lies outside the sensor, time runs backwards or leaps
            over more than `MAX_EMPTY_FRAMES` frames, more than
            `MAX_EMPTY_FRAMES_IN_ALL` have no event, or an argument is out of range.
        OverflowError: if a count does not fit `dtype`.

    Example:
    >>> from keras_qkformer.events import make_events
    >>> first = make_events([10, 20], [0, 1], [0, 0], [1, 1])
    >>> second = make_events([30, 45], [2, 3], [0, 0], [1, 1])
    >>> [frame[..., 1].tolist() for frame in iter_frames([first, second], 20, (1, 4))]
    [[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]]
    """
    check_positive("duration_us", duration_us)
    check_frames(1, sensor_size)
    inside = at_end = last = end = None
    empty = 0
    for chunk in [events] if isinstance(events, np.ndarray) else events:
        if not len(chunk):
            continue
        if last is None:
            t = ordered_time(chunk)
            end = int(t[0]) + duration_us
        else:
            t = ordered_time(np.concatenate([last, chunk]))
        _check_gaps(t, duration_us)
        t, last = t[-len(chunk) :], chunk[-1:]
        # An event exactly at the end of a frame belongs to it if it is the last of the
        # recording: only an event after the end closes the frame.
        while t[-1] > end:
            before, behind = np.searchsorted(t, end), np.searchsorted(t, end, "right")
            inside = _add(inside, chunk[:before], sensor_size)
            at_end = _add(at_end, chunk[before:behind], sensor_size)
            empty += inside is None
            if not live:
                _check_empty(empty, duration_us)
            yield _as_frame(inside, sensor_size, dtype)
            inside, at_end, end = at_end, None, end + duration_us
            chunk, t = chunk[behind:], t[behind:]
        before = len(t) - np.count_nonzero(t == end)
        inside = _add(inside, chunk[:before], sensor_size)
        at_end = _add(at_end, chunk[before:], sensor_size)
    if last is not None:
        if inside is not None and at_end is not None:
            inside += at_end
        yield _as_frame(at_end if inside is None else inside, sensor_size, dtype)


def events_to_voxel_grid(
    events: np.ndarray, num_bins: int, sensor_size: tuple[int, int]
) -> np.ndarray:
    """Make a voxel grid that splits every event between the two nearest time bins.

    With `s[i] = (num_bins - 1) * (t[i] - t[0]) / (t[N-1] - t[0])`, event i adds
    `max(0, 1 - |b - s[i]|)` to bin b of its pixel.

    Differences from the source: ON and OFF have a channel each, so that a grid has the
    shape of frames; the published grid is `grid[..., 1] - grid[..., 0]`.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        num_bins: int > 0. Number of time bins.
        sensor_size: (height, width) in pixels.

    Returns:
        float32 array `(time, height, width, 2)` that sums to the number of events.

    Raises:
        ValueError: if an event lies outside the sensor, time runs backwards, or an
            argument is out of range.

    Example:
    >>> from keras_qkformer.events import make_events
    >>> events = make_events([0, 25, 100], [0, 0, 0], [0, 0, 0], [1, 1, 1])
    >>> events_to_voxel_grid(events, 3, (1, 1))[:, 0, 0, 1].tolist()
    [1.5, 0.5, 1.0]

    Reference:
        [Zhu et al., 2019](https://arxiv.org/abs/1812.08156), section 3.1.
    """
    check_frames(num_bins, sensor_size)
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
        # There is no bin above the last, where the fraction is zero.
        above = np.minimum(index + cells, len(grid) - 1)
        grid += np.bincount(above, fraction, len(grid))
    return grid.astype("float32").reshape(num_bins, *sensor_size, 2)


def _check_gaps(t, duration_us):
    """Raise `ValueError` where a gap would make too many frames without events."""
    # As uint64, differences of ordered times are right even where they exceed int64.
    far = (t[1:] - t[:-1]).view("u8") > MAX_EMPTY_FRAMES * int(duration_us)
    if far.any():
        index = int(far.argmax())
        raise ValueError(
            f"From one event to the next, at most {MAX_EMPTY_FRAMES} frames may pass. "
            f"Received: frames of {duration_us} us, events at {t[index]} and "
            f"{t[index + 1]} us"
        )


def _check_empty(count, duration_us):
    """Raise `ValueError` for more frames without events than a recording may make."""
    if count > MAX_EMPTY_FRAMES_IN_ALL:
        raise ValueError(
            f"A recording may have at most {MAX_EMPTY_FRAMES_IN_ALL} frames without "
            f"events. Received: more, of {duration_us} us"
        )


def _frames_between(events, edges, sensor_size, dtype):
    frames = np.zeros((len(edges) - 1, *sensor_size, 2), dtype)
    for frame, (start, end) in zip(frames, itertools.pairwise(edges), strict=True):
        _count_into(frame, events[start:end])
    return frames


def _count_into(frame, events):
    """Write the counts of events into `frame`, zeros `(height, width, 2)`."""
    if frame.dtype in ("float32", "float64") and 8 * len(events) < frame.size:
        # Most cells stay zero: touch only the others. `np.add.at` is fast only if the
        # one has the type of the frame.
        one = frame.dtype.type(1)
        np.add.at(frame.reshape(-1), _cells(events, frame.shape[:2]), one)
        return
    frame[...] = _as_frame(
        _add(None, events, frame.shape[:2]), frame.shape[:2], frame.dtype
    )


def _add(counts, events, sensor_size):
    """Add the numbers of events to int64 counts; `None` stands for zeros."""
    if not len(events):
        return counts
    if counts is None:
        counts = np.zeros((*sensor_size, 2), np.int64)
    flat = counts.reshape(-1)
    for start in range(0, len(events), _BLOCK_EVENTS):
        cells = _cells(events[start : start + _BLOCK_EVENTS], sensor_size)
        if 8 * len(cells) < len(flat):
            np.add.at(flat, cells, np.int64(1))
        else:
            flat += np.bincount(cells, minlength=len(flat))
    return counts


def _as_frame(counts, sensor_size, dtype):
    """Return counts as a frame of a type that must hold them."""
    if counts is None:
        return np.zeros((*sensor_size, 2), dtype)
    dtype = np.dtype(dtype)
    if dtype.kind in "ui" and (largest := counts.max()) > np.iinfo(dtype).max:
        raise OverflowError(
            f"A count of events must fit dtype={dtype}. Received: {largest}"
        )
    return counts.astype(dtype)


def _cells(events, sensor_size):
    """Return the index of each event in a flattened `(height, width, 2)`."""
    check_coordinates(events, sensor_size)
    cells = events["y"].astype(np.intp)
    cells *= sensor_size[1]
    cells += events["x"]
    cells *= 2
    cells += events["p"] != 0
    return cells

"""Arrays of events: their type, their order, parts of them, checks."""

import itertools

import numpy as np
import numpy.typing as npt

EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])
"""`t` in microseconds; `x` to the right and `y` down from 0; `p` true for ON."""
MAX_FRAME_VALUES = 1 << 30
"""Most values in frames that are made at once: 4 GiB of float32."""
MAX_NEW_EVENTS = 1 << 26
"""Most events that a simulation makes at once: 0.8 GiB."""
_MAX_WINDOWS = 1 << 20


def make_events(
    t: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike, p: npt.ArrayLike
) -> np.ndarray:
    """Make an array of events from four arrays of the same length.

    Args:
        t: int array. Time in microseconds.
        x: int array. Column, from 0 at the left.
        y: int array. Row, from 0 at the top.
        p: int or bool array. Polarity: nonzero is ON.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        ValueError: if a value does not fit its field.

    Example:
    >>> make_events(t=[10, 25], x=[3, 4], y=[0, 1], p=[1, 0])["x"].tolist()
    [3, 4]
    """
    values = {"t": t, "x": x, "y": y}
    events = np.zeros(len(t), EVENT_DTYPE)
    for name, value in values.items():
        value = np.asarray(value)
        limits = np.iinfo(EVENT_DTYPE[name])
        if len(value) and not limits.min <= value.min() <= value.max() <= limits.max:
            raise ValueError(
                f"{name} must lie from {limits.min} to {limits.max}. "
                f"Received: {name} from {value.min()} to {value.max()}"
            )
        events[name] = value
    events["p"] = np.asarray(p) != 0
    return events


def sort_by_time(events: np.ndarray) -> np.ndarray:
    """Sort events by time; events of the same time keep their order.

    Args:
        events: array `(events,)` with fields t, x, y, p.

    Returns:
        Array like `events`, a copy.

    Example:
    >>> sort_by_time(make_events([25, 10], [3, 4], [0, 0], [1, 1]))["x"].tolist()
    [4, 3]
    """
    return events[np.argsort(events["t"], kind="stable")]


def slice_time(events: np.ndarray, start_us: int, end_us: int) -> np.ndarray:
    """Return the events with `start_us <= t < end_us`.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        start_us: int. Start in microseconds.
        end_us: int. Exclusive end in microseconds.

    Returns:
        Array `(events,)`, a view of `events`.

    Raises:
        ValueError: if time runs backwards, or a time is not below 2^63.

    Example:
    >>> events = make_events([10, 20, 30], [1, 2, 3], [0, 0, 0], [1, 1, 1])
    >>> slice_time(events, 10, 30)["x"].tolist()
    [1, 2]
    """
    span = start_us, end_us
    if not all(-(1 << 63) <= time_us < 1 << 63 for time_us in span):
        raise ValueError(
            "start_us and end_us must lie from -2^63 to 2^63 - 1 (microseconds). "
            f"Received: start_us={start_us}, end_us={end_us}"
        )
    start, end = np.searchsorted(ordered_time(events), span)
    return events[start:end]


def split_windows(events: np.ndarray, duration_us: int) -> list[np.ndarray]:
    """Split events into consecutive windows of fixed duration from the first event on.

    The last, incomplete window is dropped.

    Args:
        events: array `(events,)` with fields t, x, y, p, ordered by time.
        duration_us: int > 0. Duration of a window in microseconds.

    Returns:
        List of arrays of events; some may be empty.

    Raises:
        ValueError: if time runs backwards, `duration_us` is not positive, or there are
            more than 2^20 windows.

    Example:
    >>> events = make_events([10, 15, 20, 34], [1, 2, 3, 4], [0] * 4, [1] * 4)
    >>> [window["x"].tolist() for window in split_windows(events, 10)]
    [[1, 2], [3]]
    """
    check_positive("duration_us", duration_us)
    t = ordered_time(events)
    if not len(t):
        return []
    count = (int(t[-1]) - int(t[0])) // duration_us
    if count > _MAX_WINDOWS:
        raise ValueError(
            f"duration_us must give at most {_MAX_WINDOWS} windows. "
            f"Received: duration_us={duration_us} for {count} windows"
        )
    edges = np.searchsorted(t, t[0] + duration_us * np.arange(count + 1))
    return [events[a:b] for a, b in itertools.pairwise(edges)]


def check_coordinates(events, sensor_size):
    """Raise `ValueError` unless every event lies on the sensor.

    Args:
        events: array `(events,)` with fields x and y.
        sensor_size: (height, width) in pixels.
    """
    for name, size in zip("yx", sensor_size, strict=True):
        values = events[name]
        outside = values >= size
        if values.dtype.kind == "i":
            outside |= values < 0
        if outside.any():
            index = int(outside.argmax())
            raise ValueError(
                f"{name} must lie from 0 to {size - 1} on a sensor of "
                f"{sensor_size[0]}x{sensor_size[1]} pixels (height x width). "
                f"Received: {name}={values[index]} in event {index}"
            )


def ordered_time(events):
    """Return the times of events, checked for order.

    Args:
        events: array `(events,)` with a field t.

    Returns:
        int64 array `(events,)`, in microseconds.

    Raises:
        ValueError: if time runs backwards.
    """
    t = np.ascontiguousarray(events["t"]).astype(np.int64, copy=False)
    back = t[1:] < t[:-1]
    if back.any():
        index = int(back.argmax()) + 1
        raise ValueError(
            "Events must be ordered by time, see sort_by_time. "
            f"Received: t={t[index]} after t={t[index - 1]} in event {index}"
        )
    return t


def check_frames(num_frames, sensor_size):
    """Raise `ValueError` unless frames have at most `MAX_FRAME_VALUES` values.

    Args:
        num_frames: int > 0. Number of frames that are made at once.
        sensor_size: (height, width) in pixels.
    """
    height, width = sensor_size
    for name, value in (("height", height), ("width", width)):
        check_positive(f"sensor_size ({name})", value)
    check_positive("num_frames", num_frames)
    if num_frames * height * width * 2 > MAX_FRAME_VALUES:
        raise ValueError(
            f"Frames made at once must have at most {MAX_FRAME_VALUES} values: their "
            "number times height times width times two polarities. "
            f"Received: {num_frames} frames of {height}x{width} pixels"
        )


def check_new_events(count):
    """Raise `ValueError` unless a number of events is at most `MAX_NEW_EVENTS`.

    Args:
        count: number, perhaps infinite or not a number.
    """
    if not count <= MAX_NEW_EVENTS:
        raise ValueError(
            f"Events made at once must be at most {MAX_NEW_EVENTS}. "
            f"Received: rates, times or thresholds that give {count:.3g}"
        )


def check_positive(name, value):
    """Raise `ValueError` unless a value is a whole number above 0 and below 2^63.

    Args:
        name: str. Name of the argument, for the message.
        value: number.
    """
    if not (0 < value < 1 << 63 and value == int(value)):
        raise ValueError(
            f"{name} must be a whole number above 0. Received: {name}={value}"
        )

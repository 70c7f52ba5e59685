"""Frames and voxel grids of events in TensorFlow, for tf.data and graphs.

The same as the functions of the same names in `events`, with the events as four tensors
`t`, `x`, `y`, `p` of one length, which a graph need not know.
"""

import tensorflow as tf


def events_to_frames(
    t, x, y, p, *, num_frames, sensor_size, split_by="number", dtype="float32"
):
    """A fixed number of frames of counts; see `events.events_to_frames`.

    Differences from there: events outside the sensor, and time that runs backwards if
    it decides, raise `tf.errors.InvalidArgumentError` when the graph runs; a count that
    does not fit `dtype` does, too.

    Args:
        t: int tensor `(events,)`. Time in microseconds.
        x: int tensor `(events,)`. Column.
        y: int tensor `(events,)`. Row.
        p: int or bool tensor `(events,)`. Not zero is ON.
        num_frames: int > 0.
        sensor_size: (height, width) in pixels.
        split_by: str. `"number"` or `"time"`.
        dtype: type of the counts.

    Returns:
        Tensor `(time, height, width, 2)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> events = ([10, 20, 30], [3, 3, 0], [1, 1, 0], [1, 1, 0])
    >>> frames = events_to_frames(*events, num_frames=2, sensor_size=(2, 4))
    >>> frames[0, 1, 3].numpy().tolist(), frames[1, 1, 3].numpy().tolist()
    ([0.0, 1.0], [0.0, 1.0])
    """
    _check_positive("num_frames", num_frames)
    t = tf.cast(t, tf.int64)
    count = tf.size(t, tf.int64)
    if split_by == "number":
        position, step = tf.range(count), count // num_frames
    elif split_by == "time":
        t = _ordered(t)
        position = t - t[:1]  # Broadcasts; empty if there are no events.
        step = tf.reduce_max(tf.pad(position, [[0, 1]])) // num_frames
    else:
        raise ValueError(
            f"split_by must be 'number' or 'time'. Received: split_by={split_by!r}"
        )
    frame = frame_numbers(position, step, num_frames)
    return _count(frame, x, y, p, num_frames, sensor_size, dtype)


def frame_numbers(position, step, num_frames):
    """The frame of each event, from 0.

    Args:
        position: int64 tensor. Number or time of the event, from that of the first.
        step: int64 tensor that goes with it. Length of a frame; where it is 0, all
            events belong to the last one.
        num_frames: int > 0. What is over belongs to the last one, too.

    Returns:
        int64 tensor like `position`.
    """
    frame = tf.where(step > 0, position // tf.maximum(step, 1), num_frames - 1)
    return tf.minimum(frame, num_frames - 1)


def events_to_frames_by_duration(
    t, x, y, p, *, duration_us, sensor_size, dtype="float32"
):
    """Frames of a fixed length; see `events.events_to_frames_by_duration`.

    Args:
        t: int tensor `(events,)`. Time in microseconds, in order.
        x: int tensor `(events,)`. Column.
        y: int tensor `(events,)`. Row.
        p: int or bool tensor `(events,)`. Not zero is ON.
        duration_us: int > 0.
        sensor_size: (height, width) in pixels.
        dtype: type of the counts.

    Returns:
        Tensor `(time, height, width, 2)`; `time`, which a graph does not know, is 0 if
        there are no events.

    Raises:
        ValueError: if `duration_us` is not positive.

    Example:
    >>> events = ([10, 20, 30, 45], [0, 1, 2, 3], [0] * 4, [1] * 4)
    >>> frames = events_to_frames_by_duration(
    ...     *events, duration_us=20, sensor_size=(1, 4)
    ... )
    >>> frames[..., 1].numpy().tolist()
    [[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]]
    """
    _check_positive("duration_us", duration_us)
    t = _ordered(tf.cast(t, tf.int64))
    position = t - t[:1]
    span = tf.reduce_max(tf.pad(position, [[0, 1]]))
    frames = tf.maximum((span + duration_us - 1) // duration_us, 1)
    frames = tf.where(tf.size(t) > 0, frames, 0)
    frame = tf.minimum(position // duration_us, frames - 1)
    return _count(frame, x, y, p, frames, sensor_size, dtype)


def events_to_voxel_grid(t, x, y, p, *, num_bins, sensor_size):
    """A grid that shares events among bins; see `events.events_to_voxel_grid`.

    Args:
        t: int tensor `(events,)`. Time in microseconds, in order.
        x: int tensor `(events,)`. Column.
        y: int tensor `(events,)`. Row.
        p: int or bool tensor `(events,)`. Not zero is ON.
        num_bins: int > 0.
        sensor_size: (height, width) in pixels.

    Returns:
        float32 tensor `(time, height, width, 2)`.

    Raises:
        ValueError: if `num_bins` is not positive.

    Example:
    >>> events = ([0, 25, 100], [0, 0, 0], [0, 0, 0], [1, 1, 1])
    >>> grid = events_to_voxel_grid(*events, num_bins=3, sensor_size=(1, 1))
    >>> grid[:, 0, 0, 1].numpy().tolist()
    [1.5, 0.5, 1.0]
    """
    _check_positive("num_bins", num_bins)
    t = _ordered(tf.cast(t, tf.int64))
    span = tf.maximum(tf.reduce_max(tf.pad(t - t[:1], [[0, 1]])), 1)
    position = tf.cast(num_bins - 1, tf.float64) * ((t - t[:1]) / span)
    lower = tf.cast(position, tf.int64)
    share = position - tf.cast(lower, tf.float64)
    height, width = sensor_size
    cells = height * width * 2
    index = lower * cells + _cells(x, y, p, sensor_size)
    # At the last bin the share is zero, and there is no bin above.
    above = tf.minimum(index + cells, num_bins * cells - 1)
    grid = tf.math.unsorted_segment_sum(
        tf.concat([1.0 - share, share], 0),
        tf.concat([index, above], 0),
        num_bins * cells,
    )
    return tf.reshape(tf.cast(grid, tf.float32), (num_bins, height, width, 2))


def _count(frame, x, y, p, num_frames, sensor_size, dtype):
    height, width = sensor_size
    cells = height * width * 2
    index = tf.cast(frame, tf.int64) * cells + _cells(x, y, p, sensor_size)
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(index), index, tf.cast(num_frames, tf.int64) * cells
    )
    dtype = tf.as_dtype(dtype)
    if dtype.is_integer:
        with tf.control_dependencies(
            [
                tf.debugging.assert_less_equal(
                    counts,
                    tf.constant(min(dtype.max, tf.int64.max), tf.int64),
                    f"A count of events must fit dtype={dtype.name}",
                )
            ]
        ):
            counts = tf.identity(counts)
    known = num_frames if isinstance(num_frames, int) else -1
    return tf.reshape(tf.cast(counts, dtype), (known, height, width, 2))


def _cells(x, y, p, sensor_size):
    """Place of each event in a flattened (height, width, 2)."""
    height, width = sensor_size
    x, y = tf.cast(x, tf.int64), tf.cast(y, tf.int64)
    checks = [
        tf.debugging.assert_equal(
            (values >= 0) & (values < size),
            True,
            f"{name} must lie from 0 to {size - 1} on a sensor of {height}x{width} "
            "pixels (height x width)",
        )
        for name, values, size in (("y", y, height), ("x", x, width))
    ]
    with tf.control_dependencies(checks):
        on = tf.cast(tf.cast(p, tf.bool), tf.int64)
        return (y * width + x) * 2 + on


def _ordered(t):
    check = tf.debugging.assert_non_negative(
        t[1:] - t[:-1], "Events must be ordered by time"
    )
    with tf.control_dependencies([check]):
        return tf.identity(t)


def _check_positive(name, value):
    if not (value == int(value) and value > 0):
        raise ValueError(
            f"{name} must be a whole number above 0. Received: {name}={value}"
        )

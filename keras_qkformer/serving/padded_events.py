"""Events of a batch of recordings, padded to one length, to frames inside a graph."""

import tensorflow as tf


def padded_events_to_frames(
    t, x, y, p, num_events, *, num_frames, sensor_size, split_by
):
    """Frames of counts of every recording; see `events.events_to_frames`.

    Args:
        t: int64 tensor `(batch, events)`. Time in microseconds.
        x: int tensor `(batch, events)`. Column.
        y: int tensor `(batch, events)`. Row.
        p: int tensor `(batch, events)`. Not zero is ON.
        num_events: int tensor `(batch,)`. How many events of each row count; what
            stands behind them is not read.
        num_frames: int > 0.
        sensor_size: (height, width) in pixels.
        split_by: str. `"number"` or `"time"`.

    Returns:
        `(frames, reasons)`: float32 `(batch, time, height, width, 2)`, zero where there
        is a reason; and a string for each recording, empty or why it is none.

    Example:
    >>> t, x, y, p = [[10, 20, 30]], [[3, 3, 0]], [[1, 1, 9]], [[1, 1, 0]]
    >>> arguments = {"num_frames": 1, "sensor_size": (2, 4), "split_by": "number"}
    >>> frames, _ = padded_events_to_frames(t, x, y, p, [2], **arguments)
    >>> frames[0, 0, 1, 3].numpy().tolist()  # OFF, ON
    [0.0, 2.0]
    >>> padded_events_to_frames(t, x, y, p, [3], **arguments)[1].numpy().tolist()
    [b'with y=9 in event 2, outside 0 to 1']
    """
    height, width = sensor_size
    t, x, y, p, count = (
        tf.cast(values, tf.int64) for values in (t, x, y, p, num_events)
    )
    batch, longest = tf.unstack(tf.shape(t, tf.int64))
    number = tf.range(longest)[None]
    is_event = number < count[:, None]
    reasons = tf.fill([batch], "")
    for name, values, size in (("y", y, height), ("x", x, width)):
        outside = is_event & ((values < 0) | (values >= size))
        rule = f", outside 0 to {size - 1}"
        reasons = _with_first(outside, name, values, rule, reasons)
    if split_by == "time":
        before = tf.concat([t[:, :1], t[:, :-1]], 1)
        rule = ", before the event in front of it"
        reasons = _with_first(is_event & (t < before), "t", t, rule, reasons)
    reasons = tf.where(count == 0, "without events", reasons)
    wrong = (count < 0) | (count > longest)
    reasons = tf.where(wrong, "with num_events below 0 or above its row", reasons)
    is_event &= (reasons == "")[:, None]
    if split_by == "number":
        position, span = number, count
    else:
        position = t - t[:, :1]
        span = tf.reduce_max(tf.where(is_event, position, 0), 1)
    # Where a frame would have no length, all events belong to the last one, as does
    # what is left over.
    step = (span // num_frames)[:, None]
    frame = tf.where(step > 0, position // tf.maximum(step, 1), num_frames - 1)
    frame = tf.minimum(frame, num_frames - 1)
    cells = height * width * 2
    index = tf.range(batch)[:, None] * num_frames + frame
    index = index * cells + (y * width + x) * 2 + tf.cast(p != 0, tf.int64)
    index = tf.where(is_event, index, -1)  # Which the sum leaves out.
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(index, tf.float32), index, batch * (num_frames * cells)
    )
    return tf.reshape(counts, (-1, num_frames, height, width, 2)), reasons


def _with_first(wrong, name, values, rule, reasons):
    """The reasons, and for rows without one their first wrong value."""
    # One more column, because a row may be empty.
    wrong, values = (tf.pad(x, [[0, 0], [0, 1]]) for x in (wrong, values))
    first = tf.argmax(tf.cast(wrong, tf.int8), 1)
    value = tf.strings.as_string(tf.gather(values, first, batch_dims=1))
    event = tf.strings.as_string(first)
    text = tf.strings.join([f"with {name}=", value, " in event ", event, rule])
    return tf.where((reasons == "") & tf.reduce_any(wrong, 1), text, reasons)

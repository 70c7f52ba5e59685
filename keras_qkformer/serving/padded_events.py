"""Turns a batch of recordings, padded to one length, into frames inside a graph."""

import tensorflow as tf


def padded_events_to_frames(
    t, x, y, p, num_events, *, num_frames, sensor_size, split_by
):
    """Count the events of each recording in frames, as `events.events_to_frames` does.

    Args:
        t: int64 tensor `(batch, events)`. Time in microseconds.
        x: int tensor `(batch, events)`. Column.
        y: int tensor `(batch, events)`. Row.
        p: int tensor `(batch, events)`. Polarity: 0 is OFF, any other value ON.
        num_events: int tensor `(batch,)`. How many events of each row are valid; the
            padding behind them is ignored.
        num_frames: int > 0.
        sensor_size: (height, width) in pixels.
        split_by: str. `"number"` or `"time"`: whether frames have the same number of
            events or the same duration.

    Returns:
        `(frames, reasons)`. `reasons`, string `(batch,)`, is empty for a good recording
        and else says why it is refused; `frames`, float32
        `(batch, num_frames, height, width, 2)`, is then 0.

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
        # Their difference would be negative: the frame of another recording.
        rule = ", 2^63 or more after the first event"
        reasons = _with_first(is_event & (t - t[:, :1] < 0), "t", t, rule, reasons)
    reasons = tf.where(count == 0, "without events", reasons)
    wrong = (count < 0) | (count > longest)
    reasons = tf.where(wrong, "with num_events below 0 or above its row", reasons)
    is_event &= (reasons == "")[:, None]
    if split_by == "number":
        position, span = number, count
    else:
        position = t - t[:, :1]
        span = tf.reduce_max(tf.where(is_event, position, 0), 1)
    # The last frame also takes the remainder of the division, and all events if a frame
    # would have length 0.
    step = (span // num_frames)[:, None]
    frame = tf.where(step > 0, position // tf.maximum(step, 1), num_frames - 1)
    frame = tf.clip_by_value(frame, 0, num_frames - 1)
    cells = height * width * 2
    index = tf.range(batch)[:, None] * num_frames + frame
    index = index * cells + (y * width + x) * 2 + tf.cast(p != 0, tf.int64)
    index = tf.where(is_event, index, -1)  # The sum skips negative indices.
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(index, tf.float32), index, batch * (num_frames * cells)
    )
    return tf.reshape(counts, (-1, num_frames, height, width, 2)), reasons


def _with_first(wrong, name, values, rule, reasons):
    """Add the first wrong value as the reason of rows that have no reason yet."""
    # Add a column, because a row may be empty.
    wrong, values = (tf.pad(x, [[0, 0], [0, 1]]) for x in (wrong, values))
    first = tf.argmax(tf.cast(wrong, tf.int8), 1)
    value = tf.strings.as_string(tf.gather(values, first, batch_dims=1))
    event = tf.strings.as_string(first)
    text = tf.strings.join([f"with {name}=", value, " in event ", event, rule])
    return tf.where((reasons == "") & tf.reduce_any(wrong, 1), text, reasons)

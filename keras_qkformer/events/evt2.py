"""EVT 2.0, RAW files of Prophesee cameras with 32-bit words.

After a header (see `prophesee`), each word has its kind in the highest 4 bits:

- 0 and 1, an OFF and an ON event: bits 22 to 27 are the lowest 6 bits of its time in
  microseconds, bits 11 to 21 its column from the left, bits 0 to 10 its row from the
  top;
- 8, the higher 28 bits of the time of all events from there on;
- 10, a trigger event, and 14 and 15, further information: skipped.

The time overflows every 4.8 hours; the reader adds 2^34 microseconds for each overflow.
Events before the first word of kind 8 have no time and are skipped.

Damage: a header that states another format, a word of another kind, a pixel outside the
sensor, time that runs backwards or leaps ahead, an incomplete word at the end.
"""

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    check_time,
    first_fault,
    opened,
    read_events,
)
from keras_qkformer.events.event_array import check_coordinates
from keras_qkformer.events.prophesee import (
    LARGEST_SIZE,
    EventTimes,
    decode_words,
    header_of_raw,
    start_raw,
)


def read_evt2(source, *, strict=True, ordered=True, max_gap_us=MAX_GAP_US):
    """Read all events of an EVT 2.0 recording.

    Args:
        source: path, bytes or binary file object.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, with x and y as in the file.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format.

    Example:
    >>> import io
    >>> from keras_qkformer.events import EVENT_DTYPE
    >>> file = io.BytesIO()
    >>> write_evt2(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_evt2(file.getvalue()).tolist()
    [(10, 3, 4, True)]

    Reference:
        Prophesee, Metavision SDK documentation, "EVT 2.0 Format".
    """
    return read_events(decode_evt2, source, strict, ordered, max_gap_us)


def decode_evt2(stream, clock, chunk_events):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    size, _ = start_raw(stream, "EVT2")
    decoder = _Decoder(stream.details.skipped)
    yield from decode_words(stream, clock, chunk_events, "<u4", size, decoder)


class _Decoder:
    """Decodes blocks of words, see `prophesee.decode_words`."""

    def __init__(self, skipped):
        self._skipped = skipped
        self._times = EventTimes(skipped)

    def __call__(self, words):
        t, word, early, unknown = self._times.find(words)
        self._skipped["events before the first time"] += len(early)
        fault = first_fault(
            unknown,
            lambda i: f"expected a word of EVT 2.0. Received: 0x{words[i]:08x}.",
        )
        data = words.take(word)
        return t, data >> 11 & 0x7FF, data & 0x7FF, data >> 28, word, fault


def write_evt2(target, events, *, sensor_size=None):
    """Write events as an EVT 2.0 recording.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p, ordered by time; t from 0 to
            2^34 - 1.
        sensor_size: (height, width) in pixels, at most 2048 each, for the header to
            state. `None` if it should not.

    Raises:
        ValueError: if an event does not fit the format.
    """
    check_coordinates(events, LARGEST_SIZE)
    if sensor_size is not None:
        check_coordinates(events, sensor_size)
    check_time(events, 34)
    t = events["t"].astype("i8")
    high = t >> 6
    changed = np.flatnonzero(np.diff(high, prepend=-1))
    data = (events["p"] != 0).astype("<u4") << 28 | (t & 63).astype("<u4") << 22
    data |= events["x"].astype("<u4") << 11 | events["y"]
    words = np.insert(data, changed, EventTimes.TIME_HIGH << 28 | high[changed])
    with opened(target, "wb") as file:
        file.write(header_of_raw("EVT2", sensor_size))
        file.write(words.astype("<u4").tobytes())

"""EVT 3.0, RAW files of Prophesee cameras with 16-bit words.

After a header (see `prophesee`), each word has its kind in the highest 4 bits and
changes one part of a state, which events take from there on:

- 0, the row, bits 0 to 10, from the top;
- 2, one event: bit 11 is its polarity, bits 0 to 10 are its column from the left;
- 3, polarity and first column of vectors, in the same bits;
- 4 and 5, a vector of 12 and 8 columns: bit i is set for an event in column i of it.
  The next vector begins 12 and 8 columns on;
- 6, bits 0 to 11 of the time in microseconds;
- 8, bits 12 to 23 of the time; if they change, bits 0 to 11 are zero until the next
  word of kind 6;
- 10, a trigger event, and 7, 14 and 15, further information: skipped.

The time overflows every 16.8 seconds; the reader adds 2^24 microseconds for each
overflow. Events before the first time, row and, for vectors, column are skipped.

Damage: a header that states another format, a word of another kind, a pixel outside the
sensor, time that runs backwards or leaps ahead, half a word at the end.
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
    Overflows,
    RunningSums,
    decode_words,
    header_of_raw,
    set_bits,
    start_raw,
)

_ROW, _SINGLE, _BASE, _VECTOR_12, _VECTOR_8 = 0, 2, 3, 4, 5
_TIME_LOW, _TIME_HIGH, _TRIGGER = 6, 8, 10
_LONGEST_STEP = (1 << 11) - 1
_FAR = 1 << 20  # A column beyond every sensor, where hostile vectors may leave us.


def read_evt3(source, *, strict=True, ordered=True, max_gap_us=MAX_GAP_US):
    """Read all events of an EVT 3.0 recording.

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
    >>> write_evt3(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_evt3(file.getvalue()).tolist()
    [(10, 3, 4, True)]

    Reference:
        Prophesee, Metavision SDK documentation, "EVT 3.0 Format".
    """
    return read_events(decode_evt3, source, strict, ordered, max_gap_us)


def decode_evt3(stream, clock, chunk_events):
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
    size, _ = start_raw(stream, "EVT3")
    decoder = _Decoder(stream.details.skipped)
    yield from decode_words(stream, clock, chunk_events, "<u2", size, decoder)


class _Decoder:
    """Decodes blocks of words, see `prophesee.decode_words`.

    What holds at every event is found without a loop, see `_latest`.
    """

    def __init__(self, skipped):
        self._skipped = skipped
        self._overflows = Overflows(12, 12)
        self._high = None  # In microseconds, as the next.
        self._low = 0
        self._row = None
        self._column = None  # Where the next vector begins.
        self._polarity = 0  # Of vectors.

    def __call__(self, words):
        kind = (words >> 12).astype("u1")
        unknown = (kind == 1) | (kind == 9) | ((kind > _TRIGGER) & (kind < 14))
        fault = first_fault(
            unknown,
            lambda i: f"expected a word of EVT 3.0. Received: 0x{words[i]:04x}.",
        )
        self._skipped["trigger events"] += np.count_nonzero(kind == _TRIGGER)
        is_long, is_short = kind == _VECTOR_12, kind == _VECTOR_8
        is_base, is_vector = kind == _BASE, is_long | is_short
        has_vectors = (is_base | is_vector).any()
        if has_vectors:  # Many of them have no event.
            bits = words & np.where(is_long, np.uint16(0xFFF), np.uint16(0xFF))
            is_vector &= bits != 0
        event = np.flatnonzero(is_vector | (kind == _SINGLE))
        times, times_from = self._times(words, kind, event)
        rows, rows_from = self._rows(words, kind, event)
        value = words.take(event)
        x, p = (value & 0x7FF).astype("i4"), value >> 11 & 1
        is_early = event < max(times_from, rows_from)
        each_bits = np.ones(len(event), "u2")  # Of the columns from x on.
        if has_vectors:
            step = 12 * is_long.view("u1") + 8 * is_short.view("u1")
            vector = np.flatnonzero(is_vector.take(event))
            word = event.take(vector)
            x[vector], p[vector], vectors_from = self._vectors(
                words, is_base, step, word
            )
            each_bits[vector] = bits.take(word)
            is_early[vector] |= word < vectors_from
        if is_early.any():
            early = int(np.bitwise_count(each_bits[is_early]).sum())
            self._skipped["events before the first time or place"] += early
            each_bits[is_early] = 0
        each, column = set_bits(each_bits)
        return times[each], x[each] + column, rows[each], p[each], event[each], fault

    def _times(self, words, kind, event):
        """Times of the event words, and the first word with a known time."""
        is_high = kind == _TIME_HIGH
        place = np.flatnonzero(is_high)
        value = (words.take(place) & 0xFFF).astype("i8")
        before = -1 if self._high is None else self._high
        high = np.concatenate([[before], self._overflows.extend(value)])
        known = 0
        if self._high is None:
            known = int(place[0]) if len(place) else len(words)
        # Higher bits that change set the lower ones to zero.
        sets_low = kind == _TIME_LOW
        changed = place[np.diff(high) != 0]
        sets_low[changed] = True
        place = np.flatnonzero(sets_low)
        low = words.take(place) & 0xFFF
        low[kind.take(place) == _TIME_HIGH] = 0
        low = np.concatenate([[self._low], low])
        if len(high) > 1:
            self._high = int(high[-1])
        self._low = int(low[-1])
        return _latest(high, is_high, event) + _latest(low, sets_low, event), known

    def _rows(self, words, kind, event):
        """Rows of the event words, and the first word with a known row."""
        is_row = kind == _ROW
        place = np.flatnonzero(is_row)
        rows = np.concatenate([[self._row or 0], words.take(place) & 0x7FF])
        known = 0
        if self._row is None:
            known = int(place[0]) if len(place) else len(words)
        if len(place):
            self._row = int(rows[-1])
        return _latest(rows, is_row, event), known

    def _vectors(self, words, is_base, step, wanted):
        """Column and polarity of some words of vectors, and the first known.

        Args:
            words: uint16 array `(words,)`.
            is_base: bool array `(words,)`. Where vectors begin anew.
            step: uint8 array `(words,)`. Columns of each vector.
            wanted: int array `(wanted,)`. Indices of words.
        """
        place, moved = np.flatnonzero(is_base), RunningSums(step)
        known = 0
        if self._column is None:
            known = int(place[0]) if len(place) else len(words)
        value = words.take(place)
        start = (value & 0x7FF) - moved.up_to(place)
        start = np.concatenate([[self._column or 0], start])
        polarity = np.concatenate([[self._polarity], value >> 11 & 1])
        if self._column is not None or len(place):
            self._column = min(int(start[-1]) + moved.total, _FAR)
            self._polarity = int(polarity[-1])
        base = RunningSums(is_base).up_to(wanted)
        columns = start.take(base) + moved.up_to(wanted) - step.take(wanted)
        return columns, polarity.take(base), known


def _latest(values, is_set, wanted):
    """Return the value that holds at some of the words.

    Args:
        values: array `(1 + settings,)`: what held before, and what each word sets that
            sets something, in order.
        is_set: bool array `(words,)`. Which words these are.
        wanted: int array `(wanted,)`. Indices of words.

    Returns:
        Array `(wanted,)` of the type of `values`.
    """
    return values.take(np.cumsum(is_set, dtype="i4").take(wanted))


def write_evt3(target, events, *, sensor_size=None):
    """Write events as an EVT 3.0 recording, each with a word of its own.

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
    high = t >> 12
    step = np.diff(high, prepend=0)
    y = events["y"].astype("i8")
    is_new = np.arange(len(events)) == 0
    columns = (
        (_TIME_HIGH, high & 0xFFF, is_new | (step != 0)),
        (_TIME_LOW, t & 0xFFF, is_new | (np.diff(t, prepend=0) != 0)),
        (_ROW, y, is_new | (np.diff(y, prepend=0) != 0)),
        (_SINGLE, (events["p"] != 0) << 11 | events["x"].astype("i8"), ~is_new | True),
    )
    words = np.stack([kind << 12 | value for kind, value, _ in columns], 1)
    is_written = np.stack([written for _, _, written in columns], 1)
    # Only falls by more than half of the high bits' range are overflows: longer steps
    # take words of their own.
    extra = np.maximum(np.abs(step) - 1, 0) // _LONGEST_STEP
    event = np.repeat(np.arange(len(t)), extra)
    number = np.arange(len(event)) - np.repeat(np.cumsum(extra) - extra, extra) + 1
    between = (high - step)[event] + np.sign(step)[event] * number * _LONGEST_STEP
    starts = np.cumsum(is_written.sum(1)) - is_written.sum(1)
    words = np.insert(
        words[is_written], starts[event], _TIME_HIGH << 12 | between & 0xFFF
    )
    with opened(target, "wb") as file:
        file.write(header_of_raw("EVT3", sensor_size))
        file.write(words.astype("<u2").tobytes())

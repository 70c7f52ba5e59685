"""EVT 2.1, RAW files of Prophesee cameras with 64-bit words.

After a header (see `prophesee`), the upper half of each word is one of EVT 2.0 (see
`evt2`), and the lower half says for 32 columns whether each had an event: bit i is set
for an event of this time, row and polarity in column x + i. There is no writer.

The option `endianness` of the header's key `format` tells the order of the halves:
`little`, the lower one first, as GenX320 cameras send it, or `legacy`, the upper one
first, as IMX636 cameras do. If the header does not tell, the first words do.

Damage: a header that states another format, a word of another kind, a pixel outside the
sensor, time that runs backwards or leaps ahead, an incomplete word at the end.
"""

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    first_fault,
    read_events,
)
from keras_qkformer.events.prophesee import (
    BLOCK_BYTES,
    EventTimes,
    decode_words,
    set_bits,
    start_raw,
)
from keras_qkformer.printable import printable

_ORDERS = ("little", "legacy", None)


def read_evt21(source, *, strict=True, ordered=True, max_gap_us=MAX_GAP_US):
    r"""Read all events of an EVT 2.1 recording.

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
    >>> time, event = 2 << 60 << 2 | 5 << 32, 1 << 60 | 7 << 43 | 9 << 32 | 0b101
    >>> words = np.array([time, event], "<u8").tobytes()
    >>> read_evt21(b"% evt 2.1\n% end\n" + words).tolist()
    [(320, 7, 9, True), (320, 9, 9, True)]

    Reference:
        Prophesee, Metavision SDK documentation, "EVT 2.1 Format".
    """
    return read_events(decode_evt21, source, strict, ordered, max_gap_us)


def decode_evt21(stream, clock, chunk_events):
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
    size, options = start_raw(stream, "EVT21")
    order = options.get("endianness")
    if order not in _ORDERS:
        raise DamagedRecordingError(
            0,
            "expected the endianness little or legacy in the header. "
            f"Received: {printable(order, 20)}.",
        )
    decoder = _Decoder(stream.details.skipped, order or _find_order(stream))
    yield from decode_words(stream, clock, chunk_events, "<u8", size, decoder)


class _Decoder:
    """Decodes blocks of words, see `prophesee.decode_words`."""

    def __init__(self, skipped, order):
        self._skipped = skipped
        self._times = EventTimes(skipped)
        self._order = order

    def __call__(self, words):
        first, second = words.astype("u4"), (words >> 32).astype("u4")
        upper, lower = (first, second) if self._order == "legacy" else (second, first)
        t, word, early, unknown = self._times.find(upper)
        count = int(np.bitwise_count(lower.take(early)).sum())
        self._skipped["events before the first time"] += count
        fault = first_fault(
            unknown,
            lambda i: (
                f"expected a word of EVT 2.1. Received: 0x{upper[i]:08x}{lower[i]:08x}."
            ),
        )
        each, column = set_bits(lower.take(word))
        t, word = t[each], word[each]
        data = upper.take(word)
        x = (data >> 11 & 0x7FF) + column
        return t, x, data & 0x7FF, data >> 28, word, fault


def _find_order(stream):
    """The order of the halves that the first words tell, however few come at once."""
    for size in (1 << 12, BLOCK_BYTES):
        block = stream.peek(size)
        halves = np.frombuffer(block, "<u4", len(block) // 8 * 2).reshape(-1, 2).T
        legacy, little = _times_in(*halves), _times_in(*halves[::-1])
        if legacy != little:
            break
    return "legacy" if legacy > little else "little"


def _times_in(upper, lower):
    """How many words are the high bits of a time, if these are their halves."""
    return np.count_nonzero((upper >> 28 == EventTimes.TIME_HIGH) & (lower == 0))

"""Parts that Prophesee's formats share: the text header, and the decoding of words.

A header has lines `% key value` and ends with `% end`, or with the first line that does
not begin with `% `. RAW files hold a stream of words as the camera sent it, EVT 2.0,
EVT 2.1 or EVT 3.0. The reader asks for these keys:

- `evt 3.0`, or `format EVT3;height=720;width=1280`: which words follow;
- `format` or `geometry 1280x720`: the size of the sensor, 2048x2048 pixels if neither
  states it. A pixel outside it is damage.
"""

import re

import numpy as np

from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    check_whole,
    earliest,
    outside,
)
from keras_qkformer.events.event_array import EVENT_DTYPE
from keras_qkformer.printable import printable

MARK = b"% "
LARGEST_SIZE = (2048, 2048)
"""Sensor whose rows and columns have 11 bits each, as RAW files store them."""
BLOCK_BYTES = 1 << 17  # Bounds memory, and its arrays fit a core's cache.
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_SIDE = re.compile(r"\d{1,5}")


def read_header(stream):
    """Read the lines `% key value` at the start of a file.

    Args:
        stream: `ByteStream` at the start of a recording.

    Returns:
        Dict of str, the value of each key.

    Raises:
        DamagedRecordingError: if there is no such line, or one is no text.
    """
    header = {}
    start = stream.peek(32)
    while (line := stream.header_line(MARK)) is not None:
        key, _, value = line[len(MARK) :].decode("latin-1").strip().partition(" ")
        if key == "end":
            break
        header[key] = value.strip()
    if not stream.offset:
        raise DamagedRecordingError(
            0,
            f"expected a header of lines that begin with {MARK.decode()!r}. "
            f"Received: {start or 'an empty file'}.",
        )
    return header


def start_raw(stream, name):
    """Read the header of a RAW file and note the sensor's size in the details.

    Args:
        stream: `ByteStream` at the start of a recording.
        name: str. `"EVT2"`, `"EVT21"` or `"EVT3"`: the words that must follow.

    Returns:
        `(sensor_size, options)`: (height, width) in pixels, `LARGEST_SIZE` if the
        header does not state it, and the other options of the key `format` as a dict
        of str.

    Raises:
        DamagedRecordingError: if the header states other words or an impossible size.
    """
    header = read_header(stream)
    stated, *options = header.get("format", "").split(";")
    options = dict(option.partition("=")[::2] for option in options)
    if not stated and "evt" in header:
        stated = "EVT" + header["evt"].replace(".", "").removesuffix("0")
    if stated not in ("", name):
        raise DamagedRecordingError(
            0, f"expected a header of {name}. Received: {printable(stated, 40)}."
        )
    size = options.pop("height", None), options.pop("width", None)
    if size == (None, None) and "geometry" in header:
        match = _SIZE.fullmatch(header["geometry"])
        size = match.groups()[::-1] if match else (header["geometry"], "")
    if size == (None, None):
        return LARGEST_SIZE, options
    stream.details.sensor_size = sensor_size(size, LARGEST_SIZE)
    return stream.details.sensor_size, options


def sensor_size(sides, largest):
    """Return the size of a sensor that a header states.

    Args:
        sides: (height, width) as str, or `None` where the header lacks one.
        largest: (height, width) in pixels. The most that the format can store.

    Returns:
        (height, width) in pixels.

    Raises:
        DamagedRecordingError: if a side is not a number from 1 to the largest.
    """
    numbers = [int(side) if _SIDE.fullmatch(side or "") else 0 for side in sides]
    if not all(0 < n <= most for n, most in zip(numbers, largest, strict=True)):
        raise DamagedRecordingError(
            0,
            "expected the height and width of a sensor of at most "
            f"{largest[0]}x{largest[1]} pixels (height x width) in the header. "
            f"Received: {printable(str(sides), 80)}.",
        )
    return tuple(numbers)


def decode_words(stream, clock, chunk_events, dtype, size, decoder):
    """Decode words of a RAW file block by block, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the first word.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        dtype: str. Type of a word.
        size: (height, width) of the sensor in pixels.
        decoder: function `words -> (t, x, y, p, word, fault)`: arrays of the events,
            the index of the word of each, and the first word that violates the format,
            see `byte_stream.first_fault`. It keeps its state from block to block.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    bytes_of_word = np.dtype(dtype).itemsize
    while block := stream.take_ready(BLOCK_BYTES, bytes_of_word):
        words = np.frombuffer(block, dtype, len(block) // bytes_of_word)
        t, x, y, p, word, fault = decoder(words)
        damaged = earliest(outside(x, y, size), clock.fault(t))
        count = len(t)
        if fault:
            count = int(np.searchsorted(word, fault[0]))
        if damaged and damaged[0] < count:
            count, fault = damaged[0], (int(word[damaged[0]]), damaged[1])
        events = np.empty(count, EVENT_DTYPE)
        for name, values in zip("txyp", (t, x, y, p), strict=True):
            events[name] = values[:count]
        for first in range(0, count, chunk_events):
            yield events[first : first + chunk_events]
        if fault:
            raise DamagedRecordingError(
                stream.offset - len(block) + bytes_of_word * fault[0], fault[1]
            )
        check_whole(block, bytes_of_word, stream)


def set_bits(bits):
    """Find the bits that are set, those of each word from the lowest on.

    Args:
        bits: unsigned int array `(words,)`.

    Returns:
        `(each, number)`: what takes from an array `(words,)` the word of each bit, and
        the number of the bit, an int array `(set bits,)`.

    Example:
    >>> each, number = set_bits(np.array([0b1000, 0, 0b101], "u4"))
    >>> each.tolist(), number.tolist()
    ([0, 2, 2], [3, 0, 2])
    """
    numbers = np.bitwise_count(bits)
    number = np.bitwise_count((bits & -bits) - bits.dtype.type(1))  # Of the lowest.
    if (numbers == 1).all():
        return slice(None), number
    each = np.repeat(np.arange(len(bits)), numbers)
    number = number.take(each)
    several = numbers > 1
    of_several = bits[several].astype(bits.dtype.newbyteorder("<"))
    # Of bools, NumPy finds those that are set much faster than of numbers.
    is_set = np.unpackbits(of_several.view("u1"), bitorder="little").view("?")
    number[several.take(each)] = np.flatnonzero(is_set) & (8 * bits.itemsize - 1)
    return each, number


class RunningSums:
    """Sums of small numbers from the first to any other, for many places at once.

    `np.cumsum` takes several times as long, as each of its sums waits for the one
    before.

    Args:
        numbers: bool or uint8 array, of numbers below 32.

    Attributes:
        total: int. Sum of all.

    Example:
    >>> sums = RunningSums(np.array([1, 0, 12, 8], "u1"))
    >>> sums.up_to(np.array([0, 2, 3])).tolist(), sums.total
    ([1, 13, 21], 21)
    """

    def __init__(self, numbers):
        eights = np.zeros(len(numbers) // 8 + 1, "<u8")
        eights.view("u1")[: len(numbers)] = numbers
        # Each byte of the product is the sum of the bytes up to it.
        within = (eights * 0x0101010101010101).astype("<u8", copy=False)
        last = (within >> 56).astype("i8")
        before = np.cumsum(last) - last
        self.total = int(before[-1] + last[-1])
        self._before, self._within = before, within.view("u1")

    def up_to(self, places):
        """Return the sums up to and with the numbers at some places.

        Args:
            places: int array. Indices of numbers.

        Returns:
            int64 array of the same shape.
        """
        return self._before.take(places >> 3) + self._within.take(places)


class Overflows:
    """Extends times beyond the overflows of the bits that store them.

    A fall by more than half of what the bits can hold is an overflow; a smaller fall is
    time that runs backwards.

    Args:
        bits: int. Number of the stored bits.
        shift: int. Number of bits below them, which are stored elsewhere.
    """

    def __init__(self, bits, shift):
        self._range = 1 << bits
        self._shift = shift
        self._last = 0
        self._count = 0

    def extend(self, values):
        """Return the times of the next stored bits, with zeros as the bits below.

        Args:
            values: int64 array, in order.

        Returns:
            int64 array of the same shape, in microseconds.
        """
        if not len(values):
            return values
        fell = np.diff(values, prepend=self._last) < -(self._range // 2)
        self._last = int(values[-1])
        if self._count or fell.any():
            counts = self._count + np.cumsum(fell)
            self._count = int(counts[-1])
            values = values + counts * self._range
        return values << self._shift


class EventTimes:
    """Finds words of events and their times, where the words hold the lowest 6 bits.

    So it is in EVT 2.0 and 2.1: words of kind 8 hold the other 28 bits, for all events
    from there on. Events before the first of them have no time.

    Args:
        skipped: `Counter` of `Details.skipped`.
    """

    TIME_HIGH, TRIGGER = 8, 10

    def __init__(self, skipped):
        self._skipped = skipped
        self._overflows = Overflows(28, 6)
        self._base = None  # The latest high bits, in microseconds.

    def find(self, words):
        """Find the events in a block of words.

        Args:
            words: uint32 array: kind, lowest bits of the time, column and row.

        Returns:
            `(t, word, early, unknown)`: times in microseconds and indices of the words
            of events; indices of those that have no time; and a bool array that marks
            words of unknown kinds.
        """
        kind = (words >> 28).astype("u1")
        unknown = (kind > 1) & (kind != self.TIME_HIGH) & (kind != self.TRIGGER)
        unknown &= kind < 14
        triggers = int(np.count_nonzero(kind == self.TRIGGER))
        self._skipped["trigger events"] += triggers
        is_event = kind < 2
        word = np.flatnonzero(is_event)
        high = np.flatnonzero(kind == self.TIME_HIGH)
        bases = self._overflows.extend((words[high] & 0xFFFFFFF).astype("i8"))
        # Events between two words of high bits share these.
        starts = RunningSums(is_event).up_to(high)
        first = 0
        if self._base is None:
            first = int(starts[0]) if len(high) else len(word)
        early, word, starts = word[:first], word[first:], starts - first
        bases = np.concatenate([[self._base or 0], bases])
        if len(high):
            self._base = int(bases[-1])
        t = np.repeat(bases, np.diff(starts, prepend=0, append=len(word)))
        t += words.take(word) >> 22 & 63
        return t, word, early, unknown


def header_of_raw(name, size):
    """Return the header of a RAW file.

    Args:
        name: str. `"EVT2"` or `"EVT3"`.
        size: (height, width) of the sensor in pixels, or `None` not to state it.

    Returns:
        bytes.
    """
    stated = ""
    if size is not None:
        height, width = size
        stated = (
            f"% format {name};height={height};width={width}\n"
            f"% geometry {width}x{height}\n"
        )
    return f"% evt {name[-1]}.0\n{stated}% end\n".encode()

"""ROS bags of version 2.0 with messages `dvs_msgs/EventArray`. There is no writer.

After the line `#ROSBAG V2.0` come records, each with a header of fields `name=value`
and data; one field, `op`, tells their kind. Chunks hold connections and messages,
stored or compressed with bz2 or LZ4. Those that are compressed hold nothing else, and
all together, up to any place of the file, at most 1,032 times the bytes before it, and
64 MiB. A connection names the type of its messages and their topic. A message of events
has, behind a header of its own, the sensor's height and width and a number of events of
13 bytes: column from the left, row from the top, seconds, nanoseconds and polarity, 1
for ON. Times are rounded down to microseconds; they count from 1970.

Messages of other types are skipped. LZ4 is decoded in Python, some 20 MB per second.

Damage: a file of another version, an encrypted one, a record that contradicts itself
or has more than 64 MiB, chunks that cannot be decompressed, events of several topics
unless `topic` names one, none at all, a message that contradicts itself, a pixel
outside the sensor, time that runs backwards or leaps ahead, an incomplete record at the
end. Damage in a compressed chunk has the byte of its record.
"""

import bz2
import functools
import io
import struct

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    ByteStream,
    DamagedRecordingError,
    earliest,
    first_fault,
    outside,
    read_events,
)
from keras_qkformer.events.event_array import EVENT_DTYPE
from keras_qkformer.events.lz4_frame import decompress_lz4
from keras_qkformer.printable import printable

MAGIC = b"#ROSBAG V2.0\n"
TYPES = (b"dvs_msgs/EventArray", b"prophesee_event_msgs/EventArray")
_MESSAGE, _BAG, _CHUNK, _CONNECTION = 2, 3, 5, 7
_SKIPPED = (4, 6)  # Indices, and information about chunks.
_LONGEST_HEADER = 1 << 16
_LARGEST = 1 << 26
_GROWTH = 1032  # Chunks of black pictures reach far more, whole bags do not.
_MOST_NAME = 1000  # Bytes of a topic or type that are kept.
_MOST_CONNECTIONS = 1 << 16
_EVENT = np.dtype(
    [("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")]
)


def read_rosbag(
    source, *, topic=None, strict=True, ordered=True, max_gap_us=MAX_GAP_US
):
    """Read all events of one topic of a ROS bag.

    Args:
        source: path, bytes or binary file object.
        topic: str. Which events to read, such as "/davis/left/events". `None` if the
            bag has one topic of events.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, with x and y as in the file.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format, or has
            events of several topics and `topic` is `None`.

    Reference:
        ROS, "Bags/Format/2.0"; `dvs_msgs` of rpg_dvs_ros.
    """
    decode = functools.partial(decode_rosbag, topic=topic)
    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_rosbag(stream, clock, chunk_events, topic=None):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        topic: str or `None`. See `read_rosbag`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    if stream.take(len(MAGIC)) != MAGIC:
        raise DamagedRecordingError(0, f"expected a first line {MAGIC!r}.")
    topics = _Topics(topic)
    for place, data, is_exact in _messages(stream, topics):
        events, fault = _decode_message(data, place, stream.details)
        size = stream.details.sensor_size or (1 << 16, 1 << 16)
        found = earliest(
            outside(events["x"], events["y"], size), clock.fault(events["t"])
        )
        if found:
            events, fault = events[: found[0]], found
        for first in range(0, len(events), chunk_events):
            yield events[first : first + chunk_events]
        if fault:
            behind = len(data) - _EVENT.itemsize * (_count(data) - fault[0])
            raise DamagedRecordingError(place + is_exact * behind, fault[1])
    if not topics.wanted:
        raise DamagedRecordingError(
            stream.offset,
            f"expected messages {TYPES[0].decode()}"
            f"{f' of {topic}' if topic else ''} before. "
            f"Received: {printable(', '.join(sorted(topics.others)), 300) or 'none'}.",
        )


class _Topics:
    """The connections of a bag.

    Args:
        topic: str or `None`. The only topic that is wanted.

    Attributes:
        wanted: dict from the number of a connection of events to its topic.
        others: set of str, the types of other messages with their topics.
    """

    def __init__(self, topic):
        self.wanted, self.others = {}, set()
        self._topic = topic

    def add(self, fields, data, place):
        """Note a connection record."""
        name = fields.get(b"topic", b"")[:_MOST_NAME].decode("latin-1")
        kind = _fields(data, place).get(b"type", b"")[:_MOST_NAME]
        number = fields.get(b"conn", b"")
        if len(number) != 4 or len(self.wanted) + len(self.others) > _MOST_CONNECTIONS:
            raise DamagedRecordingError(
                place,
                f"expected at most {_MOST_CONNECTIONS} connections, each with a number "
                f"of 4 bytes. Received: {number[:8]!r}.",
            )
        if kind in TYPES and self._topic in (None, name):
            self.wanted[number] = name
        else:
            self.others.add(f"{kind.decode('latin-1')} of {name}")
        if len({*self.wanted.values()}) > 1:
            raise DamagedRecordingError(
                place,
                "expected events of one topic. Received: "
                f"{printable(', '.join(sorted(self.wanted.values())), 300)}; "
                "read_rosbag(path, topic=...) reads one of them.",
            )


def _messages(stream, topics, in_chunk=False):
    """Yield `(place, data, is_exact)` of each message of events.

    `place` is the byte where the data begin, or that of the chunk that was compressed.
    `in_chunk` is for the content of such a chunk.
    """
    unpacked = 0
    while stream.peek(1):
        place, fields, length = _record(stream)
        kind = fields.get(b"op", b"")
        if in_chunk and kind not in (bytes([_CONNECTION]), bytes([_MESSAGE])):
            raise DamagedRecordingError(
                place, f"expected a connection or a message. Received: op {kind[:8]!r}."
            )
        if kind == bytes([_BAG]):
            if fields.get(b"encryptor"):
                raise DamagedRecordingError(place, "expected a bag without encryption.")
            _take(stream, length, place)
        elif kind == bytes([_CHUNK]):
            compression = fields.get(b"compression", b"")
            if compression == b"none":
                continue  # The records in it are read like others.
            data = _decompress(compression, fields, _take(stream, length, place), place)
            unpacked += len(data)
            if unpacked > _LARGEST + _GROWTH * stream.offset:
                raise DamagedRecordingError(
                    place,
                    f"expected chunks of at most {_GROWTH} times their bytes so far. "
                    f"Received: {unpacked} bytes.",
                )
            inner = ByteStream(io.BytesIO(data), None, stream.details)
            try:
                for _, found, _ in _messages(inner, topics, in_chunk=True):
                    yield place, found, False
            except DamagedRecordingError as error:
                said = str(error).partition(": ")[2]
                raise DamagedRecordingError(place, f"in this chunk, {said}") from error
        elif kind == bytes([_CONNECTION]):
            topics.add(fields, _take(stream, length, place), place)
        elif kind == bytes([_MESSAGE]):
            at = stream.offset
            data = _take(stream, length, place)
            if fields.get(b"conn") in topics.wanted:
                yield at, data, True
        elif kind in map(lambda op: bytes([op]), _SKIPPED):
            _take(stream, length, place)
        else:
            raise DamagedRecordingError(
                place, f"expected a record of a ROS bag. Received: op {kind[:8]!r}."
            )


def _record(stream):
    """Read the header of a record: its byte, its fields, and the length of its data."""
    place = stream.offset
    size = int.from_bytes(stream.take(4), "little")
    header = stream.take(min(size, _LONGEST_HEADER))
    length = stream.take(4)
    if len(header) < size or len(length) < 4:
        raise DamagedRecordingError(
            place,
            f"expected the header of a record of at most {_LONGEST_HEADER} bytes. "
            f"Received: {size} bytes, or the end of the file.",
        )
    return place, _fields(header, place), int.from_bytes(length, "little")


def _take(stream, length, place):
    if length > _LARGEST:
        raise DamagedRecordingError(
            place, f"expected a record of at most {_LARGEST} bytes. Received: {length}."
        )
    data = stream.take(length)
    if len(data) < length:
        raise DamagedRecordingError(
            place,
            f"expected a record with data of {length} bytes, found the end of the file "
            f"after {len(data)}.",
        )
    return data


def _fields(data, place):
    """The fields `name=value` of a header as a dict of bytes."""
    fields, at = {}, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        name, equal, value = data[at + 4 : at + 4 + size].partition(b"=")
        at += 4 + size
        if at > len(data) or not equal:
            raise DamagedRecordingError(place, "expected fields name=value.")
        fields[name] = value
    return fields


def _decompress(compression, fields, data, place):
    size = int.from_bytes(fields.get(b"size", b""), "little")
    if size > _LARGEST:
        raise DamagedRecordingError(
            place, f"expected a chunk of at most {_LARGEST} bytes. Received: {size}."
        )
    try:
        if compression == b"bz2":
            found = bz2.BZ2Decompressor().decompress(data, size + 1)
        elif compression == b"lz4":
            found = decompress_lz4(data, size)
        else:
            raise ValueError(f"received {printable(compression.decode('latin-1'), 20)}")
        if len(found) != size:
            raise ValueError(f"received {len(found)} bytes")
    except (ValueError, OSError) as error:
        raise DamagedRecordingError(
            place,
            f"expected a chunk of {size} bytes, stored or compressed with bz2 or lz4: "
            f"{error}.",
        ) from error
    return found


def _count(data):
    """Number of events of a message, by its length; see `_decode_message`."""
    return int.from_bytes(data[_start(data) - 4 : _start(data)], "little")


def _start(data):
    """Byte of a message where its events begin."""
    return 28 + int.from_bytes(data[12:16], "little")


def _decode_message(data, place, details):
    """Events of a message, and the first that can't be one."""
    start = _start(data)
    if len(data) < 28 or len(data) != start + _count(data) * _EVENT.itemsize:
        raise DamagedRecordingError(
            place,
            "expected a message of events of 13 bytes each, as many as it says. "
            f"Received: {len(data)} bytes.",
        )
    height, width = struct.unpack_from("<2I", data, start - 12)
    if 0 < height <= 1 << 16 and 0 < width <= 1 << 16:
        details.sensor_size = height, width
    stored = np.frombuffer(data, _EVENT, offset=start)
    fault = earliest(
        first_fault(
            stored["ns"] >= 10**9,
            lambda i: (
                f"expected less than 10^9 nanoseconds. Received: {stored['ns'][i]}."
            ),
        ),
        first_fault(
            stored["p"] > 1,
            lambda i: f"expected a polarity of 0 or 1. Received: {stored['p'][i]}.",
        ),
    )
    stored = stored[: fault[0]] if fault else stored
    events = np.empty(len(stored), EVENT_DTYPE)
    events["t"] = stored["s"].astype("i8") * 10**6 + stored["ns"] // 1000
    for name in "xyp":
        events[name] = stored[name]
    return events, fault

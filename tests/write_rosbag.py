"""Writes ROS bags to their specification: for tests."""

import bz2
import struct

MAGIC = b"#ROSBAG V2.0\n"


def record(op, data=b"", **fields):
    """A record: `op` and other fields, and its data."""
    header = b""
    for name, value in {"op": bytes([op]), **fields}.items():
        field = name.encode() + b"=" + value
        header += struct.pack("<I", len(field)) + field
    return struct.pack("<I", len(header)) + header + struct.pack("<I", len(data)) + data


def connection(number=0, topic="/dvs/events", kind="dvs_msgs/EventArray"):
    """A record that gives messages a topic and a type."""
    field = b"type=" + kind.encode()
    data = struct.pack("<I", len(field)) + field
    return record(7, data, conn=struct.pack("<I", number), topic=topic.encode())


def message(events, sensor_size=(48, 64), number=0):
    """A record with a message of events."""
    data = struct.pack("<3I", 1, 0, 0) + struct.pack("<I", 3) + b"cam"
    data += struct.pack("<3I", *sensor_size, len(events))
    for t, x, y, p in events.tolist():
        seconds, rest = divmod(t, 10**6)
        data += struct.pack("<2H2IB", x, y, seconds, 1000 * rest + 999, p)
    return record(2, data, conn=struct.pack("<I", number), time=bytes(8))


def lz4(data):
    """An LZ4 frame with one stored block."""
    block = struct.pack("<I", len(data) | 1 << 31) + data
    return bytes.fromhex("04224d18604082") + block + bytes(4)


def chunk(records, compression="none"):
    """A record that holds others."""
    data = {"none": bytes, "bz2": bz2.compress, "lz4": lz4}[compression](records)
    size = struct.pack("<I", len(records))
    return record(5, data, compression=compression.encode(), size=size)


def bag(*records):
    """A whole bag, with its own record and indices that readers may skip."""
    first = record(3, b" " * 50, index_pos=bytes(8), conn_count=bytes(4))
    return MAGIC + first + b"".join(records) + record(4, b"index") + record(6, b"info")

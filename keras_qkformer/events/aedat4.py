"""AEDAT 4, as DV writes it, decoded by the package `aedat` in a process of its own."""

import importlib.util
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

from keras_qkformer.events.byte_stream import (
    BLOCK_BYTES,
    CHUNK_EVENTS,
    DamagedRecordingError,
    all_events,
    earliest,
    iterate,
    outside,
)
from keras_qkformer.events.event_array import EVENT_DTYPE

_AEDAT4_MAGIC = b"#!AER-DAT4.0\r\n"
_AEDAT4_END = (-1, -1)
# The package aborts its process on some damaged files, so it gets one of its own. That
# writes the number of cameras, stream, height and width of each, and for each packet
# its stream, the size of its events and these.
_AEDAT4_PROCESS = """
import struct, sys
import aedat, numpy
decoder, out = aedat.Decoder(sys.argv[1]), sys.stdout.buffer
streams = decoder.id_to_stream()
cameras = {n: s for n, s in streams.items() if s["type"] == "events"}
out.write(struct.pack("<i", len(cameras)))
for n, s in cameras.items():
    out.write(struct.pack("<3i", n, s["height"], s["width"]))
for packet in decoder:
    events = packet["events"] if packet["stream_id"] in cameras else []
    made = numpy.empty(len(events), "<i8,<u2,<u2,?")
    for ours, theirs in zip(made.dtype.names, ("t", "x", "y", "on")):
        if len(events):
            made[ours] = events[theirs]
    out.write(struct.pack("<iq", packet["stream_id"], made.nbytes))
    out.write(made.tobytes())
out.write(struct.pack("<iq", -1, -1))
"""


def read_aedat4(source, *, strict=True, ordered=True):
    """All events of an AEDAT 4 recording.

    The package `aedat` reads the packets, compressed or not, in a process of its own,
    because some damaged files abort it; what is not events of polarity is skipped.

    Args:
        source: path, bytes or binary file object; what is no path is copied to disk.
        strict: bool. Whether damage raises, or its rest is dropped with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, upright as the camera's software says.

    Raises:
        DamagedRecordingError: if the file is damaged, of another format or of several
            cameras.
        ImportError: if the package `aedat` is not installed.
    """
    return all_events(iter_aedat4(source, strict=strict, ordered=ordered))


def iter_aedat4(source, *, strict=True, ordered=True, chunk_events=CHUNK_EVENTS):
    """As `read_aedat4`, in chunks of at most `chunk_events` events."""
    return iterate(decode_aedat4, source, strict, ordered, chunk_events)


def decode_aedat4(stream, clock, chunk_events):
    """Chunks of the events of a stream; see `byte_stream.iterate`."""
    if importlib.util.find_spec("aedat") is None:
        raise ImportError(
            "AEDAT 4 needs the package aedat: pip install 'keras_qkformer[events]'"
        )
    start = stream.peek(len(_AEDAT4_MAGIC))
    if start != _AEDAT4_MAGIC:
        raise DamagedRecordingError(
            0, f"expected a first line {_AEDAT4_MAGIC!r}. Received: {start!r}."
        )
    if stream.path is not None:
        yield from _decode_aedat4_file(stream.path, clock, chunk_events)
        return
    with tempfile.TemporaryDirectory() as folder:  # The package wants a path.
        path = os.path.join(folder, "recording.aedat4")
        with open(path, "wb") as copy:
            while block := stream.take(BLOCK_BYTES):
                copy.write(block)
        yield from _decode_aedat4_file(path, clock, chunk_events)


def _decode_aedat4_file(path, clock, chunk_events):
    offset = len(_AEDAT4_MAGIC)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-c", _AEDAT4_PROCESS, os.fspath(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):

        def receive(size):
            received = process.stdout.read(size)
            if len(received) == size:
                return received
            process.wait()
            errors.seek(0)
            said = " ".join(errors.read().decode(errors="replace").split())
            raise DamagedRecordingError(
                offset, f"the package aedat could not read on: {said[-200:]}."
            )

        try:
            (count,) = struct.unpack("<i", receive(4))
            if count != 1:
                raise DamagedRecordingError(
                    offset, f"expected events of one camera. Received: {count}."
                )
            camera, *sensor_size = struct.unpack("<3i", receive(12))
            # Packets follow the header, each after the number of its stream and its
            # size: that tells how far the package is.
            with open(path, "rb") as file:
                file.seek(offset)
                offset += 4 + int.from_bytes(file.read(4), "little")
                while (size := struct.unpack("<iq", receive(12))) != _AEDAT4_END:
                    if size[0] == camera:
                        events = np.frombuffer(receive(size[1]), EVENT_DTYPE)
                        fault = earliest(
                            outside(events["x"], events["y"], sensor_size),
                            clock.fault(events["t"]),
                        )
                        events = events[: fault[0]] if fault else events
                        for first in range(0, len(events), chunk_events):
                            yield events[first : first + chunk_events]
                        if fault:
                            raise DamagedRecordingError(
                                offset, f"in this packet, {fault[1]}"
                            )
                    file.seek(offset)
                    offset += 8 + struct.unpack("<ii", file.read(8))[1]
        finally:
            process.kill()

"""AEDAT 4, as DV writes it, decoded by the package `aedat` in a process of its own.

A header and packets, perhaps compressed, follow the first line. A packet belongs to one
stream: packets of events are read, those of frames, IMU and triggers are skipped. There
is no writer.

Damage: a first line other than `#!AER-DAT4.0`, events of no camera or of several, a
pixel outside the sensor, time that runs backwards or leaps ahead, more than 16 events
per byte of a packet (LZ4 reaches no more, and real events not nearly as many), and
whatever `aedat` cannot decode, on Linux within 512 MiB.
"""

import struct
import subprocess
import tempfile

import numpy as np

from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    earliest,
    on_disk,
    outside,
    read_events,
)
from keras_qkformer.events.event_array import EVENT_DTYPE
from keras_qkformer.printable import printable

MAGIC = b"#!AER-DAT4.0\r\n"
# The format in which the process writes events, see `aedat4_process`.
COUNT = struct.Struct("<i")
CAMERA = struct.Struct("<3i")
PACKET = struct.Struct("<iq")
END = (-1, -1)
NO_PACKAGE = -1
_EVENTS_PER_BYTE = 16


def read_aedat4(source, *, strict=True, ordered=True, max_gap_us=MAX_GAP_US):
    """Read all events of an AEDAT 4 recording.

    Args:
        source: path, bytes or binary file object. Bytes and the content of a file
            object are copied to disk.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, with x and y as in the file.

    Raises:
        DamagedRecordingError: if the file is damaged, of another format or of several
            cameras.
        ImportError: if the package `aedat` is not installed.
    """
    return read_events(decode_aedat4, source, strict, ordered, max_gap_us)


def decode_aedat4(stream, clock, chunk_events):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
        ImportError: if the package `aedat` is not installed.
    """
    start = stream.peek(len(MAGIC))
    if start != MAGIC:
        raise DamagedRecordingError(
            0, f"expected a first line {MAGIC!r}. Received: {start!r}."
        )
    with on_disk(stream, "recording.aedat4") as path:  # The package needs a path.
        yield from _decode_aedat4_file(path, stream.details, clock, chunk_events)


def _decode_aedat4_file(path, details, clock, chunk_events):
    offset = len(MAGIC)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            module_command(f"{__package__}.aedat4_process", path),
            env=module_environment(),
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
            said = errors.read().partition(b"stack backtrace:")[0]  # Of Rust.
            said = " ".join(said.decode(errors="replace").split())[-200:]
            raise DamagedRecordingError(
                offset, f"the package aedat could not read on: {printable(said)}."
            )

        try:
            (count,) = COUNT.unpack(receive(COUNT.size))
            if count == NO_PACKAGE:
                raise ImportError(
                    "AEDAT 4 needs the package aedat: "
                    "pip install 'keras_qkformer[events]'"
                )
            if count != 1:
                raise DamagedRecordingError(
                    offset, f"expected events of one camera. Received: {count}."
                )
            camera, *sensor_size = CAMERA.unpack(receive(CAMERA.size))
            details.sensor_size = tuple(sensor_size)
            # Each packet follows the number of its stream and its size. Reading these
            # alongside tells where in the file the package is.
            with open(path, "rb") as file:
                file.seek(offset)
                offset += 4 + int.from_bytes(file.read(4), "little")
                while (packet := PACKET.unpack(receive(PACKET.size))) != END:
                    stream, size = packet
                    file.seek(offset)
                    stored = int.from_bytes(file.read(8)[4:], "little")
                    most = _EVENTS_PER_BYTE * stored * EVENT_DTYPE.itemsize
                    if size > most:
                        raise DamagedRecordingError(
                            offset,
                            f"expected at most {_EVENTS_PER_BYTE} events per byte of a "
                            f"packet. Received: {size // EVENT_DTYPE.itemsize} events "
                            f"in {stored} bytes.",
                        )
                    if stream == camera:
                        events = np.frombuffer(receive(size), EVENT_DTYPE)
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
                    offset += 8 + stored
        finally:
            process.kill()

"""HDF5 files of events, in the layouts of DSEC and Metavision, read in another process.

The columns t, x, y and p are datasets of one group, such as `events` in DSEC's files,
or fields of one dataset, such as `CD/events` in Metavision's; `columns.NAMES` lists
other names that are read. They are looked for in the whole file. A number `t_offset`
at the root or beside the columns is added to all times, as DSEC does; `ms_to_idx` and
other indices are not needed. An attribute `geometry` of the file, `1280x720`, states
the sensor's size. Times are whole microseconds, unless `time_unit` says otherwise.

Compressed files may need a plug-in of HDF5: those of DSEC the package `hdf5plugin`,
those of Metavision its `hdf5_ecf`, found by the variable HDF5_PLUGIN_PATH.

h5py runs in a process of its own, because damaged files can make HDF5 crash, on Linux
within 512 MiB, and within 60 s of processor time for each part. Datasets whose numbers
are in other files are refused.

Damage: no columns of events or several, columns of other lengths or of anything but
numbers, more than 1,032 rows for each stored byte of the times, a value that can't be
one of an event, a pixel outside the sensor, time that runs backwards or leaps ahead,
and whatever HDF5 cannot read. Its byte is where the times begin, or zero, and the
message names the row.
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
from keras_qkformer.events.columns import check_time_unit, rows_before
from keras_qkformer.events.event_array import EVENT_DTYPE
from keras_qkformer.printable import printable

# What the process writes, see `hdf5_process`.
MESSAGE = struct.Struct("<cQI")
"""Kind, byte of the file, bytes that follow."""
EVENTS, SIZE, DAMAGE, MISSING, END = b"E", b"S", b"D", b"M", b"."
SENSOR = struct.Struct("<2I")
MOST_SECONDS = 60
"""Processor time to find the columns, and for each part of the events."""
_LARGEST_SIZE = (1 << 16, 1 << 16)
_TOO_LONG = 24  # SIGXCPU on Linux, which Windows does not know.


def read_hdf5(
    source, *, time_unit=None, strict=True, ordered=True, max_gap_us=MAX_GAP_US
):
    """Read all events of an HDF5 file.

    Args:
        source: path, bytes or binary file object. Bytes and the content of a file
            object are copied to disk.
        time_unit: str: `"s"`, `"ms"`, `"us"` or `"ns"`. `None` for whole microseconds.
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
        ImportError: if h5py, or the plug-in that the file needs, is not installed.
        ValueError: if `time_unit` is unknown.

    Reference:
        [Gehrig et al., 2021](https://dsec.ifi.uzh.ch); Prophesee, Metavision SDK
        documentation, "HDF5 Event File Format".
    """
    check_time_unit(time_unit)

    def decode(stream, clock, chunk_events):
        return decode_hdf5(stream, clock, chunk_events, time_unit)

    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_hdf5(stream, clock, chunk_events, time_unit):
    """Decode a file chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        time_unit: str or `None`. See `read_hdf5`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
        ImportError: if h5py, or the plug-in that the file needs, is not installed.
    """
    with (
        on_disk(stream, "recording.h5") as path,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            module_command(
                f"{__package__}.hdf5_process", path, time_unit or "", chunk_events
            ),
            env=module_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            size, count = _LARGEST_SIZE, 0
            for kind, place, data in _messages(process, errors):
                if kind == SIZE:
                    size = stream.details.sensor_size = SENSOR.unpack(data)
                elif kind == MISSING:
                    raise ImportError(data.decode())
                elif kind == DAMAGE:
                    raise DamagedRecordingError(place, data.decode())
                else:
                    events = np.frombuffer(data, EVENT_DTYPE)
                    fault = earliest(
                        outside(events["x"], events["y"], size),
                        clock.fault(events["t"]),
                    )
                    yield from rows_before(fault, events, count, place)
                    count += len(events)
        finally:
            process.kill()


def _messages(process, errors):
    """Yield `(kind, place, data)` until the process says that it is done."""

    def receive(size):
        received = process.stdout.read(size)
        if len(received) == size:
            return received
        process.wait()
        if process.returncode == -_TOO_LONG:
            raise DamagedRecordingError(
                0, f"expected an HDF5 file that h5py reads on within {MOST_SECONDS} s."
            )
        errors.seek(0)
        said = " ".join(errors.read().decode(errors="replace").split())[-200:]
        raise DamagedRecordingError(0, f"h5py could not read on: {printable(said)}.")

    while True:
        kind, place, size = MESSAGE.unpack(receive(MESSAGE.size))
        if kind == END:
            return
        yield kind, place, receive(size)

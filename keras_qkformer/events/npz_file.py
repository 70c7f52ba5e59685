"""NumPy files of events: `.npz` as SpikingJelly caches them, `.npy` as Tonic does.

An `.npz` file is a zip with an array t, x, y and p each, or with one structured array
that has such fields; an `.npy` file holds one structured array. `columns.NAMES` lists
other names that are read. Times are whole microseconds, unless `time_unit` says
otherwise; a polarity is ON if it is 1 or true, and OFF if it is 0, -1 or false.

Nothing in a file runs: arrays of Python objects are refused, whatever they hold. An
entry of a zip is checked (see `CheckedZip`, and its checksum) before it is read.

Damage: missing arrays or fields, arrays of other lengths or of anything but numbers, an
entry whose checksum is wrong, a value that can't be one of an event, time that runs
backwards or leaps ahead. In an `.npz` file its byte is that of the entry of the times,
and the message names the row.
"""

import contextlib
import io
import warnings

import numpy as np
from numpy.lib import format as npy

from keras_qkformer.events.byte_stream import (
    BLOCK_BYTES,
    MAX_GAP_US,
    DamagedRecordingError,
    earliest,
    on_disk,
    opened,
    read_events,
)
from keras_qkformer.events.columns import (
    check_time_unit,
    decode_table,
    events_of_columns,
    find_columns,
)
from keras_qkformer.printable import printable
from keras_qkformer.zip_file import CheckedZip

_DIRECTORY_BYTES = 10_000
_HEADER_BYTES = 4000  # Of an array; NumPy writes 128 for a few fields.
_ROW_BYTES = 256
_WAY = "save them with keras_qkformer.events.npz_file.write_npz"


def read_npz(
    source, *, time_unit=None, strict=True, ordered=True, max_gap_us=MAX_GAP_US
):
    """Read all events of an `.npz` or `.npy` file.

    Args:
        source: path, bytes or binary file object. Bytes and the content of a file
            object are copied to disk if they are a zip.
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
        ValueError: if `time_unit` is unknown.

    Example:
    >>> import io
    >>> from keras_qkformer.events import EVENT_DTYPE
    >>> file = io.BytesIO()
    >>> write_npz(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_npz(file.getvalue()).tolist()
    [(10, 3, 4, True)]

    Reference:
        SpikingJelly 0.0.0.0.12, `np_savez`; Tonic 1.5, its structured arrays.
    """
    check_time_unit(time_unit)

    def decode(stream, clock, chunk_events):
        is_npy = stream.peek(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX
        decode_file = decode_npy if is_npy else decode_npz
        return decode_file(stream, clock, chunk_events, time_unit)

    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_npz(stream, clock, chunk_events, time_unit):
    """Decode an `.npz` file chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        time_unit: str or `None`. See `read_npz`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(on_disk(stream, "recording.npz"))
        try:
            archive = stack.enter_context(CheckedZip(path, _DIRECTORY_BYTES))
            arrays, place = _find_arrays(archive, stack)
        except ValueError as error:
            raise DamagedRecordingError(0, f"{error}.") from error
        (count,) = {array.count for array in arrays}

        def read(rows):
            columns = {}
            for array in arrays:
                columns |= array.read(rows)
            return columns

        yield from decode_table(read, count, chunk_events, time_unit, clock, place)


def decode_npy(stream, clock, chunk_events, time_unit):
    """Decode an `.npy` file chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        time_unit: str or `None`. See `read_npz`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    start = io.BytesIO(stream.peek(_HEADER_BYTES))
    try:
        array = _Array("the file", start, lambda size: stream.take(size), None)
    except ValueError as error:
        raise DamagedRecordingError(0, f"{error}.") from error
    if array.fields is None:
        raise DamagedRecordingError(
            0,
            "expected an array with fields t, x, y and p. Received: an array of "
            f"{array.dtype}; if it holds events, {_WAY}.",
        )
    stream.take(start.tell())
    for first in range(0, array.count, chunk_events):
        rows = min(chunk_events, array.count - first)
        place = stream.offset
        found = min(
            rows,
            len(stream.peek(rows * array.dtype.itemsize)) // (array.dtype.itemsize),
        )
        events, fault = events_of_columns(array.read(found), time_unit)
        fault = earliest(fault, clock.fault(events["t"]))
        yield events[: fault[0]] if fault else events
        if fault:
            raise DamagedRecordingError(
                place + fault[0] * array.dtype.itemsize, fault[1]
            )
        if found < rows:
            raise DamagedRecordingError(
                stream.offset,
                f"expected {array.count} rows, found the end of the file after "
                f"{first + found}.",
            )
    if rest := stream.peek(1):
        raise DamagedRecordingError(
            stream.offset, f"expected the end of the file. Received: {rest!r}."
        )


def _find_arrays(archive, stack):
    """The arrays of an `.npz` file that hold events, and the byte of the times."""
    names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if any(name.endswith("data.pkl") for name in names):
        raise ValueError(
            "expected arrays t, x, y and p, this looks like a file of PyTorch: load "
            f"them there and {_WAY}"
        )
    found = find_columns(list(names))
    if found is None and len(names) == 1:  # Perhaps one structured array.
        found = dict.fromkeys("t", *names)
    if found is None:
        listed = printable(", ".join(names), 200) or "an empty zip"
        raise ValueError(f"expected arrays t, x, y and p. Received: {listed}")
    infos = {field: names[name] for field, name in found.items()}
    for info in infos.values():
        try:
            with archive.open(info) as file:  # The checksum is compared at the end.
                while file.read(BLOCK_BYTES):
                    pass
        except Exception as error:  # Whatever zipfile makes of a damaged entry.
            raise ValueError(
                f"its entry {printable(info.filename)} is damaged"
            ) from error
    arrays = []
    for field, info in infos.items():
        file = stack.enter_context(archive.open(info))
        start = io.BytesIO(file.read(_HEADER_BYTES))
        name = f"its array {printable(info.filename)}"
        read = _Joined(start, file).read
        arrays.append(_Array(name, start, read, info.file_size, field))
    if len(infos) == 1 and arrays[0].fields is None:
        raise ValueError("expected arrays t, x, y and p. Received: one without fields")
    counts = [array.count for array in arrays]
    if len({*counts}) != 1:
        raise ValueError(f"expected arrays of one length. Received: {counts}")
    return arrays, infos["t"].header_offset


class _Joined:
    """Reads what is left of the start of an entry, and then the rest of it."""

    def __init__(self, start, rest):
        self._start, self._rest = start, rest

    def read(self, size):
        data = self._start.read(size)
        return data + self._rest.read(size - len(data)) if len(data) < size else data


class _Array:
    """An array in NumPy's format, read row by row.

    Args:
        name: str. What it is, for messages.
        start: `BytesIO` with its first bytes, which moves on behind its header.
        read: function `size -> bytes`, called once the header is read.
        size: int. Bytes of header and rows, or `None` if unknown.
        field: str. Name of its column, if it has no fields.

    Attributes:
        count: int. Number of rows.
        dtype: type of a row.
        fields: dict from "t", "x", "y" and "p" to names of fields, or `None`.

    Raises:
        ValueError: if it holds anything but numbers, or has another size.
    """

    def __init__(self, name, start, read, size, field=None):
        try:
            version = npy.read_magic(start)
            read_header = {
                (1, 0): npy.read_array_header_1_0,
                (2, 0): npy.read_array_header_2_0,
            }[version]
            with warnings.catch_warnings():  # About headers of Python 2, or damaged.
                warnings.simplefilter("ignore")
                shape, _, self.dtype = read_header(start, max_header_size=_HEADER_BYTES)
        except Exception as error:  # NumPy parses the header as Python does.
            raise ValueError(f"expected a header of NumPy in {name}") from error
        names = self.dtype.names
        kinds = [self.dtype] if names is None else [self.dtype[n] for n in names]
        if self.dtype.hasobject:
            raise ValueError(
                f"expected numbers in {name}. Received: Python objects, which could "
                f"run code; in Python, {_WAY}"
            )
        if not all(kind.kind in "biuf" and kind.itemsize <= 8 for kind in kinds) or (
            not 0 < self.dtype.itemsize <= _ROW_BYTES
        ):
            raise ValueError(f"expected numbers in {name}. Received: {self.dtype}")
        self.count = shape[0] if len(shape) == 1 else -1
        expected = start.tell() + self.count * self.dtype.itemsize
        if self.count < 0 or size not in (None, expected):
            raise ValueError(
                f"expected one axis that fits {name}. Received: shape {shape}"
            )
        self.fields = find_columns(names) if names else None
        if names and self.fields is None:
            raise ValueError(
                f"expected fields t, x, y and p in {name}. "
                f"Received: {printable(str(names), 200)}"
            )
        self._read, self._field = read, field

    def read(self, rows):
        """Return the next rows as a dict of columns."""
        data = self._read(rows * self.dtype.itemsize)
        values = np.frombuffer(data, self.dtype, rows)
        if self.fields is None:
            return {self._field: values}
        return {field: values[name] for field, name in self.fields.items()}


def write_npz(target, events, *, compressed=False):
    """Write events as an `.npz` file with arrays t, x, y and p, as SpikingJelly does.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p.
        compressed: bool. Whether the arrays are deflated.
    """
    save = np.savez_compressed if compressed else np.savez
    with opened(target, "wb") as file:
        save(file, **{name: events[name] for name in "txyp"})

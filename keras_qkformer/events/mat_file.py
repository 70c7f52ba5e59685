"""MATLAB files of version 5, as `save` writes them: ASL-DVS. There is no writer.

A header of 128 bytes states the order of bytes. Then each variable is an element, a
type and a size of 4 bytes each and the content, mostly deflated. A variable holds
elements itself: flags, dimensions, a name, and the values in any type that holds them.
The vectors t, x, y and p are read, or those with other names of `columns.NAMES`, such
as ts and pol of ASL-DVS; other variables are skipped. Times are whole microseconds,
unless `time_unit` says otherwise; a polarity is ON if it is 1 or true, and OFF if it is
0, -1 or false. Files of version 7.3 are HDF5 and are not read.

Damage: another version, an element that does not fit the file, a deflated one whose
checksum is wrong, missing vectors or vectors of other lengths, a value that can't be
one of an event, time that runs backwards or leaps ahead. Its byte is that of the
element of the times, and the message names the row.
"""

import io
import math
import os
import struct
import zlib
from typing import NamedTuple

import numpy as np

from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    on_disk,
    read_events,
)
from keras_qkformer.events.columns import (
    check_time_unit,
    decode_table,
    find_columns,
)
from keras_qkformer.printable import printable

_HEADER_BYTES = 128
_ORDERS = {b"\0\1IM": "<", b"\1\0MI": ">"}
"""Order of bytes by the end of the header: the version 0x0100 and the order's mark."""
_TAG_BYTES = 8
_BLOCK_BYTES = 1 << 16
_MATRIX, _DEFLATED = 14, 15
_NUMBERS = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 1 << 11
_MOST_VARIABLES = 1000
_MOST_HEADER_BYTES = 1000  # Of each element in a variable before its values.


def read_mat(
    source, *, time_unit=None, strict=True, ordered=True, max_gap_us=MAX_GAP_US
):
    """Read all events of a MATLAB file of version 5.

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
        ValueError: if `time_unit` is unknown.

    Example:
        events = read_mat("a_0001.mat")

    Reference:
        MathWorks, "MAT-File Format", level 5.
    """
    check_time_unit(time_unit)

    def decode(stream, clock, chunk_events):
        return decode_mat(stream, clock, chunk_events, time_unit)

    return read_events(decode, source, strict, ordered, max_gap_us)


def decode_mat(stream, clock, chunk_events, time_unit):
    """Decode a file chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        time_unit: str or `None`. See `read_mat`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    with on_disk(stream, "recording.mat") as path, open(path, "rb") as file:
        places, order, damage = _find_columns(file)
        vectors = {field: _open(file, where, order) for field, where in places.items()}
        counts = {vector.count for vector in vectors.values()}
        start = places["t"][0]
        if len(counts) != 1:
            raise DamagedRecordingError(
                start, f"expected vectors of one length. Received: {sorted(counts)}."
            )
        (count,) = counts

        def read(rows):
            return {field: vector.read(rows) for field, vector in vectors.items()}

        yield from decode_table(read, count, chunk_events, time_unit, clock, start)
        if damage:
            raise damage


class _Variable(NamedTuple):
    """A variable: its name, and of a vector of numbers how to read its values.

    Attributes:
        name: str.
        count: int. Number of values, -1 if it is no such vector.
        dtype: type of the values.
        values: object with `read(size)`, at the first value.
        content: `_Content`.
    """

    name: str
    count: int
    dtype: np.dtype
    values: object
    content: object

    def read(self, rows):
        """Return the next values as an array."""
        return np.frombuffer(self.values.read(rows * self.dtype.itemsize), self.dtype)


class _Content:
    """The bytes of an element in order, inflated if need be.

    Args:
        file: binary file object, in which others read too.
        place: int. Where the element begins.
        size: int. Bytes of its content in the file.
        is_deflated: bool.
    """

    def __init__(self, file, place, size, is_deflated):
        self._file, self._place = file, place + _TAG_BYTES
        self._end = self._place + size
        self._inflate = zlib.decompressobj() if is_deflated else None

    def read(self, size):
        """Return the next `size` bytes, or raise `ValueError` if there are fewer."""
        data = b"".join(self._pieces(size))
        if len(data) != size:
            raise ValueError("it ends too early")
        return data

    def check_end(self):
        """Read on to the end, where zlib compares the checksum."""
        while self._inflate and not self._inflate.eof:
            if not any(self._pieces(_BLOCK_BYTES)) and not self._inflate.eof:
                raise ValueError("it ends too early")

    def _pieces(self, missing):
        while missing > 0:
            if self._inflate is None:
                piece = self._stored(missing)
                is_end = not piece
            else:
                stored = self._inflate.unconsumed_tail or self._stored(_BLOCK_BYTES)
                piece = self._inflate.decompress(stored, missing)
                is_end = self._inflate.eof or not (stored or piece)
            yield piece
            missing -= len(piece)
            if is_end:
                return

    def _stored(self, most):
        self._file.seek(self._place)
        block = self._file.read(min(most, self._end - self._place))
        self._place += len(block)
        return block


def _find_columns(file):
    """Find the elements of t, x, y and p.

    Returns `(places, order, damage)`: where they are, see `_Content`; the order of
    bytes; and what is wrong behind them, or `None`.
    """
    header = file.read(_HEADER_BYTES)
    order = _ORDERS.get(header[124:])
    if order is None:
        raise DamagedRecordingError(
            0,
            f"expected {_HEADER_BYTES} bytes that end with the version and order of "
            f"MATLAB 5. Received: {header[124:]!r}.",
        )
    found, damage = {}, None
    try:
        for where in _elements(file, order):
            found.setdefault(_checked(_open, file, where, order).name, where)
    except DamagedRecordingError as error:
        damage = error
    names = find_columns(list(found))
    if names is None:
        listed = printable(", ".join(found), 200) or "no variable"
        raise damage or DamagedRecordingError(
            0, f"expected vectors t, x, y and p. Received: {listed}."
        )
    places = {field: found[name] for field, name in names.items()}
    for where in places.values():
        _checked(_verify, file, where, order)
    return places, order, damage


def _elements(file, order):
    """Yield the place and size of each element, and whether it is deflated."""
    end, place, number = os.fstat(file.fileno()).st_size, _HEADER_BYTES, 0
    while place < end:
        file.seek(place)
        tag = file.read(_TAG_BYTES)
        kind, size = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (0, 0)
        follows, number = place + _TAG_BYTES + size, number + 1
        is_known = kind in (_MATRIX, _DEFLATED) and number <= _MOST_VARIABLES
        if not is_known or follows > end:
            raise DamagedRecordingError(
                place,
                f"expected one of at most {_MOST_VARIABLES} variables, and all of it. "
                f"Received: type {kind} of {size} bytes, {end - place} to the end.",
            )
        yield place, size, kind == _DEFLATED
        place = follows


def _checked(function, file, where, order):
    """Call a function of an element; its errors become those of the recording."""
    try:
        return function(file, where, order)
    except (ValueError, zlib.error) as error:
        raise DamagedRecordingError(
            where[0], f"expected a whole variable of MATLAB 5: {error}."
        ) from error


def _verify(file, where, order):
    """Raise `ValueError` unless an element is a whole vector with a right checksum."""
    variable = _open(file, where, order)
    if variable.count < 0:
        raise ValueError(f"{printable(variable.name, 80)} is no vector of real numbers")
    missing = variable.count
    while missing:
        missing -= len(variable.read(min(missing, _BLOCK_BYTES)))
    variable.content.check_end()


def _open(file, where, order):
    """Read the start of a variable and return its `_Variable`."""
    content = _Content(file, *where)
    if where[2]:
        kind, _ = struct.unpack(f"{order}II", content.read(_TAG_BYTES))
        if kind != _MATRIX:
            raise ValueError(f"it is of type {kind}")
    flags = _element(content, order)
    sides = np.frombuffer(_element(content, order), f"{order}i4").tolist()
    name = _element(content, order).decode("latin-1")
    if len(flags) != 8 or not sides or min(sides) < 0:
        raise ValueError(f"{printable(name, 80)} has no flags or dimensions")
    (flag,) = struct.unpack_from(f"{order}I", flags)
    count = math.prod(sides)
    is_vector = not count or max(sides) == count
    if flag & 0xFF not in _NUMERIC_CLASSES or flag & _COMPLEX or not is_vector:
        return _Variable(name, -1, None, None, content)
    kind, size, inline = _tag(content, order)
    dtype = np.dtype(f"{order}{_NUMBERS.get(kind, 'V1')}")
    if dtype.kind == "V" or size != count * dtype.itemsize:
        raise ValueError(
            f"{printable(name, 80)} has {count} values of type {kind} in {size} bytes"
        )
    values = content if inline is None else io.BytesIO(inline)
    return _Variable(name, count, dtype, values, content)


def _element(content, order):
    """Return the bytes of the next element, one of those before the values."""
    _, size, inline = _tag(content, order)
    if inline is not None:
        return inline
    if size > _MOST_HEADER_BYTES:
        raise ValueError(f"it has {size} bytes where its flags or name should be")
    return content.read(size + -size % 8)[:size]


def _tag(content, order):
    """Read a type and size, and the bytes that follow if they take the size's place."""
    tag = content.read(_TAG_BYTES)
    kind, size = struct.unpack(f"{order}II", tag)
    if not kind >> 16:
        return kind, size, None
    kind, size = kind & 0xFFFF, kind >> 16
    if size > 4:
        raise ValueError(f"it has {size} bytes where 4 have room")
    return kind, size, tag[4 : 4 + size]

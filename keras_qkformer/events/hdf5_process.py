"""Decode an HDF5 file in a process of its own: HDF5 may crash on damaged files.

    python -m keras_qkformer.events.hdf5_process FILE UNIT ROWS

The process writes messages to standard output, see `hdf5_file`: the sensor's size if
the file states it (`SIZE`), parts of at most ROWS events in `EVENT_DTYPE` (`EVENTS`),
and at last `END`, or why it stopped: `DAMAGE`, or a package that is `MISSING`.
"""

import contextlib
import re
import sys

import numpy as np

from keras_qkformer.child_process import limit_memory, limit_seconds
from keras_qkformer.events.columns import events_of_columns, find_columns
from keras_qkformer.events.hdf5_file import (
    DAMAGE,
    END,
    EVENTS,
    MESSAGE,
    MISSING,
    MOST_SECONDS,
    SENSOR,
    SIZE,
)
from keras_qkformer.printable import printable

_MOST_BYTES = 1 << 29
_MOST_OBJECTS = 10_000
_MOST_ROWS = 1032  # For a stored byte: chunks that no one wrote would be zeros.
_ECF = 36559
_ECF_WAY = (
    "The file is compressed with ECF: install Metavision's plug-in hdf5_ecf and set "
    "HDF5_PLUGIN_PATH to its folder, or convert the file with metavision_file_to_dat"
)
_LONGEST_OFFSET = 1 << 62


def main(path, time_unit, rows, out):
    """Write the events of a file.

    Args:
        path: str. An HDF5 file.
        time_unit: str. See `hdf5_file.read_hdf5`, empty for `None`.
        rows: int > 0. Most events in a message.
        out: binary file object to write to.
    """

    def send(kind, data=b"", place=0):
        out.write(MESSAGE.pack(kind, place, len(data)))
        out.write(data)
        out.flush()  # Whatever becomes of this process.

    try:
        import h5py
    except ModuleNotFoundError:
        send(MISSING, b"HDF5 needs the package h5py: pip install h5py")
        return
    with contextlib.suppress(ModuleNotFoundError):
        import hdf5plugin  # noqa: F401  It adds the filters of DSEC to h5py.
    limit_memory(_MOST_BYTES)
    limit_seconds(MOST_SECONDS)
    try:
        with h5py.File(path, "r") as file:
            _send_events(h5py, file, time_unit or None, rows, send)
    except _Stopped as error:
        send(error.kind, str(error).encode(), error.place)
        return
    except Exception as error:  # Whatever h5py makes of a damaged file.
        said = printable(f"{type(error).__name__}: {error}", 300)
        send(DAMAGE, f"expected an HDF5 file that can be read. {said}.".encode())
        return
    send(END)


class _Stopped(Exception):
    """The file can't be read on.

    Attributes:
        kind: bytes. Kind of the message.
        place: int. Byte of the file.
    """

    def __init__(self, message, kind=DAMAGE, place=0):
        super().__init__(message)
        self.kind, self.place = kind, place


def _send_events(h5py, file, time_unit, rows, send):
    read, count, datasets, group = _find_columns(h5py, file)
    for dataset in datasets:
        _check_dataset(h5py, dataset)
    if size := re.fullmatch(r"(\d{1,5})x(\d{1,5})", _geometry(file)):
        send(SIZE, SENSOR.pack(int(size[2]), int(size[1])))
    stored = datasets[0].id.get_storage_size()
    if count > _MOST_ROWS * stored:
        raise _Stopped(
            f"expected at most {_MOST_ROWS} rows for each byte of the times that is "
            f"stored. Received: {count} rows, {stored} bytes."
        )
    offset = _offset(h5py, group) or _offset(h5py, file)
    place = _place(datasets[0])
    for first, columns in _parts(read, count, rows):
        limit_seconds(MOST_SECONDS)
        events, fault = events_of_columns(columns, time_unit)
        if offset:
            limit = (1 << 63) - 1 - _LONGEST_OFFSET
            t = events["t"]
            if len(t) and max(int(t.max()), -int(t.min())) > limit:
                raise _Stopped("expected times below 2^62 beside t_offset.")
            events["t"] += offset
        send(EVENTS, events.tobytes(), place)
        if fault:
            raise _Stopped(f"in row {first + fault[0]}, {fault[1]}", place=place)


def _parts(read, count, rows):
    """Yield the columns of at most so many rows at once, with the number of the first.

    Where HDF5 can't read on, the rows before come first, however many one asks for.
    """
    first = 0
    while first < count:
        part = min(rows, count - first)
        while True:
            try:
                columns = read(first, first + part)
                break
            except Exception:
                if part == 1:
                    raise
                part //= 2
        yield first, columns
        first += part


def _find_columns(h5py, file):
    """The columns of events, wherever they are.

    Returns `(read, count, datasets, group)`: a function of a range of rows that gives a
    dict of columns, the number of rows, the datasets, those of the times first, and the
    group with them.
    """
    found = {}
    seen = 0

    def visit(name, thing):
        nonlocal seen
        seen += 1
        if isinstance(thing, h5py.Dataset):
            names = thing.dtype.names
        else:
            names = _datasets_of(h5py, thing)
        if columns := find_columns(names or []):
            found[name] = columns
        return seen > _MOST_OBJECTS or None

    visit("", file)
    if file.visititems(visit):
        raise _Stopped(f"expected at most {_MOST_OBJECTS} objects in the file.")
    if len(found) != 1:
        listed = printable(", ".join(found or file), 200)
        raise _Stopped(
            "expected one group or dataset with columns t, x, y and p. Received: "
            f"{len(found)}, of {listed or 'nothing'}."
        )
    ((name, columns),) = found.items()
    thing = file[name] if name else file
    if isinstance(thing, h5py.Dataset):
        _check_rows([thing])

        def read(start, stop):
            part = thing[start:stop]
            return {field: part[column] for field, column in columns.items()}

        return read, len(thing), [thing], thing.parent
    datasets = {field: thing[column] for field, column in columns.items()}
    _check_rows(datasets.values())

    def read(start, stop):
        return {field: dataset[start:stop] for field, dataset in datasets.items()}

    return read, len(datasets["t"]), [datasets[field] for field in "txyp"], thing


def _datasets_of(h5py, group):
    """Names of the datasets that are in a group itself: no link leads elsewhere."""
    return [
        name
        for name in group
        if isinstance(group.get(name, getlink=True), h5py.HardLink)
        and group.get(name, getclass=True) is h5py.Dataset
    ]


def _check_rows(datasets):
    shapes = [dataset.shape for dataset in datasets]
    if len({*shapes}) != 1 or len(shapes[0] or ()) != 1:
        raise _Stopped(f"expected columns of one length. Received: {shapes}.")


def _check_dataset(h5py, dataset):
    """Stop at columns of other things than numbers, of other files, or of filters."""
    name = printable(dataset.name, 50)
    fields = dataset.dtype.fields
    kinds = [kind for kind, _ in fields.values()] if fields else [dataset.dtype]
    if not all(kind.kind in "biuf" and kind.itemsize <= 8 for kind in kinds):
        raise _Stopped(f"expected numbers in {name}. Received: {dataset.dtype}.")
    if dataset.external or dataset.is_virtual:
        raise _Stopped(f"expected the numbers of {name} in the file itself.")
    for code, label in filters_of(dataset):
        if not h5py.h5z.filter_avail(code):
            label = printable(label.decode(errors="replace"), 40)
            if code == _ECF or "ecf" in label.lower():
                raise _Stopped(_ECF_WAY, MISSING)
            raise _Stopped(
                f"The file is compressed with the HDF5 filter number {code} {label}, "
                "which is not installed: pip install hdf5plugin",
                MISSING,
            )


def filters_of(dataset):
    """Return code and name of each filter that a dataset is compressed with.

    Args:
        dataset: `h5py.Dataset`.

    Returns:
        List of `(int, bytes)`.
    """
    properties = dataset.id.get_create_plist()
    filters = map(properties.get_filter, range(properties.get_nfilters()))
    return [(code, label) for code, _, _, label in filters]


def _geometry(file):
    """The attribute `geometry` of a file, or an empty string: one text, not many."""
    if "geometry" not in file.attrs or file.attrs.get_id("geometry").shape != ():
        return ""
    return str(file.attrs["geometry"])


def _offset(h5py, group):
    """The number `t_offset` of a group, or zero."""
    if "t_offset" not in _datasets_of(h5py, group):
        return 0
    dataset = group["t_offset"]
    _check_dataset(h5py, dataset)
    if dataset.size != 1 or dataset.dtype.kind not in "iu":
        raise _Stopped("expected a whole number as t_offset.")
    offset = int(np.reshape(dataset[()], ()))
    if abs(offset) > _LONGEST_OFFSET:
        raise _Stopped(f"expected a t_offset below 2^62. Received: {offset}.")
    return offset


def _place(dataset):
    """The byte of the file where a dataset begins, or its first chunk; zero if none."""
    if dataset.chunks:
        return dataset.id.get_chunk_info_by_coord((0,)).byte_offset or 0
    return dataset.id.get_offset() or 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.stdout.buffer)

"""Read and write `.safetensors` files: a header in JSON, then the arrays in order."""

import contextlib
import functools
import io
import json
import math
import struct

from keras_qkformer.printable import printable
from keras_qkformer.stored_array import (
    KINDS,
    MOST_AXES,
    FileStorage,
    read_part,
)

MOST_BYTES = 8 << 20
"""Largest header. An array takes some 150 bytes of it."""
_BY_NAME = {kind.name: kind for kind in KINDS}
_KINDS = {
    "F32": _BY_NAME["FloatStorage"],
    "F64": _BY_NAME["DoubleStorage"],
    "F16": _BY_NAME["HalfStorage"],
    "BF16": _BY_NAME["BFloat16Storage"],
    "I64": _BY_NAME["LongStorage"],
    "I32": _BY_NAME["IntStorage"],
    "I16": _BY_NAME["ShortStorage"],
    "I8": _BY_NAME["CharStorage"],
    "U8": _BY_NAME["ByteStorage"],
    "BOOL": _BY_NAME["BoolStorage"],
}
_CODES = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}


def write_safetensors(path, arrays):
    """Write arrays as a `.safetensors` file: the same arrays give the same bytes.

    Args:
        path: path of the file.
        arrays: dict from names to arrays of floats of 16 (either kind), 32 or 64 bits.

    Raises:
        OSError: if the file can't be written.
    """
    header, place = {}, 0
    for name, array in sorted(arrays.items()):
        end = place + array.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [place, end],
        }
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # So that the arrays start at a multiple of 8.
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in sorted(arrays.items()):
            if array.dtype.name == "bfloat16":  # Of ml_dtypes, which knows no order.
                array = array.view("u2")
            file.write(array.astype(array.dtype.newbyteorder("<")).tobytes())


def read_safetensors(source):
    """Read the arrays of a `.safetensors` file.

    Args:
        source: path of the file, or its bytes as `io.BytesIO`.

    Returns:
        Dict from name to `StoredArray`.

    Raises:
        ValueError: if the header is damaged, longer than `MOST_BYTES`, or names an
            array twice, or the arrays do not fill the rest of the file, each in a place
            of its own.
    """
    if isinstance(source, io.BytesIO):
        opened, read_at = contextlib.nullcontext(source), _reader(source.getbuffer())
        source.seek(0)
    else:
        opened, read_at = open(source, "rb"), functools.partial(read_part, source)
    with opened as file:
        (length,) = struct.unpack("<Q", file.read(8))
        size = file.seek(0, 2) - 8 - length
        if size < 0:
            raise ValueError("its header is longer than the file")
        if length > MOST_BYTES:
            raise ValueError(f"its header has {length} bytes, of at most {MOST_BYTES}")
        file.seek(8)
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if type(header) is not dict:
        raise ValueError("its header is no object of JSON")
    header.pop("__metadata__", None)
    arrays, places = {}, []
    for name, entry in header.items():
        kind, shape, start, end = _parse(name, entry)
        numel = math.prod(shape)
        if end > size or end - start != numel * kind.width:
            raise ValueError(
                f"its array '{printable(name, 50)}' does not fit its place"
            )
        places.append((start, end, name))
        storage = FileStorage(read_at, start + 8 + length, kind, numel)
        arrays[name] = storage.view(0, shape, None)
    before = 0
    for start, end, name in sorted(places):
        if start != before:
            raise ValueError(
                f"its array '{printable(name, 50)}' does not follow another"
            )
        before = end
    if before != size:
        raise ValueError(f"its arrays have {before} bytes of {size}")
    return arrays


def _reader(data):
    return lambda place, count: data[place : place + count]


def _parse(name, entry):
    if type(entry) is dict:
        code, shape = entry.get("dtype"), entry.get("shape")
        places = entry.get("data_offsets")
        kind = _KINDS.get(code) if type(code) is str else None
        if kind is not None and _are_sizes(shape) and _are_sizes(places, 2):
            start, end = places
            return kind, shape, start, end
    raise ValueError(
        f"its array {_shown(name)} must have a dtype of {', '.join(_KINDS)}, a shape "
        "and two offsets, all whole numbers"
    )


def _shown(name):
    return f"'{printable(name, 50)}'"


def _are_sizes(values, count=None):
    return (
        type(values) is list
        and (len(values) <= MOST_AXES if count is None else len(values) == count)
        and all(type(n) is int and 0 <= n < 2**63 for n in values)
    )


def _without_duplicates(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has a name twice")
    return found

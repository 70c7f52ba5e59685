"""Read `.npz` files of NumPy: a zip with an array in each entry."""

import io
import math

import numpy as np
from numpy.lib import format as npy

from keras_qkformer.printable import printable
from keras_qkformer.stored_array import MOST_AXES, Kind, Storage

_MOST_BYTES = 1000  # Of the header of an array; NumPy writes 128.


def read_npz(archive):
    """Read the arrays of a `.npz` file; each is read from it when it is used.

    Args:
        archive: `CheckedZip` of the file.

    Returns:
        Dict from name to `StoredArray`.

    Raises:
        ValueError: if an array is damaged, or not of numbers, or has another size than
            its entry.
    """
    return {
        info.filename.removesuffix(".npy"): _open(archive, info)
        for info in archive.infolist()
    }


class _Entry(Storage):
    """The numbers of an entry of a zip.

    Args:
        archive: `CheckedZip`, which stays open.
        name: str. Name of the entry.
        start: int. Byte of the entry where the numbers start.
        dtype: their NumPy type, in the byte order of the file.
        numel: int. How many they are.
    """

    def __init__(self, archive, name, start, dtype, numel):
        super().__init__(Kind("", dtype.newbyteorder("=").str, dtype.itemsize), numel)
        self._archive, self._name, self._start = archive, name, start
        self._dtype = dtype

    def read(self, start, stop):
        most = self._start + self.numel * self._dtype.itemsize
        data = self._archive.read_entry(self._name, most)
        if len(data) < most:
            raise ValueError("its entry is too short")
        array = np.frombuffer(data, self._dtype, self.numel, self._start)[start:stop]
        # PyTorch accepts arrays only in the byte order of the machine.
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def _open(archive, info):
    name = printable(info.filename, 50)
    try:
        with archive.open(info) as file:
            # No more of it: its length is what the file says.
            header = io.BytesIO(file.read(_MOST_BYTES))
        read = {
            (1, 0): npy.read_array_header_1_0,
            (2, 0): npy.read_array_header_2_0,
        }[npy.read_magic(header)]
        shape, by_columns, dtype = read(header, max_header_size=_MOST_BYTES)
    except Exception as error:  # NumPy parses the header as Python does.
        raise ValueError(f"its array '{name}' has no header of NumPy") from error
    if dtype.hasobject:
        raise ValueError(f"Object arrays cannot be loaded, such as '{name}'")
    if dtype.kind not in "fiub" or dtype.itemsize > 8 or len(shape) > MOST_AXES:
        raise ValueError(f"its array '{name}' is not of plain numbers")
    numel, start = math.prod(shape), header.tell()
    if min(shape, default=0) < 0 or start + numel * dtype.itemsize != info.file_size:
        raise ValueError(f"its array '{name}' does not fit its place")
    strides = None
    if by_columns:
        strides = [math.prod(shape[:axis]) for axis in range(len(shape))]
    return _Entry(archive, info.filename, start, dtype, numel).view(0, shape, strides)

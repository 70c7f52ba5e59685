"""Arrays that stay in a file of weights until they are used."""

import abc
import dataclasses
import math

import numpy as np

from keras_qkformer.printable import printable

MOST_AXES = 64  # NumPy's limit.
_LARGEST = 2**63 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """A type of stored numbers.

    Attributes:
        name: str. PyTorch's name of a storage of it.
        code: str. NumPy's code of the type of the array; NumPy has no bfloat16, which
            is the upper half of a float32 and becomes one.
        width: int. Bytes of a number in the file.
    """

    name: str
    code: str
    width: int


KINDS = (
    Kind("FloatStorage", "f4", 4),
    Kind("DoubleStorage", "f8", 8),
    Kind("HalfStorage", "f2", 2),
    Kind("BFloat16Storage", "f4", 2),
    Kind("LongStorage", "i8", 8),
    Kind("IntStorage", "i4", 4),
    Kind("ShortStorage", "i2", 2),
    Kind("CharStorage", "i1", 1),
    Kind("ByteStorage", "u1", 1),
    Kind("BoolStorage", "?", 1),
)


class Storage(abc.ABC):
    """A row of numbers in a file; arrays are views of it.

    Args:
        kind: `Kind` of the numbers.
        numel: int. How many they are.
    """

    def __init__(self, kind, numel):
        self.kind = kind
        self.numel = numel

    @abc.abstractmethod
    def read(self, start, stop):
        """Read numbers.

        Args:
            start: int. Index of the first.
            stop: int. Index after the last.

        Returns:
            Array `(stop - start,)` in the byte order of the machine.

        Raises:
            ValueError: if the file is damaged there.
        """

    def view(self, offset, shape, strides):
        """Make an array of some of the numbers.

        Args:
            offset: int. Index of the first number.
            shape: tuple or list of int.
            strides: tuple or list of int, in numbers, or `None` for C order.

        Returns:
            A `StoredArray`.

        Raises:
            ValueError: if these are no such values, or the array would have more
                numbers than the storage or reach beyond it.
        """
        sizes = _whole_numbers(shape)
        if strides is None and sizes is not None:
            strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
        steps = _whole_numbers(strides)
        if sizes is None or steps is None or _whole_numbers([offset]) is None:
            raise ValueError(
                "a tensor must have an offset, and sizes and strides of at most "
                f"{MOST_AXES} axes, all whole numbers"
            )
        if len(sizes) != len(steps):
            raise ValueError("a tensor must have as many strides as sizes")
        if 0 not in sizes and offset + _span(sizes, steps) > self.numel:
            raise ValueError("a tensor reaches beyond its storage")
        if math.prod(sizes) > self.numel:
            raise ValueError("a tensor has more numbers than its storage")
        return StoredArray(self, offset, sizes, steps)


def _span(shape, strides):
    """Numbers of a storage from the first to the last one of an array."""
    return 1 + sum([(n - 1) * s for n, s in zip(shape, strides, strict=True)])


def _whole_numbers(values):
    """A tuple of what may be the sizes of an array, or `None`."""
    if type(values) not in (tuple, list) or len(values) > MOST_AXES:
        return None
    for value in values:
        if type(value) is not int or not 0 <= value <= _LARGEST:
            return None
    return tuple(values)


class StoredArray:
    """An array that stays in its file until `np.asarray` reads it.

    Args:
        storage: `Storage` that has its numbers.
        offset: int. Index of its first number in the storage.
        shape: tuple of int.
        strides: tuple of int, in numbers.

    Attributes:
        shape: tuple of int.
        size: int. How many numbers it has.
        nbytes: int. Size of the array once read.
    """

    __slots__ = ("_offset", "_storage", "_strides", "shape")

    def __init__(self, storage, offset, shape, strides):
        self.shape = shape
        self._storage, self._offset, self._strides = storage, offset, strides

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def nbytes(self):
        return self.size * np.dtype(self._storage.kind.code).itemsize

    def __array__(self, dtype=None, copy=None):
        try:
            return np.asarray(self._read(), dtype=dtype)
        except (ValueError, MemoryError) as error:
            raise ValueError(
                "Every array of a checkpoint must be whole. Received: one of shape "
                f"{self.shape}: {printable(str(error))}"
            ) from error

    def _read(self):
        if 0 in self.shape:
            return np.zeros(self.shape, self._storage.kind.code)
        stop = self._offset + _span(self.shape, self._strides)
        flat = self._storage.read(self._offset, stop)
        steps = [step * flat.itemsize for step in self._strides]
        array = np.ndarray(self.shape, flat.dtype, flat, strides=steps)
        array.flags.writeable = False
        return array


class FileStorage(Storage):
    """Numbers that lie in a file one after the other.

    Args:
        read_at: function `(place, count) -> bytes` that reads bytes of the file.
        place: int. Byte of the file where they start, or `None` if it is set later.
        kind: `Kind` of the numbers.
        numel: int. How many they are.
        order: str. Their byte order, `"<"` or `">"`.
        check: function `bytes -> None` that gets the whole storage when it is first
            read and raises `ValueError` if it is damaged, or `None`.
    """

    def __init__(self, read_at, place, kind, numel, order="<", check=None):
        super().__init__(kind, numel)
        self.place = place
        self._read_at, self._order, self._check = read_at, order, check

    def read(self, start, stop):
        width = self.kind.width
        if self._check is None:
            return self._numbers(self._bytes(start * width, stop * width))
        data = self._bytes(0, self.numel * width)
        self._check(data)
        # Once is enough: or many views of a large storage would take forever.
        self._check = None
        return self._numbers(data)[start:stop]

    def _bytes(self, start, stop):
        data = self._read_at(self.place + start, stop - start)
        if len(data) < stop - start:
            raise ValueError("the file has become shorter")
        return data

    def _numbers(self, data):
        if self.kind.name == "BFloat16Storage":
            upper = np.frombuffer(data, f"{self._order}u2").astype("u4")
            return (upper << 16).view("f4")
        array = np.frombuffer(data, np.dtype(self.kind.code).newbyteorder(self._order))
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_part(path, place, count):
    """Read bytes of a file.

    Args:
        path: path of the file.
        place: int. Where to start, in bytes.
        count: int. How many.

    Returns:
        bytes, fewer than `count` at the end of the file.
    """
    with open(path, "rb") as file:
        file.seek(place)
        return file.read(count)

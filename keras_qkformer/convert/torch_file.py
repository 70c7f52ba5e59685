"""Read files of `torch.save`, and write state dicts as such."""

import functools
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_qkformer.convert.weights_pickle import MOST_BYTES, read_pickle
from keras_qkformer.printable import printable
from keras_qkformer.stored_array import KINDS, FileStorage, read_part

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_torch_zip(archive):
    """Read the content of a file of `torch.save`.

    Args:
        archive: `CheckedZip` of the file; arrays are read from it when they are used.

    Returns:
        Value of the pickle, see `read_pickle`.

    Raises:
        ValueError: if the file is damaged, hostile, or not of `torch.save`.
    """
    names = archive.namelist()
    pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise ValueError("it is a zip file, but neither of PyTorch nor of NumPy")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.NameToInfo:
        raise ValueError(
            "it is a TorchScript program; save the model's state_dict() instead"
        )
    order = "<"
    if f"{folder}byteorder" in archive.NameToInfo:
        order = {b"big": ">"}.get(archive.read_entry(f"{folder}byteorder", 100), "<")
    storages = {}

    def open_storage(kind, key, numel):
        if (key, kind) not in storages:
            entry = f"{folder}data/{key}"
            info = archive.NameToInfo.get(entry)
            size = -1 if info is None else info.file_size
            if size != numel * kind.width:
                problem = "too short" if size < numel * kind.width else "too long"
                raise ValueError(
                    f"its entry {printable(entry)} is {problem}: {size} bytes for "
                    f"{numel} numbers of {kind.width} bytes"
                )
            place, expected = archive.place_of(entry), info.CRC

            def check(data):
                if zlib.crc32(data) != expected:
                    raise ValueError(f"bad CRC-32 of its entry {printable(entry)}")

            storages[key, kind] = FileStorage(
                archive.read_at, place, kind, numel, order, check
            )
        found = storages[key, kind]
        if found.numel != numel:
            raise ValueError("a storage has two sizes")
        return found

    value, _ = read_pickle(archive.read_entry(pickles[0], MOST_BYTES), 0, open_storage)
    return value


def read_torch_legacy(path):
    """Read the format before PyTorch 1.6: pickles, then one storage after another.

    Args:
        path: path of the file.

    Returns:
        Value of the pickle, see `read_pickle`.

    Raises:
        ValueError: if the file is damaged, hostile, or not of `torch.save`.
    """
    storages, read_at = {}, functools.partial(read_part, path)

    def open_storage(kind, key, numel):
        found = storages.setdefault(key, FileStorage(read_at, None, kind, numel))
        if (found.kind, found.numel) != (kind, numel):
            raise ValueError("a storage has two types or sizes")
        return found

    with open(path, "rb") as file:
        start = file.read(MOST_BYTES)
        size = file.seek(0, 2)
        magic, place = read_pickle(start, 0, open_storage)
        if magic != _LEGACY_MAGIC:
            raise ValueError("it is a pickle, but not of PyTorch")
        version, place = read_pickle(start, place, open_storage)
        system, place = read_pickle(start, place, open_storage)
        little = type(system) is dict and system.get("little_endian") is True
        if version != 1001 or not little:
            raise ValueError("its version or byte order is unknown")
        content, place = read_pickle(start, place, open_storage)
        keys, place = read_pickle(start, place, open_storage)
        if type(keys) is not list or len(keys) != len(storages):
            raise ValueError("its list of storages is another than that of its tensors")
        for key in keys:
            found = storages.get(key) if type(key) is str else None
            if found is None or found.place is not None:
                raise ValueError("its list of storages is another than its tensors'")
            file.seek(place)
            header = file.read(8)
            if len(header) < 8 or struct.unpack("<q", header) != (found.numel,):
                raise ValueError("its end is missing, or a storage has another size")
            found.place = place + 8
            place += 8 + found.numel * found.kind.width
            if place > size:
                raise ValueError("its end is missing")
    return content


def write_checkpoint(
    path: str | os.PathLike, arrays: Mapping[str, Any] | Iterable[tuple[str, Any]]
) -> None:
    """Write arrays as a plain state dict in PyTorch's zip format.

    Args:
        path: str or path of the file.
        arrays: dict from name to numeric array, or an iterable of pairs of them, which
            is consumed one pair at a time.
    """
    storages = {
        np.dtype(kind.code): kind.name
        for kind in KINDS
        if kind.name != "BFloat16Storage"
    }
    items = arrays.items() if isinstance(arrays, Mapping) else arrays
    ordered_dict = b"ccollections\nOrderedDict\n)R"
    pickled = [b"\x80\x02", ordered_dict, b"("]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for key, (name, array) in enumerate(items):
            array = np.asarray(array)
            strides = [math.prod(array.shape[i + 1 :]) for i in range(array.ndim)]
            pickled += [
                _text(name),
                b"ctorch._utils\n_rebuild_tensor_v2\n((",
                _text("storage"),
                f"ctorch\n{storages[array.dtype.newbyteorder('=')]}\n".encode(),
                _text(str(key)),
                _text("cpu"),
                _int(array.size),
                b"tQ",
                _int(0),
                _ints(array.shape),
                _ints(strides),
                b"\x89",
                ordered_dict,
                b"tR",
            ]
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.writestr(f"archive/data/{key}", little.tobytes())
        pickled.append(b"u.")
        file.writestr("archive/data.pkl", b"".join(pickled))
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/version", "3\n")


def _text(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(number):
    return b"J" + struct.pack("<i", number)


def _ints(numbers):
    return b"(" + b"".join(map(_int, numbers)) + b"t"

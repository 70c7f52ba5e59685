"""Read and write files of PyTorch weights without PyTorch and without running code.

A `.pth` file is a pickle, and a pickle can run code. The unpickler here knows a short
list of names and replaces each by a stand-in from this file. Any other name is an error
that names it; there is no fallback to another reader.
"""

import collections
import dataclasses
import json
import math
import pickle
import struct
import types
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

# Storage types of PyTorch -> type codes of NumPy. NumPy has no bfloat16, which is the
# upper half of a float32.
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SAFETENSORS = {
    "F32": "f4",
    "F64": "f8",
    "F16": "f2",
    "BF16": "bfloat16",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
# Training checkpoints hold these beside the weights. None is needed, so an object
# without behaviour replaces each.
_IGNORED = {
    "_codecs.encode",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "torch.device",
    *(f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64")),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ENTRIES = ("model", "state_dict")
# Errors that a damaged file causes in Python's and NumPy's readers.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredArray:
    """An array that stays in its file until `np.asarray` reads it.

    Attributes:
        shape: tuple of int.
        load: function without arguments that reads the array.
    """

    shape: tuple
    load: Callable

    def __array__(self, dtype=None, copy=None):
        try:
            return np.asarray(self.load(), dtype=dtype)
        except _DAMAGE as error:
            raise ValueError(
                "Every array of a checkpoint must be whole. Received: one of shape "
                f"{self.shape}: {_reason(error)}"
            ) from error


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The weights of a file, and the plain values beside them.

    Attributes:
        arrays: dict from name to array (`StoredArray`; NumPy's for `.npz`), without the
            prefix `module.` that distributed training adds.
        entry: str, the entry of the file that holds the weights, or `None` if the file
            is a plain state dict.
        others: tuple of str, other entries that hold weights too.
        facts: dict of the numbers and strings beside the weights, such as `epoch` and
            `max_test_acc1`. Options of the training have the prefix `args.`.
    """

    arrays: Mapping
    entry: str | None
    others: tuple
    facts: Mapping


def read_checkpoint(path, entry=None):
    """Read the weights of a `.pth`, `.safetensors` or `.npz` file.

    The format is recognized by the content. A `.pth` file is a plain state dict, or
    holds one in an entry, as the authors' training writes it: `model` (ImageNet, DVS),
    or `state_dict` and perhaps `state_dict_ema` (CIFAR, by timm).

    Args:
        path: str or path of the file.
        entry: str, the entry that holds the weights, or `None` for the whole file,
            `model` or `state_dict`.

    Returns:
        A `Checkpoint`.

    Raises:
        ValueError: if the file is damaged or of another format, refers to anything but
            tensors and plain values, or has no such entry. No code of the file runs.
        OSError: if there is no such file.

    Example:
    >>> write_checkpoint("weights.pth", {"head.bias": np.zeros(3, "float32")})
    >>> {k: v.shape for k, v in read_checkpoint("weights.pth").arrays.items()}
    {'head.bias': (3,)}
    >>> Path("weights.pth").unlink()
    """
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(16)
    try:
        if start.startswith(b"PK\x03\x04"):
            content = _read_zip(path)
        elif start.startswith(b"\x80"):
            content = _read_legacy(path)
        elif start[8:9] == b"{":
            content = _read_safetensors(path)
        else:
            raise ValueError("its first bytes belong to none of these formats")
    except _DAMAGE as error:
        raise ValueError(
            "A checkpoint must be a whole .pth, .safetensors or .npz file of tensors. "
            f"Received: {str(path)!r}: {_reason(error)}"
        ) from error
    return _choose(path, content, entry)


def write_checkpoint(path, arrays):
    """Write arrays as a plain state dict in PyTorch's zip format.

    Args:
        path: str or path of the file.
        arrays: dict from name to numeric array, or an iterable of pairs of them, which
            is consumed one pair at a time.
    """
    storages = {
        np.dtype(kind): name for name, kind in _STORAGES.items() if kind != "bfloat16"
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


def _reason(error):
    return (
        f"{error}" if type(error) is ValueError else f"{type(error).__name__} {error}"
    )


def _text(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(number):
    return b"J" + struct.pack("<i", number)


def _ints(numbers):
    return b"(" + b"".join(map(_int, numbers)) + b"t"


def _read_zip(path):
    # The file stays open: arrays are read later, when they are used.
    file = zipfile.ZipFile(path)
    names = file.namelist()
    if names and all(name.endswith(".npy") for name in names):
        with np.load(path, allow_pickle=False) as arrays:
            # PyTorch accepts arrays only in the byte order of the machine.
            return {
                name: array.astype(array.dtype.newbyteorder("="), copy=False)
                for name, array in arrays.items()
            }
    pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise ValueError("it is a zip file, but neither of PyTorch nor of NumPy")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise ValueError(
            "it is a TorchScript program; save the model's state_dict() instead"
        )
    order = "<"
    if f"{folder}byteorder" in names and file.read(f"{folder}byteorder") == b"big":
        order = ">"

    def open_storage(kind, key, numel):
        entry = f"{folder}data/{key}"
        if file.getinfo(entry).file_size < numel * _width(kind):
            raise ValueError(f"its entry {entry!r} is too short")
        return _Storage(kind, numel, lambda: _numbers(file.read(entry), kind, order))

    with file.open(pickles[0]) as stream:
        return _Unpickler(stream, open_storage).load()


def _read_legacy(path):
    """Read the format before PyTorch 1.6: pickles, then one storage after another."""
    places = {}

    def open_storage(kind, key, numel):
        def load():
            with open(path, "rb") as file:
                file.seek(places[key])
                return _numbers(file.read(numel * _width(kind)), kind, "<")

        kinds[key] = kind
        return _Storage(kind, numel, load)

    kinds = {}
    with open(path, "rb") as file:
        if _Unpickler(file, open_storage).load() != _LEGACY_MAGIC:
            raise ValueError("it is a pickle, but not of PyTorch")
        version, system = (_Unpickler(file, open_storage).load() for _ in range(2))
        if version != 1001 or not system["little_endian"]:
            raise ValueError(f"its version {version} or byte order is unknown")
        content = _Unpickler(file, open_storage).load()
        for key in _Unpickler(file, open_storage).load():
            (numel,) = struct.unpack("<q", file.read(8))
            places[key] = file.tell()
            file.seek(numel * _width(kinds[key]), 1)
        if file.tell() > path.stat().st_size:
            raise ValueError("its end is missing")
    return content


def _read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        size = path.stat().st_size
        if length > size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        kind, shape = _SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
        start, end = entry["data_offsets"]
        numel = math.prod(shape)
        if not 0 <= start <= end <= size - length - 8 or (
            end - start != numel * _width(kind)
        ):
            raise ValueError(f"its array {name!r} does not fit its place")

        def load(start=start + length + 8, end=end + length + 8, kind=kind):
            with open(path, "rb") as file:
                file.seek(start)
                return _numbers(file.read(end - start), kind, "<")

        arrays[name] = _Storage(kind, numel, load).view(0, shape, None)
    return arrays


def _width(kind):
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _numbers(data, kind, order):
    """A flat array of the bytes, in the byte order of the machine."""
    if kind == "bfloat16":
        upper = np.frombuffer(data, f"{order}u2").astype("u4")
        return (upper << 16).view("f4")
    array = np.frombuffer(data, np.dtype(kind).newbyteorder(order))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
    """A row of numbers in a file; arrays are views of it."""

    kind: str
    numel: int
    load: Callable

    def view(self, offset, shape, strides):
        """A `StoredArray` with strides in numbers, or `None` for C order."""
        if strides is None:
            strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(
            type(n) is int and n >= 0 for n in numbers
        ):
            raise ValueError(f"a tensor has the shape {shape} and strides {strides}")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if 0 not in shape and last >= self.numel:
            raise ValueError("a tensor reaches beyond its storage")

        def load():
            flat = self.load()
            step = flat.itemsize
            return np.lib.stride_tricks.as_strided(
                flat[offset:], shape, [s * step for s in strides], writeable=False
            )

        return StoredArray(tuple(shape), load)


class _Unpickler(pickle.Unpickler):
    """Reads tensors and plain values; any other name in the pickle is an error.

    Args:
        file: binary file, at the start of the pickle.
        open_storage: function `(kind, key, numel) -> _Storage`, from the type code, the
            key and the number of values of a storage.
    """

    def __init__(self, file, open_storage):
        super().__init__(file)
        self.open_storage = open_storage

    def find_class(self, module, name):
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return collections.OrderedDict
        if full == "argparse.Namespace":
            return types.SimpleNamespace
        if full == "torch.Size":
            return tuple
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return _RebuildTensor()
        if full == "torch._utils._rebuild_parameter":
            return _RebuildParameter()
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if full in _IGNORED:
            # A new class each time, because the pickle may modify it.
            return type("Ignored", (_Ignored,), {})
        raise ValueError(
            f"it asks to import {full}, which is not among the few names that weights "
            "need. A whole model must be saved again where it comes from, as "
            "torch.save(model.state_dict(), path)"
        )

    def persistent_load(self, pid):
        what, kind, key, _, numel, *_ = pid
        if what != "storage" or type(numel) is not int or numel < 0:
            raise ValueError(f"it refers to {pid!r}")
        return self.open_storage(kind, key, numel)


class _RebuildTensor:
    """Stand-in for the function that makes a tensor from part of a storage."""

    __slots__ = ()  # So that a pickle can't change it.

    def __call__(self, storage, offset, shape, strides, *_):
        if not isinstance(storage, _Storage):
            raise ValueError(f"a tensor has the storage {storage!r}")
        return storage.view(offset, shape, strides)


class _RebuildParameter:
    """Stand-in for the function that makes a parameter from a tensor."""

    __slots__ = ()

    def __call__(self, data, *_):
        return data


class _Ignored:
    """Stand-in for objects that weights don't need: accepts all, does nothing."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass


def _choose(path, content, entry):
    """Find the weights in the content of a file and return a `Checkpoint`."""
    if not isinstance(content, dict):
        raise ValueError(
            "A checkpoint must be a dictionary of tensors, or hold one. "
            f"Received: {str(path)!r} with {_describe(content)}"
        )
    holders = [name for name, value in content.items() if _is_state_dict(value)]
    if entry is None and not _is_state_dict(content):
        entry = next((name for name in _ENTRIES if name in holders), None)
    state = content if entry is None else content.get(entry)
    if not _is_state_dict(state):
        held = ", ".join(f"{k}: {_describe(v)}" for k, v in list(content.items())[:9])
        raise ValueError(
            "A checkpoint must be a state dict, or hold one in 'model', 'state_dict' "
            f"or the given entry. Received: entry={entry!r}, {str(path)!r} "
            f"with {held}"
        )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): array for name, array in state.items()}
    facts = {} if state is content else _plain(content)
    arguments = content.get("args")
    if isinstance(arguments, types.SimpleNamespace):
        facts.update({f"args.{k}": v for k, v in _plain(vars(arguments)).items()})
    others = tuple(name for name in holders if name != entry)
    return Checkpoint(dict(state), entry, others, facts)


def _is_state_dict(value):
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(name, str) for name in value)
        and all(isinstance(a, StoredArray | np.ndarray) for a in value.values())
    )


def _plain(values):
    return {
        name: value
        for name, value in values.items()
        if isinstance(name, str) and type(value) in (int, float, str, bool)
    }


def _describe(value):
    if isinstance(value, StoredArray | np.ndarray):
        return f"array {value.shape}"
    return type(value).__name__

"""Find the weights in a file of PyTorch, safetensors or NumPy, whatever is in it."""

import dataclasses
import itertools
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from keras_qkformer.convert.npz_file import read_npz
from keras_qkformer.convert.torch_file import read_torch_legacy, read_torch_zip
from keras_qkformer.convert.weights_pickle import Namespace
from keras_qkformer.printable import printable
from keras_qkformer.safetensors_file import read_safetensors
from keras_qkformer.stored_array import StoredArray
from keras_qkformer.weights_limits import most_bytes
from keras_qkformer.zip_file import CheckedZip

DIRECTORY_BYTES = 1 << 20
"""Largest directory of a zip file of weights: some 10,000 arrays."""
MOST_FACTS = 1000
"""Numbers and strings beside the weights that are kept, of as many characters each."""
_ENTRIES = ("model", "state_dict", "net")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The weights of a file, and the plain values beside them.

    Attributes:
        arrays: dict from name to `StoredArray`, without the prefix `module.` that
            distributed training adds.
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


def read_checkpoint(path: str | os.PathLike, entry: str | None = None) -> Checkpoint:
    """Read the weights of a `.pth`, `.safetensors` or `.npz` file.

    The format is recognized by the content. A `.pth` file is a plain state dict, or
    holds one in an entry, as the authors' training writes it: `model` (ImageNet, DVS),
    or `state_dict` and perhaps `state_dict_ema` (CIFAR, by timm).

    The file may come from anyone: no code of it runs, and its reading is bounded.

    - Pickles have at most 16 MiB and 1,000,000 instructions, of the few kinds that
      checkpoints need; keys of dictionaries are strings or small integers.
    - Zip files have a directory of at most 1 MiB and break no rule of `CheckedZip`. Of
      PyTorch, their entries are stored uncompressed, as PyTorch writes them, and have
      exactly the size of their storage.
    - A header of safetensors has at most 8 MiB; its arrays fill the file, in order.
    - Arrays have at most 64 axes, and no more numbers than their storage. Together they
      have at most 20 times the bytes of the file, or 64 MiB.
    - At most 1,000 facts of 1,000 characters are kept.

    Args:
        path: str or path of the file.
        entry: str, the entry that holds the weights, or `None` for the whole file,
            `model`, `state_dict` or `net`.

    Returns:
        A `Checkpoint`.

    Raises:
        ValueError: if the file is damaged or of another format, refers to anything but
            tensors and plain values, breaks a limit, or has no such entry.
        OSError: if there is no such file.

    Example:
    >>> from keras_qkformer.convert.torch_file import write_checkpoint
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
            content = read_torch_legacy(path)
        elif start[8:9] == b"{":
            content = read_safetensors(path)
        else:
            raise ValueError("its first bytes belong to none of these formats")
    except (ValueError, MemoryError, struct.error) as error:
        raise ValueError(
            "A checkpoint must be a whole .pth, .safetensors or .npz file of tensors. "
            f"Received: '{printable(str(path))}': {printable(str(error), 1000)}"
        ) from error
    return _choose(path, content, entry)


def _read_zip(path):
    archive = CheckedZip(path, DIRECTORY_BYTES)
    names = archive.namelist()
    is_numpys = names and all(name.endswith(".npy") for name in names)
    return read_npz(archive) if is_numpys else read_torch_zip(archive)


def _choose(path, content, entry):
    """Find the weights in the content of a file and return a `Checkpoint`."""
    received = printable(str(path))
    if type(content) is not dict:
        raise ValueError(
            "A checkpoint must be a dictionary of tensors, or hold one. "
            f"Received: '{received}' with {_describe(content)}"
        )
    known = {}  # Many entries may be the same dictionary.

    def is_state_dict(value):
        if id(value) not in known:
            known[id(value)] = _is_state_dict(value)
        return known[id(value)]

    holders = [name for name, value in content.items() if is_state_dict(value)]
    if entry is None and not is_state_dict(content):
        entry = next((name for name in _ENTRIES if name in holders), None)
    state = content if entry is None else content.get(entry)
    if not is_state_dict(state):
        held = ", ".join(
            f"{printable(str(name), 50)}: {_describe(value)}"
            for name, value in itertools.islice(content.items(), 9)
        )
        raise ValueError(
            "A checkpoint must be a state dict, or hold one in 'model', 'state_dict', "
            f"'net' or the given entry. Received: entry={entry!r}, '{received}' "
            f"with {held}"
        )
    largest = most_bytes(path.stat().st_size)
    size = sum(array.nbytes for array in state.values())
    if size > largest:
        raise ValueError(
            f"Arrays of this file must have at most {largest} bytes. "
            f"Received: '{received}' with {size}"
        )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): array for name, array in state.items()}
    facts = {} if state is content else _plain(content)
    arguments = content.get("args")
    if isinstance(arguments, Namespace):
        options = _plain(arguments.values)
        facts.update({f"args.{name}": value for name, value in options.items()})
    others = tuple(name for name in holders if name != entry and type(name) is str)
    return Checkpoint(dict(state), entry, others[:MOST_FACTS], facts)


def _is_state_dict(value):
    return (
        type(value) is dict
        and len(value) > 0
        and all(type(name) is str for name in value)
        and all(type(array) is StoredArray for array in value.values())
    )


def _plain(values):
    """The first numbers and strings of a dictionary, without the huge ones."""
    found = (
        (name, value)
        for name, value in values.items()
        if type(name) is str
        and len(name) <= MOST_FACTS
        and (
            type(value) in (float, bool)
            or (type(value) is int and abs(value) < 2**63)
            or (type(value) is str and len(value) <= MOST_FACTS)
        )
    )
    return dict(itertools.islice(found, MOST_FACTS))


def _describe(value):
    if type(value) is StoredArray:
        return f"array {value.shape}"
    return type(value).__name__

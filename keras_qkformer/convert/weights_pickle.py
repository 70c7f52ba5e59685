"""Read the pickle of a checkpoint: tensors and plain values, by no code but this.

A pickle is a program for a machine with a stack and a memo. Python's unpickler runs all
of it, imports what it names and calls what it imports. The machine here knows only the
instructions that checkpoints use and a short list of names, each with a stand-in from
this file. All else is an error that names it; there is no fallback to another reader.

Nothing here recurses, compares or formats a value of the file, so neither its depth nor
shared parts in it cost anything; memory and time are bounded by `MOST_BYTES` and
`MOST_STEPS`.
"""

import struct

from keras_qkformer.printable import printable
from keras_qkformer.stored_array import KINDS, Kind, Storage, StoredArray

MOST_BYTES = 16 << 20
"""Largest pickle. That of a model of 1,000 tensors with its optimizer has 0.3 MB."""
MOST_STEPS = 1_000_000
"""Most instructions and copied items. The same checkpoint takes 100,000."""
LARGEST_KEY = 2**60
"""Integers up to here have different hashes, so a dictionary of them is fast."""


class Namespace:
    """The options of a training, `argparse.Namespace`.

    Attributes:
        values: dict from name to value.
    """

    __slots__ = ("values",)

    def __init__(self):
        self.values = {}


class _Ignored:
    """Stand-in for all objects that weights don't need."""

    __slots__ = ()


_IGNORED = _Ignored()


class _Name:
    """Stand-in for something that a pickle imports and may call.

    Args:
        call: function `(machine, arguments) -> value`, or `None`.
    """

    __slots__ = ("call",)

    def __init__(self, call=None):
        self.call = call


def read_pickle(data, position, open_storage):
    """Read one pickle.

    Args:
        data: bytes of at most `MOST_BYTES`.
        position: int. Byte where the pickle starts.
        open_storage: function `(kind, key, numel) -> Storage`, from the `Kind`, the key
            (a str) and the number of values of a storage.

    Returns:
        `(value, position)`. Values are dict (also for `OrderedDict`), list, tuple, str,
        bytes, int, float, bool, `None`, `StoredArray`, `Namespace`, or objects that
        stand for anything else. `position` is the byte after the pickle.

    Raises:
        ValueError: if the pickle is damaged, has an instruction or a name that
            checkpoints don't need, a key of a dictionary that is neither a string nor
            an integer up to `LARGEST_KEY`, or takes more than `MOST_STEPS`.
    """
    return _Machine(open_storage).run(data, position)


class _Machine:
    def __init__(self, open_storage):
        self.open_storage = open_storage
        self.stack = []
        self.marks = []
        self.memo = {}
        self.copied = 0

    def run(self, data, position):
        stack, memo = self.stack, self.memo
        try:
            for _ in range(MOST_STEPS):
                code = data[position]
                # Half of all instructions are these three: a shortcut saves much time.
                if code == _LONG_BINPUT:
                    (place,) = _INDEX(data, position + 1)
                    memo[place] = stack[-1]
                    position += 5
                elif code == _BINGET:
                    stack.append(memo[data[position + 1]])
                    position += 2
                elif code == _BININT1:
                    stack.append(data[position + 1])
                    position += 2
                elif code == _STOP:
                    return stack.pop(), position + 1
                else:
                    position = _INSTRUCTIONS[code](self, stack, data, position + 1)
        except KeyError as error:
            raise ValueError(
                f"its pickle has the instruction {bytes([code])} in byte {position}, "
                "which checkpoints don't need, or uses what it has not stored"
            ) from error
        except (IndexError, TypeError, struct.error) as error:
            raise ValueError(
                f"its pickle is damaged near byte {position}: {type(error).__name__}"
            ) from error
        raise ValueError(f"its pickle takes more than {MOST_STEPS} steps")

    def copies(self, items):
        """Count items that are copied, as they may be many times."""
        self.copied += len(items)
        if self.copied > MOST_STEPS:
            raise ValueError(f"its pickle copies more than {MOST_STEPS} items")
        return items

    def to_mark(self):
        """The items above the last mark, which are removed."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


def _take(data, position, count):
    if not 0 <= count <= len(data) - position:
        raise ValueError("its pickle ends too early")
    return data[position : position + count]


def _line(data, position):
    """The text up to the end of a line, and the place after it."""
    end = data.find(b"\n", position, position + 1000)
    if end < 0:
        raise ValueError("its pickle has a name without an end")
    return data[position:end].decode("utf-8"), end + 1


def _values_of(container):
    """The items of a list or tuple, for a copy."""
    if type(container) not in (list, tuple):
        raise ValueError("its pickle makes a tuple or dictionary of something else")
    return container


def _put(target, items):
    """Put keys and values, one after the other, into a dictionary."""
    if type(target) is not dict:
        raise ValueError("its pickle puts items into what is no dictionary")
    if len(items) % 2:
        raise ValueError("its pickle has a key without a value")
    for key in items[::2]:
        if type(key) is not str and not (
            type(key) is int and -LARGEST_KEY < key < LARGEST_KEY
        ):
            raise ValueError(
                "its pickle has a dictionary with a key that is neither a string nor a "
                f"small integer, but of type {type(key).__name__}"
            )
    target.update(zip(items[::2], items[1::2], strict=True))


def _extend(target, items):
    if type(target) is not list:
        raise ValueError("its pickle appends to what is no list")
    target.extend(items)


# What a pickle may call.


def _make_dictionary(machine, arguments):
    """`OrderedDict()`, or as Python 2 writes it, with a list of pairs."""
    made = {}
    if arguments:
        (pairs,) = arguments
        for pair in machine.copies(_values_of(pairs)):
            key, value = _values_of(pair)
            _put(made, (key, value))
    return made


def _make_namespace(machine, arguments):
    () = arguments
    return Namespace()


def _make_size(machine, arguments):
    (sizes,) = arguments
    return tuple(machine.copies(_values_of(sizes)))


def _make_tensor(machine, arguments):
    storage, offset, shape, strides, *_ = arguments
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    array = storage.view(offset, shape, strides)
    machine.copies(array.shape)
    return array


def _make_parameter(machine, arguments):
    data, *_ = arguments
    if type(data) is not StoredArray:
        raise ValueError("a parameter has no tensor")
    return data


def _ignore(machine, arguments):
    return _IGNORED


_NAMES = {
    "collections.OrderedDict": _Name(_make_dictionary),
    "argparse.Namespace": _Name(_make_namespace),
    "torch.Size": _Name(_make_size),
    "torch._utils._rebuild_tensor": _Name(_make_tensor),
    "torch._utils._rebuild_tensor_v2": _Name(_make_tensor),
    "torch._utils._rebuild_parameter": _Name(_make_parameter),
    **{f"torch.{kind.name}": kind for kind in KINDS},
    # Training checkpoints hold these beside the weights.
    **dict.fromkeys(
        (
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
            "torch.float16",
            "torch.bfloat16",
            "torch.float32",
            "torch.float64",
        ),
        _Name(_ignore),
    ),
}


def _find(module, name):
    full = f"{module}.{name}"
    found = _NAMES.get(full)
    if found is None:
        raise ValueError(
            f"it asks to import {printable(full)}, which is not among the few names "
            "that weights need. A whole model must be saved again where it comes from, "
            "as torch.save(model.state_dict(), path)"
        )
    return found


# The instructions: functions `(machine, stack, data, position) -> position` of the next
# one. Those of the same kind differ in how a length or number is stored.


def _number(layout):
    unpack, width = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def push(machine, stack, data, position):
        stack += unpack(data, position)
        return position + width

    return push


def _constant(value):
    def push(machine, stack, data, position):
        stack.append(value)
        return position

    return push


def _container(kind):
    def push(machine, stack, data, position):
        stack.append(kind())
        return position

    return push


def _sized(layout, convert):
    """Push what `convert` makes of as many bytes as a number says."""
    unpack, width = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def push(machine, stack, data, position):
        (length,) = unpack(data, position)
        position += width
        stack.append(convert(_take(data, position, length)))
        return position + length

    return push


def _to_text(data):
    # Python allows halves of surrogate pairs in text, and so in pickles.
    return data.decode("utf-8", "surrogatepass")


def _to_ascii(data):
    return data.decode("ascii")


def _to_integer(data):
    return int.from_bytes(data, "little", signed=True)


def _store(machine, stack, data, position):
    machine.memo[data[position]] = stack[-1]
    return position + 1


def _recall(machine, stack, data, position):
    (place,) = _INDEX(data, position)
    stack.append(machine.memo[place])
    return position + 4


def _memoize(machine, stack, data, position):
    machine.memo[len(machine.memo)] = stack[-1]
    return position


def _skip(count):
    return lambda machine, stack, data, position: position + count


def _pop(machine, stack, data, position):
    stack.pop()
    return position


def _pop_mark(machine, stack, data, position):
    machine.to_mark()
    return position


def _mark(machine, stack, data, position):
    machine.marks.append(len(stack))
    return position


def _tuple(machine, stack, data, position):
    stack.append(tuple(machine.to_mark()))
    return position


def _tuple_of(count):
    def push(machine, stack, data, position):
        items = tuple(stack[-count:])
        del stack[-count:]
        stack.append(items)
        return position

    return push


def _append(machine, stack, data, position):
    item = stack.pop()
    _extend(stack[-1], [item])
    return position


def _appends(machine, stack, data, position):
    items = machine.to_mark()
    _extend(stack[-1], items)
    return position


def _set_item(machine, stack, data, position):
    value, key = stack.pop(), stack.pop()
    _put(stack[-1], (key, value))
    return position


def _set_items(machine, stack, data, position):
    items = machine.to_mark()
    _put(stack[-1], items)
    return position


def _frozen_set(machine, stack, data, position):
    machine.to_mark()
    stack.append(_IGNORED)
    return position


def _global(machine, stack, data, position):
    module, position = _line(data, position)
    name, position = _line(data, position)
    stack.append(_find(module, name))
    return position


def _stack_global(machine, stack, data, position):
    name, module = stack.pop(), stack.pop()
    if type(name) is not str or type(module) is not str:
        raise ValueError("its pickle imports something without a name")
    stack.append(_find(module[:1000], name[:1000]))
    return position


def _call(machine, stack, data, position):
    arguments, name = stack.pop(), stack.pop()
    if type(name) is not _Name or type(arguments) is not tuple:
        raise ValueError("its pickle calls what it has not imported")
    stack.append(name.call(machine, arguments))
    return position


def _build(machine, stack, data, position):
    state, target = stack.pop(), stack[-1]
    if type(target) is Namespace and type(state) is dict:
        target.values.update(machine.copies(state))
    # The `OrderedDict` of a model has `_metadata`, which weights don't need.
    elif type(target) not in (_Ignored, dict):
        raise ValueError("its pickle changes what can't be changed")
    return position


def _persistent(machine, stack, data, position):
    """A storage: the only objects that lie outside the pickle."""
    said = stack.pop()
    if type(said) is not tuple or not 5 <= len(said) <= 6:
        raise ValueError("its pickle refers to something that is no storage")
    what, kind, key, _, numel, *view = said
    if what != "storage" or type(kind) is not Kind or type(key) is not str:
        raise ValueError("its pickle refers to something that is no storage")
    if type(numel) is not int or not 0 <= numel < 2**63:
        raise ValueError("a storage has an impossible size")
    if view and view[0] is not None:
        raise ValueError("a storage is part of another, as of PyTorch before 0.4")
    stack.append(machine.open_storage(kind, key, numel))
    return position


_STOP, _BINGET, _BININT1, _LONG_BINPUT = b".hKr"
_INDEX = struct.Struct("<I").unpack_from
_INSTRUCTIONS = {
    ord(code): instruction
    for code, instruction in {
        b"\x80": _skip(1),  # PROTO
        b"\x95": _skip(8),  # FRAME
        b"N": _constant(None),
        b"\x88": _constant(True),
        b"\x89": _constant(False),
        b"M": _number("<H"),
        b"J": _number("<i"),
        b"G": _number(">d"),
        b"\x8a": _sized("<B", _to_integer),  # LONG1, of at most 255 bytes
        b"X": _sized("<I", _to_text),
        b"\x8c": _sized("<B", _to_text),
        b"\x8d": _sized("<Q", _to_text),
        b"U": _sized("<B", _to_ascii),  # Text of Python 2.
        b"T": _sized("<i", _to_ascii),
        b"C": _sized("<B", bytes),
        b"B": _sized("<I", bytes),
        b"\x8e": _sized("<Q", bytes),
        b")": _constant(()),
        b"]": _container(list),
        b"}": _container(dict),
        b"\x8f": _constant(_IGNORED),  # EMPTY_SET
        b"\x90": _pop_mark,  # ADDITEMS
        b"\x91": _frozen_set,
        b"(": _mark,
        b"0": _pop,
        b"1": _pop_mark,
        b"t": _tuple,
        b"\x85": _tuple_of(1),
        b"\x86": _tuple_of(2),
        b"\x87": _tuple_of(3),
        b"a": _append,
        b"e": _appends,
        b"s": _set_item,
        b"u": _set_items,
        b"q": _store,
        b"\x94": _memoize,
        b"j": _recall,
        b"c": _global,
        b"\x93": _stack_global,
        b"R": _call,
        b"\x81": _call,  # NEWOBJ
        b"b": _build,
        b"Q": _persistent,
    }.items()
}

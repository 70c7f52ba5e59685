"""Fuzz `read_checkpoint`: mutated and generated pickles, and mutated files."""

import argparse
import io
import json
import pickle
import struct
import sys
import zipfile

import fuzzing
import numpy as np

from keras_qkformer.convert import read_checkpoint, write_checkpoint

MAGIC = 0x1950A86A20F9469CFC6C
START = (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True})
NAMES = (
    b"collections\nOrderedDict\n",
    b"argparse\nNamespace\n",
    b"torch\nSize\n",
    b"torch\nFloatStorage\n",
    b"torch\nBFloat16Storage\n",
    b"torch._utils\n_rebuild_tensor_v2\n",
    b"torch._utils\n_rebuild_parameter\n",
    b"torch\ndevice\n",
    b"_codecs\nencode\n",
    b"os\nsystem\n",
    b"builtins\neval\n",
)
EXTREMES = (0, 1, 127, 128, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def text(value):
    """The instruction that pushes a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def zipped(path, pickled, sizes=(48,)):
    """Write a zip like PyTorch's with a pickle and storages of so many bytes."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, size in enumerate(sizes):
            file.writestr(f"archive/data/{key}", bytes(range(256))[:size])


def legacy(path, pickled, keys=("0",), size=12):
    """Write a file like PyTorch's before 1.6."""
    parts = [pickle.dumps(part, protocol=2) for part in START]
    parts += [pickled, pickle.dumps(list(keys), protocol=2)]
    parts += [struct.pack("<q", size) + bytes(4 * size) for _ in keys]
    path.write_bytes(b"".join(parts))


def training_pickle():
    """The pickle of a whole training checkpoint with three tensors."""
    arrays = {
        "head.weight": np.ones((3, 4), "f4"),
        "head.bias": np.ones(12, "f4"),
        "counter": np.array(7, "i8"),
    }
    file = io.BytesIO()
    write_checkpoint(file, arrays)
    with zipfile.ZipFile(file) as archive:
        weights = archive.read("archive/data.pkl")[2:-1]
    rest = {
        "args": argparse.Namespace(time_step=4, model="QKFormer", mean=(0.1, 0.2)),
        "optimizer": {"state": {0: {"step": 3.0}}, "param_groups": [{"lr": 6e-4}]},
        "epoch": 199,
    }
    parts = [text(key) + pickle.dumps(value, 2)[2:-1] for key, value in rest.items()]
    return b"\x80\x02}(" + text("state_dict") + weights + b"".join(parts) + b"u."


PICKLE = training_pickle()


def mutate(random, data):
    """Change a few bytes or parts of data."""
    data = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(data) + 1)
        end = place + random.randrange(1, 30)
        match random.randrange(7):
            case 0:
                data[place:end] = random.randbytes(end - place)
            case 1:
                del data[place:end]
            case 2:
                data[place:place] = data[place:end] * random.randrange(1, 50)
            case 3:
                data[place : place + 1] = bytes([random.choice(_CODES)])
            case 4:
                data[place : place + 1] = b"c" + random.choice(NAMES)
            case 5:
                width = random.choice((1, 2, 4, 8))
                value = random.choice(EXTREMES) % 256**width
                data[place : place + width] = value.to_bytes(width, "little")
            case 6 if random.randrange(10) == 0:
                del data[place:]
            case 6:
                data[place : place + 1] = bytes([data[place % len(data)] ^ 1])
        if not data:
            return b"\x80"
    return bytes(data)


_CODES = (
    b"(.012FILMNPQRSTUVX]abcdeghijlopqrstu})\x80\x81\x82\x85\x86\x87\x88\x89\x8a"
    b"\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98BCDGJK"
)


def generate(random):
    """A program of random instructions that mostly have what they need."""
    parts = [b"\x80\x02"]
    for _ in range(random.randrange(1, 300)):
        parts.append(_instruction(random))
    return b"".join(parts) + b"." * random.randrange(2)


def _instruction(random):
    number = random.randrange(24)
    small = bytes([random.randrange(6)])
    match number:
        case 0:
            return b"K" + small
        case 1:
            return b"J" + random.randbytes(4)
        case 2:
            return b"h" + small
        case 3:
            return b"q" + small
        case 4:
            return b"c" + random.choice(NAMES[:9])
        case 5:
            return text(random.choice(("a", "storage", "0", "model", "args", "cpu")))
        case 6:
            return b"r" + random.randbytes(4)
        case 7:
            return b"\x8a\x09" + random.randbytes(9)
        case 8:
            return b"(K\x03K\x04t"
        case 9:
            storage = b"ctorch\nFloatStorage\n" + text("0")
            return b"(" + text("storage") + storage + b"NK\x0ctQ"
        case 10:
            return b"ctorch._utils\n_rebuild_tensor_v2\n"
        case 11:
            return b"G" + random.randbytes(8)
    simple = b"((ttt]}}){)\x85\x86\x87Rbsauue\x81Q02N\x88"
    return bytes([simple[random.randrange(len(simple))]])


def safetensors(path):
    """Write a file of two arrays."""
    header = {
        "a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [48, 52]},
    }
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(range(52)))


def case(random, folder):
    """One hostile file, read whole."""
    path = folder / "w.pth"
    kind = random.randrange(8)
    if kind < 3:
        zipped(path, mutate(random, PICKLE), (48, 48, 8))
    elif kind < 6:
        zipped(path, generate(random))
    elif kind == 6:
        legacy(
            path, mutate(random, PICKLE) if random.randrange(2) else generate(random)
        )
    else:
        _mutated_file(random, path)
    return read_whole(path)


def _mutated_file(random, path):
    match random.randrange(4):
        case 0:
            zipped(path, PICKLE, (48, 48, 8))
        case 1:
            legacy(path, PICKLE, ("0", "1", "2"))
        case 2:
            safetensors(path)
        case 3:
            np.savez_compressed(path.with_suffix(".npz"), a=np.ones((3, 4)), b=[1, 2])
            path.with_suffix(".npz").rename(path)
    path.write_bytes(mutate(random, path.read_bytes()))


def read_whole(path):
    """Read a checkpoint and all its arrays."""
    for array in read_checkpoint(path).arrays.values():
        np.asarray(array)
    return "loaded"


def main(arguments=None):
    """Run the fuzzer; see `fuzzing.main`."""
    return fuzzing.main(case, arguments)


if __name__ == "__main__":
    sys.exit(main())

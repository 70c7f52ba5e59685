"""Files of weights: read without PyTorch, refused when hostile or damaged."""

import argparse
import collections
import json
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest

from keras_qkformer.convert import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.backend_independent

ARRAYS = {
    "head.weight": np.arange(12, dtype="float32").reshape(3, 4),
    "head.bias": np.array([0.5, -1.0, 2.0], "float32"),
    "counter": np.array(7, "int64"),
}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="writes the file")


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def values(checkpoint):
    return {name: np.asarray(array) for name, array in checkpoint.arrays.items()}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array)


def test_what_is_written_is_read_without_pytorch(tmp_path, without_torch):
    write_checkpoint(tmp_path / "w.pth", ARRAYS)
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    for name, array in checkpoint.arrays.items():  # Known before it is read.
        wanted = ARRAYS[name]
        assert (array.size, array.nbytes) == (wanted.size, wanted.nbytes)
    assert_equal(values(checkpoint), ARRAYS)
    assert (checkpoint.entry, checkpoint.others, checkpoint.facts) == (None, (), {})


def test_pytorch_loads_what_is_written(tmp_path, torch):
    write_checkpoint(tmp_path / "w.pth", ARRAYS)
    loaded = torch.load(tmp_path / "w.pth", weights_only=True)
    assert type(loaded) is collections.OrderedDict
    assert_equal({name: tensor.numpy() for name, tensor in loaded.items()}, ARRAYS)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_imagenet_layout_is_read(tmp_path, torch, zipped):
    weights = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    parameter = torch.nn.Parameter(torch.ones(5))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    content = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "epoch": 203,
        "scaler": {"scale": 65536.0, "growth_interval": 2000},
        "args": argparse.Namespace(
            time_step=4, device=torch.device("cpu"), ratio=np.float64(0.5)
        ),
    }
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert_equal(values(checkpoint), ARRAYS)
    assert checkpoint.entry == "model"
    assert checkpoint.facts == {"epoch": 203, "args.time_step": 4}


def test_the_cifar_layout_loses_its_prefix_and_may_give_its_average(tmp_path, torch):
    def prefixed(change):
        return {
            f"module.{name}": torch.from_numpy(np.asarray(array + change))
            for name, array in ARRAYS.items()
        }

    content = {"state_dict": prefixed(0), "state_dict_ema": prefixed(1), "metric": 96.2}
    torch.save(content, tmp_path / "w.pth.tar")
    checkpoint = read_checkpoint(tmp_path / "w.pth.tar")
    assert_equal(values(checkpoint), ARRAYS)
    assert checkpoint.others == ("state_dict_ema",)
    assert checkpoint.facts == {"metric": 96.2}
    average = read_checkpoint(tmp_path / "w.pth.tar", entry="state_dict_ema")
    np.testing.assert_array_equal(values(average)["counter"], 8)
    with pytest.raises(ValueError, match=r"entry='model'.*state_dict: dict"):
        read_checkpoint(tmp_path / "w.pth.tar", entry="model")


def test_views_and_narrow_types_are_read_exactly(tmp_path, torch):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    content = {
        "part": base[1:3, 1::2],
        "turned": base.T,
        "half": torch.tensor([1.5, -65504.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, -3e38], dtype=torch.bfloat16),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "flag": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save(content, tmp_path / "w.pth")
    found = values(read_checkpoint(tmp_path / "w.pth"))
    for name, tensor in content.items():
        tensor = tensor.detach()
        wanted = (tensor.float() if name == "brain" else tensor).numpy()
        assert_equal({name: found[name]}, {name: wanted})


def test_file_of_a_big_endian_machine_is_read_right(tmp_path):
    arrays = {
        "single": np.array([[1.5, -2.0, 3e-5]], "float32"),
        "double": np.array([1 / 3], "float64"),
        "half": np.array([1.5, -65504.0], "float16"),
        "long": np.array([1, -2, 2**40], "int64"),
        "short": np.array([258, -3], "int16"),
        "byte": np.array([1, 255], "uint8"),
        # The upper halves of 1.5 and -2.0; the file says bfloat16.
        "brain": np.array([0x3FC0, -0x4000], "int16"),
    }
    write_checkpoint(tmp_path / "little.pth", arrays)
    with (
        zipfile.ZipFile(tmp_path / "little.pth") as little,
        zipfile.ZipFile(tmp_path / "big.pth", "w") as big,
    ):
        for key, array in enumerate(arrays.values()):
            assert little.read(f"archive/data/{key}") == array.tobytes()
            big.writestr(f"archive/data/{key}", array.byteswap().tobytes())
        start, found, end = little.read("archive/data.pkl").rpartition(b"ShortStorage")
        big.writestr("archive/data.pkl", start + b"BFloat16Storage" + end)
        assert found
        big.writestr("archive/byteorder", "big")
    wanted = {**arrays, "brain": np.array([1.5, -2.0], "float32")}
    assert_equal(values(read_checkpoint(tmp_path / "big.pth")), wanted)


def test_big_endian_file_before_pytorch_16_is_refused(tmp_path):
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}, {}, [])
    data = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(ValueError, match="byte order is unknown"):
        read_checkpoint(tmp_path / "w.pth")


def test_big_endian_arrays_of_an_npz_have_their_values(tmp_path):
    big = {
        name: array.byteswap().view(array.dtype.newbyteorder(">"))
        for name, array in ARRAYS.items()
    }
    np.savez(tmp_path / "w.npz", **big)
    write_checkpoint(tmp_path / "w.pth", big)
    for file in ("w.npz", "w.pth"):
        found = values(read_checkpoint(tmp_path / file))
        assert found.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype.isnative  # PyTorch takes no other.


def test_safetensors_are_read(tmp_path, without_torch):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in ARRAYS.items():
        header[name] = {
            "dtype": {"f": "F32", "i": "I64"}[array.dtype.kind],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    brain = np.array([1.5, -2.0], "float32")
    header["brain"] = {
        "dtype": "BF16",
        "shape": [2],
        "data_offsets": [len(data), len(data) + 4],
    }
    data += (brain.view("u4") >> 16).astype("u2").tobytes()
    text = json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    assert_equal(values(read_checkpoint(path)), {**ARRAYS, "brain": brain})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="'brain' does not fit its place"):
        read_checkpoint(path)


def test_npz_is_read_but_no_objects_in_it(tmp_path):
    np.savez(tmp_path / "w.npz", **ARRAYS)
    assert_equal(values(read_checkpoint(tmp_path / "w.npz")), ARRAYS)
    np.savez(tmp_path / "w.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_checkpoint(tmp_path / "w.npz")


class Hostile:
    """Its pickle calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(marker):
    """Objects whose unpickling would leave a file behind, and what they import."""
    code = f"open({str(marker)!r}, 'w').close()"
    system = f"{os.system.__module__}.system"
    return {
        system: Hostile(os.system, f"touch {marker}"),
        "builtins.eval": Hostile(eval, code),
        "builtins.exec": {"model": {"a": Hostile(exec, code)}},
        "builtins.getattr": Hostile(getattr, "a", "upper"),
        "numpy.load": {"args": argparse.Namespace(x=Hostile(np.load, str(marker)))},
    }


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("name", attacks("x"))
def test_hostile_pickle_is_refused_by_name_and_nothing_runs(tmp_path, form, name):
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    payload = pickle.dumps(attacks(marker)[name], protocol=2)
    if form == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", payload)
    else:
        start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        start = b"".join(pickle.dumps(part, protocol=2) for part in start)
        path.write_bytes((start if form == "legacy" else b"") + payload)
    imported = "__builtin__." + name.split(".")[1] if "builtins" in name else name
    with pytest.raises(ValueError, match=f"asks to import ({imported}|{name})"):
        read_checkpoint(path)
    assert not marker.exists()
    # The attack is real: Python's own unpickler would have run it.
    if name == "builtins.eval":
        pickle.loads(payload)
        assert marker.exists()


def test_pickle_can_not_change_what_it_is_given(tmp_path):
    stand_ins = b"ctorch._utils\n_rebuild_tensor_v2\n"
    for target in (
        stand_ins,
        b"cargparse\nNamespace\n",
        b"ccollections\nOrderedDict\n",
    ):
        # BUILD with (None, {"__call__": tuple}) sets an attribute.
        payload = (
            b"\x80\x02" + target + b"(N}X\x08\x00\x00\x00__call__ctorch\nSize\nstb."
        )
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
            file.writestr("archive/data.pkl", payload)
        with pytest.raises(ValueError, match=r"whole \.pth"):
            read_checkpoint(tmp_path / "w.pth")


def test_whole_model_says_how_to_save_it_again(tmp_path, torch):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"import torch.nn.*state_dict\(\), path"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated_file_is_an_error(tmp_path, torch, zipped, share):
    path = tmp_path / "w.pth"
    weights = {"a": torch.zeros(1000)}
    torch.save({"model": weights}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"must be a whole .pth.*Received: '.*w.pth'"):
        read_checkpoint(path)


def test_changed_byte_of_an_array_is_an_error_when_it_is_read(tmp_path):
    path = tmp_path / "w.pth"
    write_checkpoint(path, ARRAYS)
    data = path.read_bytes()
    start = data.index(ARRAYS["head.weight"].tobytes())
    path.write_bytes(data[:start] + b"\xff" + data[start + 1 :])
    checkpoint = read_checkpoint(path)
    with pytest.raises(ValueError, match=r"must be whole.*CRC"):
        np.asarray(checkpoint.arrays["head.weight"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # The sizes (3, 4) and strides (4, 1) of head.weight.
        (b"J\3\0\0\0J\4\0\0\0t", b"J\x09\0\0\0J\4\0\0\0t", "beyond its storage"),
        (b"J\4\0\0\0J\1\0\0\0t", b"J\xff\xff\xff\xffJ\1\0\0\0t", "strides"),
        (b"J\x0c\0\0\0t", b"J\x0d\0\0\0t", "is too short"),
        (b"cpu", b"c\x00u", None),
        (b"FloatStorage", b"FlautStorage", "import torch.FlautStorage"),
    ],
)
def test_tensor_stays_inside_its_storage(tmp_path, old, new, message):
    path, changed = tmp_path / "w.pth", tmp_path / "changed.pth"
    write_checkpoint(path, ARRAYS)
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(changed, "w") as out:
        for name in file.namelist():
            out.writestr(name, file.read(name).replace(old, new, 1))
    if message is None:
        assert_equal(values(read_checkpoint(changed)), ARRAYS)
    else:
        with pytest.raises(ValueError, match=message):
            read_checkpoint(changed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "first bytes"),
        (b"epoch,accuracy\n1,2\n", "first bytes"),
        (b"\x80\x02N.", "not of PyTorch"),
        (b"\xff" * 8 + b'{"a": 1}', "longer than the file"),
    ],
)
def test_other_files_are_errors(tmp_path, content, message):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(OSError, match=r"none\.pth"):
        read_checkpoint(tmp_path / "none.pth")


def test_file_without_weights_says_what_it_holds(tmp_path, torch):
    torch.save({"epoch": 3, "net": {"a": 1.0}}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"entry=None.*epoch: int, net: dict"):
        read_checkpoint(tmp_path / "w.pth")
    torch.save([torch.zeros(2)], tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"a dictionary of tensors.*list"):
        read_checkpoint(tmp_path / "w.pth")


def test_storages_that_end_beyond_any_file_are_refused(tmp_path):
    numel = b"\x8a\x08" + struct.pack("<q", 2**62)
    storages = [
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
        b"DoubleStorage\nX\x01\x00\x00\x00" + name + b"X\x03\x00\x00\x00cpu" + numel
        + b"tQK\x00)(t\x89}tR"
        for name in (b"a", b"b")
    ]  # fmt: skip
    items = [b"X\x01\x00\x00\x00%d%b" % item for item in enumerate(storages)]
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    parts = [pickle.dumps(part, protocol=2) for part in start]
    parts += [b"\x80\x02}(" + b"".join(items) + b"u.", pickle.dumps(["a", "b"], 2)]
    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(parts) + struct.pack("<q", 2**62))
    with pytest.raises(ValueError, match="its end is missing"):
        read_checkpoint(path)

"""Files of weights made to hang, crash, or fill the memory: refused within bounds."""

import argparse
import copyreg
import json
import pickle
import struct
import sys
import time
import types
import zipfile

import fuzzing
import numpy as np
import pytest
from authors_shapes import authors_shapes
from fuzz import checkpoints
from fuzz.checkpoints import legacy, read_whole, text, zipped

from keras_qkformer.convert import (
    load_state_dict,
    read_checkpoint,
    write_checkpoint,
)
from keras_qkformer.convert.recognition import recognize
from keras_qkformer.models import SpikingClassifier

pytestmark = pytest.mark.backend_independent

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n"
NAMESPACE = b"cargparse\nNamespace\n"
BILLION = b"\x8a\x08" + struct.pack("<q", 10**12)


def storage(numel=b"K\x0c", kind=b"ctorch\nFloatStorage\n", end=b"t"):
    return b"(" + text("storage") + kind + text("0") + text("cpu") + numel + end + b"Q"


def tensor(*rest, **of_storage):
    return TENSOR + b"(" + storage(**of_storage) + b"".join(rest) + b"tR"


def state(*values):
    """A pickle of a dictionary of these values, under the names 0, 1, 2, ..."""
    items = [text(str(number)) + value for number, value in enumerate(values)]
    return b"\x80\x02}(" + b"".join(items) + b"u."


WHOLE = tensor(b"K\x00K\x0c\x85K\x01\x85\x89})")
# Hostile programs of a pickle, and what the refusal says.
PICKLES = {
    "a key of 300,000 nested tuples": (
        b"\x80\x02})" + 300_000 * b"\x85" + b"K\x01s.",
        "a key that is neither a string nor",
    ),
    "a key whose hash takes forever": (
        b"\x80\x02})" + 100 * b"q\x00h\x00\x86" + b"K\x01s.",
        "a key that is neither a string nor",
    ),
    "integer keys of one hash": (
        b"\x80\x02}(\x8a\x09" + (3 * (2**61 - 1)).to_bytes(9, "little") + b"Nu.",
        "a key that is neither a string nor",
    ),
    "values of 300,000 nested lists": (
        b"\x80\x02}(" + text("a") + 300_000 * b"]" + 299_999 * b"a" + b"u.",
        "with a: list",
    ),
    "a memo index of 150 million": (
        b"\x80\x02}r" + struct.pack("<I", 150_000_000) + b".",
        "must be a state dict",
    ),
    "a storage named by a nest of tuples": (
        b"\x80\x02)" + 100 * b"q\x00h\x00\x86" + b"Q.",
        "no storage",
    ),
    "a tensor of a nest of tuples": (
        b"\x80\x02" + TENSOR + b"()" + 100 * b"q\x00h\x00\x86" + b"K\x00))tR.",
        "has no storage",
    ),
    "sizes that are a nest of tuples": (
        state(tensor(b"K\x00(" + b")" + 60 * b"q\x00h\x00\x86" + b"tK\x01\x85\x89})")),
        "all whole numbers",
    ),
    "a million sizes": (
        state(tensor(b"K\x00(" + 500_000 * b"K\x01" + b"tN\x89})")),
        "at most 64 axes",
    ),
    "a view of 10^12 numbers with stride 0": (
        state(tensor(b"K\x00" + BILLION + b"\x85K\x00\x85\x89})")),
        "more numbers than its storage",
    ),
    "a negative offset": (
        state(tensor(b"J\xff\xff\xff\xffK\x03\x85K\x01\x85\x89})")),
        "all whole numbers",
    ),
    "a negative stride": (
        state(tensor(b"K\x05K\x03\x85J\xff\xff\xff\xff\x85\x89})")),
        "all whole numbers",
    ),
    "a storage of a negative size": (
        state(tensor(b"K\x00)))", numel=b"J\xff\xff\xff\xff")),
        "impossible size",
    ),
    "a storage larger than its entry": (
        state(tensor(b"K\x00)))", numel=BILLION)),
        "is too short",
    ),
    "a storage of a type that is a text": (
        state(tensor(b"K\x00)))", kind=text("O"))),
        "no storage",
    ),
    "a storage that is part of another": (
        state(tensor(b"K\x00)))", end=b"K\x00t")),
        "part of another",
    ),
    "a dictionary copied again and again": (
        b"\x80\x02"
        + ORDERED
        + b"]("
        + 10_000 * b"K\x01K\x02\x86"
        + b"e\x85q\x00"
        + 10_000 * (ORDERED + b"h\x00R")
        + b".",
        "copies more than",
    ),
    "options copied again and again": (
        b"\x80\x02}("
        + b"".join(text(str(number)) + b"N" for number in range(10_000))
        + b"uq\x00"
        + NAMESPACE
        + b")\x81"
        + 10_000 * b"h\x00b"
        + b".",
        "copies more than",
    ),
    "as many instructions as fit": (b"\x80\x02" + 2_000_000 * b"}", "steps"),
    "a name of a million letters": (
        b"\x80\x02c" + 1_000_000 * b"a" + b"\nb\n.",
        "a name without an end",
    ),
    "an import of a long name": (
        b"\x80\x02c" + 900 * b"\x1b" + b"\nb\n.",
        "asks to import",
    ),
    "one state dict under 20,000 names": (
        b"\x80\x02}("
        + b"".join(text(f"a{number}") + WHOLE for number in range(2_000))
        + b"uq\x00}("
        + b"".join(text(f"b{number}") + b"h\x00" for number in range(20_000))
        + b"u.",
        "must be a state dict",
    ),
    "entries with long names full of escapes": (
        b"\x80\x02}(" + text(100_000 * "\x1b[2J") + b"K\x01u.",
        "must be a state dict",
    ),
}


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickle_is_refused_within_bounds(tmp_path, name):
    pickled, message = PICKLES[name]
    zipped(tmp_path / "w.pth", pickled)
    assert fuzzing.ending(read_whole, tmp_path / "w.pth") == "refused"
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("name", [name for name in PICKLES if "a " in name[:2]])
def test_hostile_pickle_of_old_is_refused_within_bounds(tmp_path, name):
    legacy(tmp_path / "w.pth", PICKLES[name][0])
    assert fuzzing.ending(read_whole, tmp_path / "w.pth") == "refused"


def test_long_text_beside_the_weights_is_not_kept(tmp_path):
    pickled = (
        b"\x80\x02}("
        + text("model")
        + state(WHOLE)[2:-1]
        + text("args")
        + NAMESPACE
        + b")\x81}("
        + text("x" * 5000)
        + b"K\x01"
        + text("note")
        + text("y" * 5000)
        + text("T")
        + b"K\x04ub"
        + b"".join(text(f"n{number}") + b"K\x01" for number in range(2000))
        + b"u."
    )
    zipped(tmp_path / "w.pth", pickled)
    facts = read_checkpoint(tmp_path / "w.pth").facts
    assert facts["args.T"] == 4
    assert len(facts) == 1001
    assert max(map(len, facts)) < 20


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_entry_that_inflates_is_refused(tmp_path, name):
    path = tmp_path / "w.pth"
    entries = {"data.pkl": state(WHOLE), "data/0": bytes(48)}
    entries[name] += bytes(150 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for entry, data in entries.items():
            file.writestr(f"archive/{entry}", data)
    del entries
    assert fuzzing.ending(read_whole, path, most_bytes=100 << 20) == "refused"


def test_compressed_weights_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", state(WHOLE))
        file.writestr("archive/data/0", bytes(48))
    with pytest.raises(ValueError, match="data/0 is compressed"):
        read_checkpoint(tmp_path / "w.pth")


def test_pickle_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02X" + struct.pack("<I", 2**31 - 1))
    with path.open("r+b") as file:
        file.truncate(2**31 + 100)  # A hole, which takes no room on the disk.
    assert fuzzing.ending(read_whole, path) == "refused"


def test_many_views_of_a_large_storage_take_no_longer_than_it(tmp_path):
    views = [tensor(b"K\x00K\x01\x85K\x01\x85\x89})", numel=BILLION)] * 4000
    count = 10 << 20
    pickled = state(*views).replace(BILLION, b"J" + struct.pack("<i", count))
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", bytes(4 * count))
    assert fuzzing.ending(read_whole, tmp_path / "w.pth") == "loaded"


def test_arrays_that_share_a_storage_may_not_grow_without_end(tmp_path):
    count = 1 << 20
    whole = tensor(
        b"K\x00" + b"J" + struct.pack("<i", count) + b"\x85K\x01\x85\x89})",
        numel=b"J" + struct.pack("<i", count),
    )
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("archive/data.pkl", state(*[whole] * 30))
        file.writestr("archive/data/0", bytes(4 * count))
    with pytest.raises(ValueError, match="must have at most"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("count", [-1, 11, 13, 2**62])
def test_storage_of_another_size_is_refused(tmp_path, count):
    legacy(tmp_path / "w.pth", state(WHOLE), size=12)
    data = (tmp_path / "w.pth").read_bytes()
    start, _, end = data.rpartition(struct.pack("<q", 12))
    (tmp_path / "w.pth").write_bytes(start + struct.pack("<q", count) + end)
    with pytest.raises(ValueError, match="another size"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("keys", [["0", "0"], ["1"], [], [7], [["0"]]])
def test_storages_are_those_of_the_tensors(tmp_path, keys):
    legacy(tmp_path / "w.pth", state(WHOLE), keys=keys)
    with pytest.raises(ValueError, match="list of storages"):
        read_checkpoint(tmp_path / "w.pth")


# Safetensors: changes of a header of two arrays, and what the refusal says.
A, B = ({"dtype": "F32", "shape": [2], "data_offsets": [n, n + 8]} for n in (0, 8))
HEADERS = {
    "overlapping": ({"a": A, "b": {**B, "data_offsets": [0, 8]}}, "follow another"),
    "with a gap": (
        {"a": A, "b": {**B, "shape": [1], "data_offsets": [12, 16]}},
        "foll",
    ),
    "not filling the file": ({"a": A}, "8 bytes of 16"),
    "of negative sizes": ({"a": {**A, "shape": [-2]}, "b": B}, "whole numbers"),
    "of huge sizes": ({"a": {**A, "shape": [2**62, 2**62]}, "b": B}, "not fit"),
    "of sizes whose product is 0": (
        {"a": {**A, "shape": [0, 2**62], "data_offsets": [0, 0]}, "b": B},
        "follow another",
    ),
    "of a million sizes": ({"a": {**A, "shape": [1] * 1_000_000}}, "whole numbers"),
    "of true and false": ({"a": {**A, "shape": [True, 2]}, "b": B}, "whole numbers"),
    "without a type": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, "dtype"),
    "of an unknown type": ({"a": {**A, "dtype": "F8_E4M3"}, "b": B}, "dtype"),
    "that are no objects": ({"a": [], "b": 3}, "dtype"),
    "backwards": ({"a": {**A, "data_offsets": [8, 0]}, "b": B}, "not fit"),
    "in a text of a list": ("[1]", "first bytes"),
    "named twice": (f'{{"a": {json.dumps(A)}, "a": {json.dumps(B)}}}', "twice"),
    "nested too deeply": ('{"a":' + 200_000 * "[" + 200_000 * "]" + "}", "deep"),
    "in a header of 9 MB": ('{"a": "' + "x" * 9_000_000 + '"}', "of at most"),
    "with a long name": ({"\x1b" * 100_000: {**A, "shape": [3]}}, "not fit"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_safetensors_have_places_of_their_own(tmp_path, name):
    header, message = HEADERS[name]
    head = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    assert fuzzing.ending(read_whole, path) == "refused"
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)


def npz(path, header, data=b"", version=b"\x01\x00"):
    """A `.npz` file of one array with any header."""
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", b"\x93NUMPY" + version + length + header + data)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,)}", "not fit"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "not fit|header"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "not fit"),
        (b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", "plain numbers"),
        (b"{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", "no header"),
        (b"(" * 900, "no header"),
        (b" " * 9000, "no header"),
        (b"open('marker', 'w')", "no header"),
        (b"", "no header"),
    ],
)
def test_npz_holds_arrays_of_the_size_of_their_entries(
    tmp_path, monkeypatch, header, message
):
    monkeypatch.chdir(tmp_path)
    header = header % 10**12 if b"%d" in header else header
    for version in (b"\x01\x00", b"\x02\x00"):
        npz(tmp_path / "w.npz", header, bytes(4), version)
        assert fuzzing.ending(read_whole, tmp_path / "w.npz") == "refused"
        with pytest.raises(ValueError, match=message):
            read_checkpoint(tmp_path / "w.npz")
    assert not (tmp_path / "marker").exists()


def test_npz_that_inflates_is_refused(tmp_path):
    zeros = np.zeros(5 << 20, "f4")
    np.savez_compressed(tmp_path / "w.npz", **{str(n): zeros for n in range(4)})
    with pytest.raises(ValueError, match="must have at most 67108864 bytes"):
        read_checkpoint(tmp_path / "w.npz")


def test_npz_in_the_order_of_columns_is_read(tmp_path):
    array = np.asfortranarray(np.arange(24, dtype="f8").reshape(2, 3, 4))
    np.savez(tmp_path / "w.npz", a=array)
    found = read_checkpoint(tmp_path / "w.npz").arrays["a"]
    np.testing.assert_array_equal(np.asarray(found), array)


def test_other_containers_are_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["a"] = np.zeros(3)
    with pytest.raises(ValueError, match="first bytes"):
        read_checkpoint(tmp_path / "w.h5")


# How a pickle can run a function, each for `ran.it(1)` of the module below.
WAYS = {
    "REDUCE": b"cran\nit\nK\x01\x85R.",
    "STACK_GLOBAL": text("ran") + text("it") + b"\x93K\x01\x85R.",
    "INST": b"(K\x01iran\nit\n.",
    "OBJ": b"(cran\nit\nK\x01o.",
    "NEWOBJ": b"cran\nIt\n)\x81.",
    "NEWOBJ_EX": b"cran\nIt\n)}\x92.",
    "BUILD": b"cran\nIt\n)\x81}b.",
    "EXT1": b"\x82\xf0K\x01\x85R.",
    "EXT2": b"\x83\xf0\x00K\x01\x85R.",
    "EXT4": b"\x84\xf0\x00\x00\x00K\x01\x85R.",
}


@pytest.mark.parametrize("form", [zipped, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("way", WAYS)
def test_no_instruction_runs_code(tmp_path, monkeypatch, form, way):
    ran = []

    class It:
        def __new__(cls):
            ran.append(2)
            return object.__new__(cls)

    module = types.SimpleNamespace(it=ran.append, It=It)
    monkeypatch.setitem(sys.modules, "ran", module)
    monkeypatch.setitem(copyreg._inverted_registry, 0xF0, ("ran", "it"))
    pickled = b"\x80\x02" + WAYS[way]
    form(tmp_path / "w.pth", pickled)
    with pytest.raises(ValueError, match=r"asks to import ran|has the instruction"):
        read_checkpoint(tmp_path / "w.pth")
    assert ran == []
    pickle.loads(pickled)  # Python's own unpickler runs it.
    assert ran
    copyreg.clear_extension_cache()


@pytest.mark.parametrize("pickled", [b"\x80\x02Pabc\n.", b"\x80\x02(K\x01tQ."])
def test_only_storages_are_referred_to(tmp_path, pickled):
    zipped(tmp_path / "w.pth", pickled)
    with pytest.raises(ValueError, match=r"no storage|has the instruction"):
        read_checkpoint(tmp_path / "w.pth")


def test_checkpoint_of_python_2_and_of_protocol_4_are_read(tmp_path):
    """Texts as bytes and a list of pairs; short texts, frames, memo and sets."""
    pairs = b"]](U\x01a" + WHOLE + b"ea"
    zipped(tmp_path / "2.pth", b"\x80\x02" + ORDERED + pairs + b"\x85R.")
    assert list(read_checkpoint(tmp_path / "2.pth").arrays) == ["a"]
    options = argparse.Namespace(ratio=0.5, tags={"a"}, few=frozenset((1,)), n=2**40)
    rest = pickle.dumps(options, protocol=4)
    rest = rest[rest.index(b"\x8c\x08argparse") : -1]
    head = b"\x80\x04\x95" + struct.pack("<Q", 99) + b"}("
    model = text("model") + b"}" + text("a") + WHOLE + b"s"
    # The memo of the options starts at 0, like that of a pickle of their own.
    zipped(tmp_path / "4.pth", head + text("args") + rest + model + b"u.")
    found = read_checkpoint(tmp_path / "4.pth")
    assert found.facts == {"args.ratio": 0.5, "args.n": 2**40}
    np.testing.assert_array_equal(
        np.asarray(found.arrays["a"]), np.frombuffer(bytes(range(48)), "f4")
    )


def test_a_thousand_mutated_and_a_thousand_generated_files_end_within_bounds():
    counts = fuzzing.run(checkpoints.case, seed=0, least=2400)
    assert counts["FAILED"] == 0
    assert counts["loaded"] > 20
    assert counts["refused"] > 1000


@pytest.mark.parametrize("what", ["time", "memory", "error", "message"])
def test_fuzzer_sees_what_it_looks_for(what, monkeypatch, capsys):
    def bad(random, folder):
        if what == "time":
            monkeypatch.setattr(fuzzing, "MOST_SECONDS", 0.001)
            end = time.process_time() + 0.01
            while time.process_time() < end:
                pass
        elif what == "memory":
            np.ones(fuzzing.MOST_BYTES // 4, "f8")
        elif what == "error":
            raise KeyError("x")
        else:
            raise ValueError("\x1b" if random.randrange(2) else "x" * 5000)

    assert fuzzing.main(bad, ["--seconds", "0", "--least", "1"]) == 1
    assert "case 0 of seed 0" in capsys.readouterr().out


def test_reading_keeps_up_with_a_large_file(tmp_path):
    """Some 10,000 arrays: the limits leave room for the largest models."""
    arrays = {f"layer{n}.weight": np.ones(3, "f4") for n in range(9000)}
    write_checkpoint(tmp_path / "w.pth", arrays)
    assert fuzzing.ending(read_whole, tmp_path / "w.pth") == "loaded"


TINY = {"family": "cifar", "embed_dim": 64, "depths": (1, 1), "mlp_ratio": 4}


@pytest.mark.parametrize(
    "what", ["depth", "depth of many digits", "width", "classes", "ratio"]
)
def test_model_is_no_larger_than_its_weights(what):
    """A few names or a long bias would make a model of terabytes."""
    arrays = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in authors_shapes(**TINY).items()
    }
    options = {"num_heads": 2, "time_steps": 1, "image_size": 32, "static": True}
    assert recognize(arrays, options=options).arguments["embed_dim"] == 64
    name, shape = {
        "depth": ("stage2.9999.mlp.mlp1_bn.weight", (1,)),
        "depth of many digits": (f"stage2.{9 * 5000 * '1'}.mlp.mlp1_bn.weight", (1,)),
        "width": ("patch_embed2.proj4_conv.weight", (10**6, 1, 1, 1)),
        "classes": ("head.weight", (10**7,)),
        "ratio": ("stage1.0.mlp.mlp1_conv.weight", (10**7, 1, 1, 1)),
    }[what]
    arrays[name] = np.broadcast_to(np.float32(0), shape)
    if "digits" in what:
        assert recognize(arrays, options=options).arguments["depths"] == (1, 1)
    else:
        with pytest.raises(ValueError, match="must be those of a whole model"):
            recognize(arrays, options=options)


@pytest.mark.parametrize("value", [10**9, 0, -4])
@pytest.mark.parametrize("name", ["args.time_step", "args.input_size"])
def test_options_in_the_file_have_limits(name, value):
    arrays = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in authors_shapes(**TINY).items()
    }
    facts = {"args.time_step": 4, "args.input_size": 32}
    options = {"num_heads": 2, "static": True}
    assert recognize(arrays, None, options, facts).arguments["time_steps"] == 4
    with pytest.raises(ValueError, match="must be given"):
        recognize(arrays, None, options, {**facts, name: value})


def test_names_from_the_file_are_listed_in_one_bounded_line():
    names = [f"\x1b[2J{number}" for number in range(1000)]
    model = SpikingClassifier.from_preset("qkformer_tiny")
    with pytest.raises(ValueError, match="and 950 more") as found:
        load_state_dict(model, dict.fromkeys(names, np.zeros(1)))
    assert str(found.value).isprintable()
    with pytest.raises(ValueError, match="such as") as found:
        recognize(dict.fromkeys(["x" * 10**6, "\x1b"], np.zeros(1)))
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 1000

"""Weights as HDF5 and as safetensors: either gives the model, or one clear error."""

import json
import shutil
import struct

import fuzzing
import numpy as np
import pytest
from harness import to_numpy

from keras_qkformer.manifest import write_manifest
from keras_qkformer.models import QKFormerClassifier, SpikingClassifier, classifier
from keras_qkformer.presets.folders import (
    CONFIG_FILE,
    SAFETENSORS_FILE,
    WEIGHTS_FILE,
    WEIGHTS_FILES,
)
from keras_qkformer.safetensors_file import read_safetensors, write_safetensors

SMALL = {"embed_dim": 16, "num_heads": 2, "time_steps": 1, "neuron": "plif"}


def make_model(**arguments):
    model = QKFormerClassifier.from_preset("qkformer_tiny", **{**SMALL, **arguments})
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 1, w.shape) for w in model.weights])
    return model


def test_either_format_gives_the_same_model_in_both_directions(tmp_path):
    model = make_model()
    model.compile("sgd", "mse")
    model.save_to_preset(tmp_path, weights_format="safetensors")
    assert not (tmp_path / WEIGHTS_FILE).exists()
    second = SpikingClassifier.from_preset(tmp_path)
    second.save_to_preset(tmp_path)
    assert not (tmp_path / SAFETENSORS_FILE).exists()
    third = SpikingClassifier.from_preset(tmp_path)
    for ours, theirs in zip(third.weights, model.weights, strict=True):
        assert ours.path == theirs.path
    for ours, theirs in zip(third.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_tensors_are_named_by_paths_and_laid_out_by_the_format(tmp_path):
    model = make_model()
    model.save_to_preset(tmp_path, weights_format="safetensors")
    data = (tmp_path / SAFETENSORS_FILE).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert len(header) == len(model.weights)
    entry = header["stage1_block1.attention.query.conv.kernel"]
    assert (entry["dtype"], entry["shape"]) == ("F32", [1, 1, 8, 8])
    start, end = entry["data_offsets"]
    stored = np.frombuffer(data[8 + length + start : 8 + length + end], "<f4")
    kernel = {w.path: w for w in model.weights}[
        "stage1_block1/attention/query/conv/kernel"
    ]
    np.testing.assert_array_equal(stored, to_numpy(kernel).ravel())


def change_tensors(change):
    def damage(folder):
        arrays = read_safetensors(folder / SAFETENSORS_FILE)
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        change(arrays)
        write_safetensors(folder / SAFETENSORS_FILE, arrays)

    return damage


INFINITE = np.array([np.inf, -np.inf, *[0] * 8], "float32")


def cut(folder):
    data = (folder / SAFETENSORS_FILE).read_bytes()
    (folder / SAFETENSORS_FILE).write_bytes(data[:-1])


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "does not fit its place"),
        (change_tensors(lambda a: a.pop("head.bias")), "first difference: 'head.bias'"),
        (change_tensors(lambda a: a.update(b=a["head.bias"])), "first difference: 'b'"),
        (
            change_tensors(lambda a: a.update({"head.bias": np.ones(9, "f4")})),
            r"'head\.bias' must have the shape \(10,\), not \(9,\)",
        ),
        (
            change_tensors(lambda a: a.update({"head.bias": np.full(10, np.nan)})),
            "Weights must be finite. Received: head/bias",
        ),
        (
            change_tensors(lambda a: a.update({"head.bias": INFINITE})),
            "Weights must be finite. Received: head/bias",
        ),
        (lambda f: (f / WEIGHTS_FILE).write_bytes(b"1"), "must have one file of weigh"),
    ],
)
def test_damaged_tensors_are_told(tmp_path, damage, message):
    make_model().save_to_preset(tmp_path, weights_format="safetensors")
    damage(tmp_path)
    with pytest.raises(ValueError, match=r"model\."):  # By the manifest.
        SpikingClassifier.from_preset(tmp_path)
    write_manifest(tmp_path)
    with pytest.raises(ValueError, match=message):
        SpikingClassifier.from_preset(tmp_path)


@pytest.mark.backend_independent
@pytest.mark.parametrize("weights_format", WEIGHTS_FILES)
def test_weights_that_change_after_they_were_verified_are_not_used(
    tmp_path, monkeypatch, weights_format
):
    model, folder = make_model(), tmp_path / "folder"
    model.save_to_preset(folder, weights_format=weights_format)
    expected = model.get_weights()
    model.set_weights([2 * values for values in expected])
    model.save_to_preset(tmp_path / "other", weights_format=weights_format)
    load = classifier.load_finite_weights

    def exchange_and_load(*arguments):
        name = WEIGHTS_FILES[weights_format]
        shutil.copy(tmp_path / "other" / name, folder / name)
        load(*arguments)

    monkeypatch.setattr(classifier, "load_finite_weights", exchange_and_load)
    loaded = SpikingClassifier.from_preset(folder).get_weights()
    for values, wanted in zip(loaded, expected, strict=True):
        np.testing.assert_array_equal(values, wanted)


@pytest.mark.backend_independent
def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"weights_format must be one of.*'pickle'"):
        make_model().save_to_preset(tmp_path / "new", weights_format="pickle")
    assert not (tmp_path / "new").exists()


@pytest.mark.backend_independent
def test_arrays_of_all_widths_come_back(tmp_path):
    dtypes = pytest.importorskip("ml_dtypes", reason="of TensorFlow and JAX")
    values = np.array([[0.5, -2.0, 1.5]])
    arrays = {d: values.astype(d) for d in ("float16", "float32", "float64")}
    arrays["bfloat16"] = values.astype(dtypes.bfloat16)
    write_safetensors(tmp_path / "w", {**arrays, "scalar": np.float32(3)[()]})
    found = read_safetensors(tmp_path / "w")
    for name in arrays:
        np.testing.assert_array_equal(np.asarray(found[name]), values)
    assert np.asarray(found["scalar"]) == 3


def bomb(name, shape):
    """Damage that leaves an array of any size, of which nothing is stored."""

    def damage(folder):
        import h5py

        with h5py.File(folder / WEIGHTS_FILE, "a") as file:
            if name in file:
                del file[name]
            options = {"chunks": (1 << 16,), "compression": "gzip"}
            file.create_dataset(name, shape, "f4", **options)

    return damage


def nest(folder):
    """Groups in each other, each in some 150 bytes."""
    import h5py

    with h5py.File(folder / WEIGHTS_FILE, "a", libver="latest") as file:
        group = file
        for _ in range(1000):
            group = group.create_group("a")


def enlarge(**arguments):
    def damage(folder):
        config = json.loads((folder / CONFIG_FILE).read_text())
        (folder / CONFIG_FILE).write_text(json.dumps({**config, **arguments}))

    return damage


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (bomb("layers/head/vars/1", (1 << 40,)), "numbers of at most 67,108,864 by"),
        (bomb("more", (1 << 25,)), "numbers of at most 67,108,864 bytes"),
        (nest, "groups must be nested 100 deep at most"),
        (enlarge(embed_dim=8192, depths=[500, 500], num_heads=1), "a whole one"),
        (enlarge(num_classes=1_000_000, embed_dim=8192), "of at least 8,"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "no such file"),
    ],
)
def test_a_small_folder_does_not_become_a_large_model(tmp_path, damage, message):
    make_model().save_to_preset(tmp_path)
    damage(tmp_path)
    write_manifest(tmp_path)
    before = fuzzing.peak_bytes(reset=True)
    with pytest.raises(ValueError, match=message):
        SpikingClassifier.from_preset(tmp_path)
    assert fuzzing.peak_bytes() - before < fuzzing.MOST_BYTES

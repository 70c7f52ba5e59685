"""Checkpoints to preset folders and back, exactly or not at all."""

import json
import pickle
import re
import sys
import zipfile
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from authors_shapes import authors_shapes, random_arrays
from golden_models import (
    LARGE,
    MAX_FORMERS,
    QKFORMER,
    RELATIVES,
    SEWS,
    SMALL,
    Golden,
)
from harness import to_numpy
from model_harness import compiled, random_inputs, settle

from keras_qkformer.convert import (
    checkpoint_to_preset,
    preset_to_checkpoint,
    read_checkpoint,
    verify_preset,
    write_checkpoint,
)
from keras_qkformer.convert.convert import UNUSED_FILE
from keras_qkformer.convert.published_code import CODES
from keras_qkformer.manifest import write_manifest
from keras_qkformer.mistakes import is_mistake
from keras_qkformer.models import (
    PRESETS,
    Preset,
    QKFormerBackbone,
    QKFormerClassifier,
    SpikingClassifier,
)

TINY = {
    "family": "cifar",
    "embed_dim": 32,
    "depths": (1, 1),
    "mlp_ratio": 2,
    "num_classes": 5,
    "in_channels": 1,
}
# Tensors without effect of the relatives' code.
DEAD = r"\bnorm\d?\.|^pos_embed|talking_heads\.|(attn|rpe)_lif\."
TINY_OPTIONS = {"num_heads": 4, "image_size": 8, "time_steps": 3}


@pytest.fixture
def golden(request, shared_golden):
    return Golden(request.param, shared_golden)


@pytest.fixture
def tiny(tmp_path):
    """Weights of a tiny model, and the file that holds them."""
    arrays = random_arrays(authors_shapes(**TINY))
    write_checkpoint(tmp_path / "tiny.pth", arrays)
    return arrays, tmp_path / "tiny.pth"


def options_of(golden):
    """What the names and shapes of a golden file do not tell."""
    arguments = golden.family.arguments(golden.config)
    family = golden.config["family"] if "variant" in golden.config else "qkformer"
    told = CODES[family].read_sizes(golden.weights)
    # Whether the input is images follows from its channels.
    return {k: v for k, v in arguments.items() if k not in {*told, "static"}}


def convert(path, out, options=None, **arguments):
    options = TINY_OPTIONS if options is None else options
    return checkpoint_to_preset(path, out, options=options, **arguments)


def assert_same_arrays(path, wanted):
    """Every array of a file is one of these, bit for bit."""
    found = read_checkpoint(path).arrays
    counters = [n for n in found if n.endswith("num_batches_tracked")]
    assert set(found) == set(wanted) | set(counters)
    for name in set(wanted) - set(counters):
        array = np.asarray(found[name])
        assert array.dtype == wanted[name].dtype == "float32", name
        assert array.shape == wanted[name].shape, name
        assert array.tobytes() == np.ascontiguousarray(wanted[name]).tobytes(), name


@pytest.mark.parametrize(
    "golden",
    [
        SMALL,
        *(pytest.param(n, marks=pytest.mark.backend_independent) for n in QKFORMER),
    ],
    indirect=True,
)
def test_golden_checkpoint_gives_the_logits_of_the_authors(golden, tmp_path, float64):
    write_checkpoint(tmp_path / "a.pth", golden.weights)
    convert(tmp_path / "a.pth", tmp_path / "folder", options_of(golden))
    logits = compiled(SpikingClassifier.from_preset(tmp_path / "folder"))(golden.inputs)
    np.testing.assert_allclose(logits, golden.arrays["eval/logits"], rtol=0, atol=1e-9)


@pytest.mark.backend_independent
@pytest.mark.parametrize("golden", (SMALL, *LARGE), indirect=True)
def test_golden_checkpoint_comes_back(golden, tmp_path):
    write_checkpoint(tmp_path / "a.pth", golden.weights)
    # The twins of the relatives have no other test; PyTorch may be missing.
    verified = (*RELATIVES, *MAX_FORMERS, *SEWS)
    verify = golden.name in verified and find_spec("torch") is not None
    options = options_of(golden)
    found = convert(tmp_path / "a.pth", tmp_path / "folder", options, verify=verify)
    dead = {n for n in golden.weights if re.search(DEAD, n)}
    assert {*found["unused"]} == dead
    assert bool(dead) == (golden.name in RELATIVES)
    preset_to_checkpoint(tmp_path / "folder", tmp_path / "b.pth")
    assert_same_arrays(tmp_path / "b.pth", golden.weights)


@pytest.mark.backend_independent
def test_published_model_goes_through_a_file_and_back(tmp_path):
    name = "qkformer_2_256_cifar10_dvs"
    arrays = random_arrays(authors_shapes(**PRESETS[name].arguments))
    write_checkpoint(tmp_path / "a.pth", arrays)
    found = checkpoint_to_preset(tmp_path / "a.pth", tmp_path / "folder")
    assert found["preset"] == name
    assert found["parameters"] == PRESETS[name].parameters
    preset_to_checkpoint(tmp_path / "folder", tmp_path / "b.pth")
    assert_same_arrays(tmp_path / "b.pth", arrays)


@pytest.mark.backend_independent
def test_metadata_says_what_came_from_where(tiny, tmp_path):
    progress = []
    convert(
        tiny[1],
        tmp_path / "folder",
        on_progress=lambda *numbers: progress.append(numbers),
    )
    total = sum(not n.endswith("num_batches_tracked") for n in tiny[0])
    assert progress == [(i + 1, total) for i in range(total)]
    metadata = json.loads((tmp_path / "folder" / "metadata.json").read_text())
    assert metadata["source"]["file"] == "tiny.pth"
    assert len(metadata["source"]["sha256"]) == 64
    assert metadata["assumed"]["num_heads"] == {"value": 4, "because": "given"}
    assert metadata["preset"] is None
    assert "reported" not in metadata
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["membrane_state"] == "sample"


@pytest.mark.backend_independent
def test_published_number_is_reported_and_not_ours(tmp_path):
    arrays = random_arrays(
        authors_shapes(**PRESETS["qkformer_4_384_cifar10"].arguments)
    )
    write_checkpoint(tmp_path / "a.pth", arrays)
    checkpoint_to_preset(tmp_path / "a.pth", tmp_path / "folder")
    metadata = json.loads((tmp_path / "folder" / "metadata.json").read_text())
    assert metadata["reported"]["top_1"] == 96.18
    assert 'membrane_state="batch"' in metadata["reported"]["note"]
    assert "Not measured with this file" in metadata["reported"]["note"]
    assert metadata["preprocessing"]["image_size"] == [32, 32]


@pytest.mark.backend_independent
def test_a_variant_of_a_preset_has_its_class_names_and_not_its_number(
    tmp_path, monkeypatch
):
    sizes = {**TINY, "family": "imagenet", "in_channels": 3, "deformed_shortcut": True}
    arguments = {**sizes, **TINY_OPTIONS, "image_size": 16}
    names = ("plum", "fig", "lime", "kiwi", "pear")
    preset = Preset(
        family="qkformer",
        description="",
        source="",
        parameters=0,
        arguments=arguments,
        class_names=names,
        reported=90.0,
    )
    monkeypatch.setitem(PRESETS, "fruit", preset)
    model = QKFormerClassifier.from_preset("fruit", residual="pre_activation")
    model.save_to_preset(tmp_path / "ours")
    preset_to_checkpoint(tmp_path / "ours", tmp_path / "a.pth")
    found = checkpoint_to_preset(tmp_path / "a.pth", tmp_path / "folder")
    assert found["preset"] is None
    metadata = json.loads((tmp_path / "folder" / "metadata.json").read_text())
    assert metadata["class_names"] == list(names)
    assert metadata["preset"] is None and "reported" not in metadata


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("preset", "max_value", "orientation"),
    [
        ("qkformer_4_384_cifar10", 255.0, None),
        ("qkformer_2_256_cifar10_dvs", 1.0, "spikingjelly"),
    ],
)
def test_pixels_are_scaled_and_counts_of_events_are_not(
    tmp_path, preset, max_value, orientation
):
    arrays = random_arrays(authors_shapes(**PRESETS[preset].arguments))
    write_checkpoint(tmp_path / "a.pth", arrays)
    checkpoint_to_preset(tmp_path / "a.pth", tmp_path / "folder", preset)
    metadata = json.loads((tmp_path / "folder" / "metadata.json").read_text())
    assert metadata["preprocessing"]["max_value"] == max_value
    assert metadata.get("orientation") == orientation


IMAGENET = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "max_value": 255.0,
    "interpolation": "bicubic",
}
CIFAR = {
    "mean": [0.4914, 0.4822, 0.4465],
    "std": [0.247, 0.2435, 0.2616],
    "max_value": 255.0,
}
COUNTS = {"mean": [0.0, 0.0], "std": [1.0, 1.0], "max_value": 1.0}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("family", "channels", "size", "expected"),
    [
        ("imagenet", 3, 224, {**IMAGENET, "crop": 0.875}),
        ("imagenet", 3, [224, 256], {**IMAGENET, "crop": 1.0}),
        ("imagenet", 3, 384, {**IMAGENET, "crop": 1.0}),
        ("cifar", 3, 224, CIFAR),
        ("cifar", 3, 384, CIFAR),
        ("dvs", 2, 224, COUNTS),
        ("dvs", 2, [384, 64], COUNTS),
    ],
)
def test_preprocessing_is_that_of_the_authors_for_the_family_and_size(
    tmp_path, family, channels, size, expected
):
    sizes = {**TINY, "family": family, "in_channels": channels}
    write_checkpoint(tmp_path / "a.pth", random_arrays(authors_shapes(**sizes)))
    convert(
        tmp_path / "a.pth", tmp_path / "folder", {**TINY_OPTIONS, "image_size": size}
    )
    metadata = json.loads((tmp_path / "folder" / "metadata.json").read_text())
    size = size if isinstance(size, list) else [size, size]
    assert metadata["preprocessing"] == {"image_size": size, **expected}


@pytest.mark.backend_independent
def test_other_weights_in_the_file_are_named_and_can_be_chosen(tiny, tmp_path):
    torch = pytest.importorskip("torch", reason="it writes the file")
    weights = {name: torch.tensor(array) for name, array in tiny[0].items()}
    average = {**weights, "head.bias": torch.full((5,), 7.0)}
    path = tmp_path / "two.pth"
    torch.save({"state_dict": weights, "state_dict_ema": average}, path)
    for entry, other in (("state_dict", "state_dict_ema"), ("state_dict_ema", None)):
        found = convert(path, tmp_path / entry, entry=entry)
        assert found["entry"] == entry
        if other:
            assert found["other_entries"] == [other]
        model = QKFormerClassifier.from_preset(tmp_path / entry)
        bias = to_numpy(model.get_layer("head").bias.value)
        wanted = tiny[0]["head.bias"] if other else np.full(5, 7.0)
        np.testing.assert_array_equal(bias, wanted)


@pytest.mark.backend_independent
def test_time_steps_of_a_training_file_reach_the_model(tmp_path):
    options = {"time_step": 2, "input_size": 16}
    write_training_file(
        tmp_path / "a.pth", random_arrays(authors_shapes(**TINY)), options
    )
    found = convert(tmp_path / "a.pth", tmp_path / "folder", {"num_heads": 4})
    assert (found["entry"], found["facts"]) == (
        "model",
        {"args.time_step": 2, "args.input_size": 16},
    )
    model = QKFormerClassifier.from_preset(tmp_path / "folder")
    assert model.backbone.time_steps == 2
    assert model.input_shape == (None, 16, 16, 1)
    metadata = json.loads((tmp_path / "folder" / "metadata.json").read_text())
    because = "the options of the training in the file"
    assert metadata["assumed"]["time_steps"] == {"value": 2, "because": because}


def write_training_file(path, arrays, options):
    """Write weights as the authors' training does: `model` beside `args`, a namespace.

    Args:
        path: path of the file.
        arrays: dict from name to array.
        options: dict from the names of the namespace to whole numbers up to 65535.
    """
    write_checkpoint(path, arrays)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    weights = entries["archive/data.pkl"]
    # Opcodes: a dictionary of the pickle of the weights without its start and end, and
    # of a namespace without arguments, whose attributes BUILD sets.
    numbers = pickle.dumps(options, protocol=2)
    entries["archive/data.pkl"] = (
        b"\x80\x02}(X\x05\x00\x00\x00model"
        + weights.removeprefix(b"\x80\x02").removesuffix(b".")
        + b"X\x04\x00\x00\x00argscargparse\nNamespace\n)\x81"
        + numbers.removeprefix(b"\x80\x02").removesuffix(b".")
        + b"bu."
    )
    with zipfile.ZipFile(path, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)


def test_verify_agrees_with_pytorch(tiny, tmp_path):
    pytest.importorskip("torch", reason="the other side")
    found = convert(tiny[1], tmp_path / "folder", verify=True)
    assert found["largest_difference"] <= 1e-9
    assert keras.config.floatx() == "float32"


@pytest.mark.backend_independent
def test_verify_agrees_with_the_batch_state_and_not_with_other_weights(tiny, tmp_path):
    pytest.importorskip("torch", reason="the other side")
    options = {**TINY_OPTIONS, "membrane_state": "batch"}
    with pytest.warns(UserWarning, match="a defect of the authors' code"):
        found = convert(tiny[1], tmp_path / "batch", options, verify=True)
    assert found["largest_difference"] <= 1e-9
    convert(tiny[1], tmp_path / "folder")
    wrong = {**tiny[0], "head.bias": tiny[0]["head.bias"] + np.float32(1e-3)}
    with pytest.raises(ValueError, match=r"a difference of 0\.001"):
        verify_preset(tmp_path / "folder", wrong)


@pytest.mark.backend_independent
def test_verify_says_nothing_about_weights_that_never_fire(tmp_path):
    pytest.importorskip("torch", reason="the other side")
    arrays = random_arrays(authors_shapes(**TINY))
    silent = {n: a - 99 if n.endswith("_bn.bias") else a for n, a in arrays.items()}
    write_checkpoint(tmp_path / "a.pth", silent)
    with pytest.raises(ValueError, match="must depend on the input"):
        convert(tmp_path / "a.pth", tmp_path / "folder", verify=True)
    assert not (tmp_path / "folder").exists()


@pytest.mark.backend_independent
def test_verify_without_pytorch_names_the_extra(tiny, tmp_path, monkeypatch):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch is the backend")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"keras_qkformer\[torch\]"):
        convert(tiny[1], tmp_path / "folder", verify=True)
    assert not (tmp_path / "folder").exists()


@pytest.mark.backend_independent
@pytest.mark.parametrize("residual", ["add", "pre_activation"])
def test_model_trained_here_gives_the_same_logits_in_pytorch(residual, tmp_path):
    torch = pytest.importorskip("torch", reason="the other side")
    family = "imagenet" if residual == "pre_activation" else "cifar"
    backbone = QKFormerBackbone(
        16,
        time_steps=2,
        family=family,
        embed_dim=32,
        depths=(1, 1),
        num_heads=2,
        # Equal widths, where the MLP of the pre-activation form is special.
        mlp_ratio=1 if residual == "pre_activation" else 2,
        residual=residual,
    )
    model = settle(QKFormerClassifier(backbone, 3))
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    # TensorFlow traces a step twice if the first trace makes variables.
    model.optimizer.build(model.trainable_variables)
    model.fit(random_inputs(model), np.arange(4) % 3, epochs=3, verbose=0)
    model.save_to_preset(tmp_path / "folder")
    difference = preset_to_checkpoint(
        tmp_path / "folder", tmp_path / "a.pth", verify=True
    )
    assert difference <= 1e-9
    loaded = torch.load(tmp_path / "a.pth", weights_only=True)
    assert all(type(tensor) is torch.Tensor for tensor in loaded.values())


@pytest.mark.backend_independent
def test_converted_model_takes_other_sizes_steps_and_classes(tiny, tmp_path):
    convert(tiny[1], tmp_path / "folder")
    model = QKFormerClassifier.from_preset(
        tmp_path / "folder", image_size=(16, 24), time_steps=1, num_classes=7
    )
    x = np.random.default_rng(0).normal(size=(2, 16, 24, 1)).astype("float32")
    assert to_numpy(model(x)).shape == (2, 7)
    kernel = model.backbone.get_layer("patch_embed1").main[0].conv.kernel
    theirs = tiny[0]["patch_embed1.proj_conv.weight"]
    np.testing.assert_array_equal(to_numpy(kernel.value), theirs.transpose(2, 3, 1, 0))


def changed(arrays, what):
    name = "stage1.0.mlp.mlp1_bn.weight"
    arrays = dict(arrays)
    if what == "missing":
        del arrays[name]
    elif what == "extra":
        arrays["stage1.0.mlp.mlp3_bn.weight"] = arrays[name]
    elif what == "renamed":
        arrays["stage1.0.mlp.mlp1_norm.weight"] = arrays.pop(name)
    elif what == "misshapen":
        arrays[name] = arrays[name][:-1]
    elif what == "not finite":
        arrays[name] = np.full_like(arrays[name], np.nan)
    return arrays


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "missing: stage1.0.mlp.mlp1_bn.weight"),
        ("extra", "unused: stage1.0.mlp.mlp3_bn.weight"),
        ("renamed", "missing: .*mlp1_bn.weight; unused: .*mlp1_norm.weight"),
        ("misshapen", r"misshapen: .*mlp1_bn.weight \(31,\) for \(32,\)"),
        ("truncated", "must be a whole .pth"),
        ("damaged", "Every array of a checkpoint must be whole"),
        ("of another family", "family='cifar' in the file, 'imagenet' in the preset"),
        ("of other classes", "num_classes=5 in the file, 10 in the preset"),
        ("of heads that do not divide", "num_heads must divide"),
        ("not finite", r"Weights must be finite.*stage1_block1.mlp.*'.*tiny\.pth'"),
        ("over a folder", "must not exist yet"),
    ],
)
def test_misfit_is_one_line_and_leaves_no_folder(tiny, tmp_path, what, message):
    arrays, path = tiny
    write_checkpoint(path, changed(arrays, what))
    data, arguments = path.read_bytes(), {}
    if what == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif what == "damaged":
        start = data.index(arrays["head.weight"].tobytes())
        path.write_bytes(data[:start] + b"\xff\xff" + data[start + 2 :])
    elif what == "of another family":
        arguments["preset"] = "qkformer_10_384_imagenet"
    elif what == "of other classes":
        arguments["preset"] = "qkformer_tiny"
    elif what == "of heads that do not divide":
        arguments["options"] = {**TINY_OPTIONS, "num_heads": 3}
    elif what == "over a folder":
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "mine").touch()
    with pytest.raises(ValueError, match=message) as error:
        convert(path, tmp_path / "folder", **arguments)
    assert "\n" not in str(error.value)
    left = {p.name for p in tmp_path.rglob("*")} - {"tiny.pth"}
    assert left == ({"folder", "mine"} if what == "over a folder" else set())


@pytest.mark.backend_independent
def test_error_while_writing_leaves_no_folder(tiny, tmp_path, monkeypatch):
    def save_to_preset(self, folder, metadata):
        folder.mkdir()
        (folder / "config.json").touch()
        raise OSError("the disk is full")

    monkeypatch.setattr(QKFormerClassifier, "save_to_preset", save_to_preset)
    with pytest.raises(OSError, match="full"):
        convert(tiny[1], tmp_path / "folder")
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.pth"}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "channel"}, "Checkpoints exist for"),
        ({"neuron": "plif"}, "Checkpoints exist for"),
        ({"neuron": "if"}, "with LIF neurons.*Received: .*neuron='if'"),
    ],
)
def test_model_that_pytorch_has_not_leaves_no_file(tmp_path, change, message):
    backbone = QKFormerBackbone(
        8, family="cifar", embed_dim=16, depths=(1, 1), num_heads=2, **change
    )
    QKFormerClassifier(backbone, 3).save_to_preset(tmp_path / "folder")
    with pytest.raises(ValueError, match=message):
        preset_to_checkpoint(tmp_path / "folder", tmp_path / "a.pth")
    assert {p.name for p in tmp_path.iterdir()} == {"folder"}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "must be a whole .pth, .safetensors or .npz file"),
        ({"head.weight": np.ones((3, 32), "float32")}, "alone. Received: head.weight"),
    ],
)
def test_kept_arrays_of_others_take_no_weights_place(tmp_path, arrays, message):
    backbone = QKFormerBackbone(
        8, family="cifar", embed_dim=16, depths=(1, 1), num_heads=2
    )
    QKFormerClassifier(backbone, 3).save_to_preset(tmp_path / "folder")
    path = tmp_path / "folder" / UNUSED_FILE
    if arrays is None:
        path.write_text("no arrays")
    else:
        np.savez(path, **arrays)
    write_manifest(tmp_path / "folder")
    with pytest.raises(ValueError, match=message) as told:
        preset_to_checkpoint(tmp_path / "folder", tmp_path / "a.pth")
    assert is_mistake(told.value)
    assert {p.name for p in tmp_path.iterdir()} == {"folder"}


@pytest.mark.backend_independent
def test_only_trained_weights_go_to_a_new_file(tmp_path):
    with pytest.raises(ValueError, match="no trained weights"):
        preset_to_checkpoint("qkformer_tiny", tmp_path / "a.pth")
    (tmp_path / "a.pth").touch()
    with pytest.raises(ValueError, match="must not exist yet"):
        preset_to_checkpoint(tmp_path, tmp_path / "a.pth")

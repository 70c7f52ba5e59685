"""Checkpoints of Max-Former: under today's names, former ones, and by position."""

import argparse
import math
import re
from importlib.util import find_spec

import numpy as np
import pytest
from authors_shapes import max_former_shapes, random_arrays
from golden_models import MAX_FORMERS, Golden

from keras_qkformer.convert import (
    checkpoint_to_preset,
    load_state_dict,
    preset_to_checkpoint,
    read_checkpoint,
    to_state_dict,
    weight_map,
)
from keras_qkformer.convert.published_code import CODES
from keras_qkformer.convert.recognition import recognize
from keras_qkformer.models import PRESETS, QKFormerClassifier, SpikingClassifier

pytestmark = pytest.mark.backend_independent

NAMES = [name for name, preset in PRESETS.items() if preset.family == "max_former"]
BY_POSITION = "taken by their position"
# A small model with the structure of those for ImageNet.
SMALL = {"embed_dim": 16, "num_classes": 5}
OPTIONS = {"num_heads": 2, "time_steps": 2, "image_size": 32}


def data_of(preset):
    return PRESETS[preset].arguments.get("stem", "imagenet")


def shapes_of(preset):
    return max_former_shapes(data_of(preset), **PRESETS[preset].arguments)


def empty(shapes):
    return {name: np.broadcast_to(0.0, shape) for name, shape in shapes.items()}


def former(arrays):
    """The same arrays under the names of the published files for ImageNet."""
    table = {
        r"patch_embed1\.embed1\.embed_(conv|bn)": r"patch_embed1.proj_\1",
        r"patch_embed1\.embed2\.embed_(conv|bn)": r"patch_embed1.proj_\g<1>1",
        r"patch_embed1\.embed3\.embed_(conv|bn)": r"patch_embed1.proj_\g<1>2",
        r"patch_embed1\.embed4\.embed_(conv|bn)": r"patch_embed1.rpe_\1",
        r"(patch_embed[23])\.max_embed1\.embed_(conv|bn)": r"\1.proj3_\2",
        r"(patch_embed[23])\.embed1\.embed_(conv|bn)": r"\1.proj4_\2",
        r"(patch_embed[23])\.max_embed2\.embed_(conv|bn)": r"\1.proj_res_\2",
    }
    renamed = {}
    for name, array in arrays.items():
        for pattern, other in table.items():
            name = re.sub(pattern, other, name)
        renamed[name] = array
    assert len(renamed.keys() - arrays.keys()) == 60
    return renamed


def numbered(arrays):
    """The same arrays under names that tell nothing."""
    return {f"array{i}": array for i, array in enumerate(arrays.values())}


@pytest.mark.parametrize("name", NAMES)
def test_published_model_is_recognised_by_its_names_and_shapes(name):
    shapes = shapes_of(name)
    trainable = [s for n, s in shapes.items() if s and ".running_" not in n]
    assert sum(map(math.prod, trainable)) == PRESETS[name].parameters
    wanted = dict(PRESETS[name].arguments)
    steps = wanted["time_steps"]
    found = recognize(
        empty(shapes), options={"time_steps": steps} if steps == 1 else {}
    )
    assert found.preset == name
    assert {key: found.arguments[key] for key in wanted} == wanted
    assert {"num_heads", "image_size", "static"} <= found.assumed.keys()


def test_the_number_of_arrays_is_that_of_the_published_files():
    assert len(shapes_of("max_former_10_384_imagenet")) == 398


def test_former_names_are_those_of_max_former_not_of_ms_qkformer():
    name = "max_former_10_768_imagenet"
    arrays = former(empty(shapes_of(name)))
    # It has all of their names, and others.
    assert 0.5 < CODES["qkformer"].likeness(arrays) < 0.9
    found = recognize(arrays, facts={"args.time_step": 4})
    assert (found.code.title, found.preset) == ("Max-Former", name)
    assert list(found.arrays) == list(shapes_of(name))
    theirs = QKFormerClassifier.from_preset(
        "qkformer_10_384_imagenet", residual="pre_activation", embed_dim=48, num_heads=2
    )
    assert recognize(dict(to_state_dict(theirs)), options=OPTIONS).code.title == (
        "QKFormer or MS-QKFormer"
    )


@pytest.mark.parametrize("name", ["max_former_4_384_cifar10", *NAMES[-3:]])
def test_unknown_names_are_taken_by_position_with_a_warning(name):
    arrays = numbered(empty(shapes_of(name)))
    with pytest.warns(UserWarning, match=BY_POSITION):
        found = recognize(arrays)
    assert found.code.title == "Max-Former"
    assert {n: a.shape for n, a in found.arrays.items()} == shapes_of(name)


def test_names_unknown_in_the_embeddings_alone_are_taken_by_position():
    arrays = empty(shapes_of("max_former_10_384_imagenet"))
    renamed = {n.replace("patch_embed", "embedding"): a for n, a in arrays.items()}
    with pytest.warns(UserWarning, match=BY_POSITION):
        found = recognize(renamed)
    assert found.preset == "max_former_10_384_imagenet"


@pytest.mark.parametrize("damage", ["one less", "one more", "another order", "a shape"])
def test_nothing_is_taken_by_position_unless_every_shape_is_there(damage):
    arrays = numbered(empty(shapes_of("max_former_10_384_imagenet")))
    names = list(arrays)
    if damage == "one less":
        del arrays["array9"]
    elif damage == "one more":
        arrays["more"] = np.zeros(3)
    elif damage == "another order":
        names[0], names[6] = names[6], names[0]
        arrays = {n: arrays[n] for n in names}
    else:
        arrays["array396"] = np.zeros((1000, 383))
    with pytest.raises(ValueError, match=r"must be those of.*Max-Former"):
        recognize(arrays)


def test_former_names_and_positions_give_the_same_weights():
    arrays = random_arrays(max_former_shapes("imagenet", **SMALL))
    arguments = recognize(arrays, options=OPTIONS).arguments
    model = SpikingClassifier.from_preset("max_former_10_384_imagenet", **arguments)
    load_state_dict(model, former(arrays))
    for name, array in to_state_dict(model):
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
    for entry in weight_map(model):
        entry.variable.assign(np.zeros(entry.variable.shape))
    with pytest.warns(UserWarning, match=BY_POSITION):
        load_state_dict(model, numbered(arrays))
    for name, array in to_state_dict(model):
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch makes the file")
def test_a_file_like_those_of_timm_is_converted_and_comes_back(tmp_path):
    import torch

    arrays = random_arrays(max_former_shapes("imagenet", **SMALL))
    state = {name: torch.from_numpy(array) for name, array in former(arrays).items()}
    content = {
        "epoch": 199,
        "arch": "max_former",
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": []},
        "version": 2,
        "args": argparse.Namespace(time_step=2, img_size=32),
        "amp_scaler": {"scale": 65536.0},
        "metric": 77.78,
    }
    torch.save(content, tmp_path / "10-16-T2.pth.tar")
    found = checkpoint_to_preset(
        tmp_path / "10-16-T2.pth.tar", tmp_path / "folder", options={"num_heads": 2}
    )
    assert found["arguments"]["mixers"] == ("depthwise7", "depthwise5", "self")
    assert (found["entry"], found["unused"]) == ("state_dict", [])
    preset_to_checkpoint(tmp_path / "folder", tmp_path / "back.pth")
    back = read_checkpoint(tmp_path / "back.pth").arrays
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(back[name]), array, err_msg=name)


def test_kernels_that_are_missing_flat_or_of_another_size_are_named():
    shapes = max_former_shapes("imagenet", **SMALL)
    for name in (
        "patch_embed1.embed1.embed_conv.weight",
        "stage1.0.mlp.fc1_conv.weight",
    ):
        with pytest.raises(ValueError, match=f"misshapen: {name}"):
            recognize(empty({**shapes, name: (4,)}), options=OPTIONS)
        fewer = {key: shape for key, shape in shapes.items() if key != name}
        with pytest.raises(ValueError, match=f"missing: {name}"):
            recognize(empty(fewer), options=OPTIONS)


@pytest.mark.parametrize("neuron", ["plif", "if"])
def test_the_published_code_has_no_other_neurons(neuron):
    model = SpikingClassifier.from_preset(
        "max_former_4_384_cifar10", embed_dim=16, num_heads=2, neuron=neuron
    )
    match = f"without learnable.*Received: neuron='{neuron}'"
    with pytest.raises(ValueError, match=match):
        weight_map(model)


@pytest.mark.parametrize("name", MAX_FORMERS)
def test_names_and_shapes_are_those_of_the_golden_file(name, shared_golden):
    golden = Golden(name, shared_golden)
    config = golden.config
    data = {"event": "events"}.get(config["variant"], config["variant"])
    shapes = max_former_shapes(data, **config)
    found = {key: array.shape for key, array in golden.weights.items()}
    assert list(found.items()) == list(shapes.items())

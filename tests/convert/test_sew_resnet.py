"""Checkpoints of SEW ResNet: under the names of two versions of SpikingJelly."""

import argparse
import math
from importlib.util import find_spec

import numpy as np
import pytest
from authors_shapes import random_arrays, sew_shapes
from golden_models import SEWS, Golden

from keras_qkformer.convert import (
    checkpoint_to_preset,
    load_state_dict,
    preset_to_checkpoint,
    read_checkpoint,
    to_state_dict,
    weight_map,
)
from keras_qkformer.convert.recognition import recognize
from keras_qkformer.models import PRESETS, SEWResNetBackbone, SpikingClassifier

pytestmark = pytest.mark.backend_independent

NAMES = [name for name, preset in PRESETS.items() if preset.family == "sew_resnet"]
# Small models without a preset of their sizes.
IMAGENET = {"stem_width": 8, "widths": (4, 8), "depths": (2, 1), "num_classes": 5}
EVENTS = {
    "stem_width": None,
    "widths": (8, 8, 12),
    "depths": (1, 2, 1),
    "in_channels": 2,
    "num_classes": 5,
}
OPTIONS = {"time_steps": 2, "image_size": 32, "connect": "add"}


def empty(shapes):
    return {name: np.broadcast_to(0.0, shape) for name, shape in shapes.items()}


def short(arrays):
    """The same arrays under the names of later versions of SpikingJelly."""
    renamed = {name.replace(".module.", "."): a for name, a in arrays.items()}
    assert len(renamed) == len(arrays) and renamed.keys() != arrays.keys()
    return renamed


@pytest.mark.parametrize("name", NAMES)
def test_published_model_is_recognised_by_its_names_and_shapes(name):
    wanted = dict(PRESETS[name].arguments)
    shapes = sew_shapes(**wanted)
    trainable = [s for n, s in shapes.items() if s and ".running_" not in n]
    assert sum(map(math.prod, trainable)) == PRESETS[name].parameters
    for arrays in (empty(shapes), short(empty(shapes))):
        found = recognize(arrays)
        assert (found.code.title, found.preset) == ("SEW ResNet", name)
        assert list(found.arrays) == list(shapes)
        assert {key: found.arguments[key] for key in wanted} == wanted
        assert set(found.assumed) == {"time_steps", "image_size", "static", "connect"}


@pytest.mark.parametrize("sizes", [IMAGENET, {**IMAGENET, "bottleneck": True}, EVENTS])
def test_short_names_give_the_same_weights_and_the_long_ones_come_back(sizes):
    arrays = random_arrays(sew_shapes(**sizes))
    arguments = recognize(arrays, options=OPTIONS).arguments
    assert sizes.items() <= arguments.items()
    model = SpikingClassifier.from_preset("sew_resnet_18_imagenet", **arguments)
    load_state_dict(model, short(arrays))
    back = dict(to_state_dict(model))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_the_connection_comes_from_the_options_of_the_training():
    arrays = empty(sew_shapes(**PRESETS["sew_resnet_18_imagenet"].arguments))
    for name, value, connect in (
        ("args.connect_f", "IAND", "iand"),
        ("args.cnf", "AND", "and"),
        ("args.cnf", "XOR", "add"),
    ):
        found = recognize(arrays, facts={name: value, "args.T": 6})
        assert (found.arguments["connect"], found.arguments["time_steps"]) == (
            connect,
            6,
        )
    with pytest.raises(ValueError, match="nothing for connect; sizes"):
        recognize(
            empty(sew_shapes(**IMAGENET)), options={"time_steps": 2, "image_size": 32}
        )


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch makes the file")
@pytest.mark.parametrize("entry", ["model", "state_dict", "net", None])
def test_files_of_the_authors_are_converted_and_come_back(entry, tmp_path):
    import torch

    arrays = random_arrays(sew_shapes(**EVENTS))
    state = {f"module.{n}": torch.from_numpy(a) for n, a in short(arrays).items()}
    options = dict(OPTIONS)
    content = state
    if entry is not None:
        del options["connect"], options["time_steps"]
        args = argparse.Namespace(T=2, connect_f="AND", model="SEWResNet")
        content = {entry: state, "epoch": 191, "args": args, "max_test_acc1": 97.9}
    torch.save(content, tmp_path / "a.pth")
    found = checkpoint_to_preset(
        tmp_path / "a.pth", tmp_path / "folder", options=options
    )
    assert found["entry"] == entry
    assert found["arguments"]["connect"] == ("and" if entry else "add")
    preset_to_checkpoint(tmp_path / "folder", tmp_path / "back.pth")
    back = read_checkpoint(tmp_path / "back.pth").arrays
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(back[name]), array, err_msg=name)


def test_kernels_that_are_missing_or_flat_are_named():
    for shapes, name in (
        (sew_shapes(**IMAGENET), "layer1.0.conv1.module.0.weight"),
        (sew_shapes(**EVENTS), "conv.0.0.module.0.weight"),
    ):
        with pytest.raises(ValueError, match=f"misshapen: {name}"):
            recognize(empty({**shapes, name: (4,)}), options=OPTIONS)
        fewer = {key: shape for key, shape in shapes.items() if key != name}
        with pytest.raises(ValueError, match=f"missing: {name}"):
            recognize(empty(fewer), options=OPTIONS)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layer2.9999.conv1.module.0.weight", (8, 8, 3, 3)),
        ("layer2.0.conv1.module.0.weight", (10**6, 1, 1, 1)),
        ("conv1.weight", (10**7, 1, 1, 1)),
        ("fc.weight", (10**7, 1)),
    ],
)
def test_model_is_no_larger_than_its_weights(name, shape):
    arrays = empty(sew_shapes(**IMAGENET))
    arrays[name] = np.broadcast_to(0.0, shape)
    with pytest.raises(ValueError, match="must be those of a whole model"):
        recognize(arrays, options=OPTIONS)


@pytest.mark.parametrize(
    "change",
    [{"neuron": "lif"}, {"stem_width": None}, {"neuron": "plif", "bottleneck": True}],
    ids=str,
)
def test_models_without_published_code_are_refused(change):
    sizes = {"widths": (4, 8), "depths": (1, 1), **change}
    model = SpikingClassifier(SEWResNetBackbone(8, **sizes), 3)
    with pytest.raises(
        ValueError, match=r"models with a stem and neuron='if'.*Received"
    ):
        weight_map(model)


@pytest.mark.parametrize("name", SEWS)
def test_names_and_shapes_are_those_of_the_golden_file(name, shared_golden):
    golden = Golden(name, shared_golden)
    config = {**golden.family.arguments(golden.config), "num_classes": 10}
    found = {key: array.shape for key, array in golden.weights.items()}
    assert list(found.items()) == list(sew_shapes(**config).items())

"""Which model weights belong to."""

import math

import numpy as np
import pytest
from authors_shapes import authors_shapes

from keras_qkformer.convert.recognition import recognize
from keras_qkformer.models import PRESETS

pytestmark = pytest.mark.backend_independent

PUBLISHED = [
    name
    for name, preset in PRESETS.items()
    if preset.family == "qkformer" and preset.source != "ours"
]
# The smallest model for which no preset has the sizes.
SMALL = {"family": "cifar", "embed_dim": 32, "depths": (1, 2, 1), "num_classes": 5}
UNSEEN = {"num_heads": 4, "image_size": 32, "time_steps": 2}


def empty(shapes):
    return {name: np.broadcast_to(0.0, shape) for name, shape in shapes.items()}


def shapes_of(preset):
    return authors_shapes(**{"depths": (1, 2, 7), **PRESETS[preset].arguments})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_model_is_recognised_by_its_shapes(name):
    shapes = shapes_of(name)
    trainable = [shape for key, shape in shapes.items() if ".running_" not in key]
    sizes = [math.prod(shape) for shape in trainable if shape]
    assert sum(sizes) == PRESETS[name].parameters
    found = recognize(empty(shapes))
    assert found.preset == name
    wanted = dict(PRESETS[name].arguments)
    assert {key: found.arguments[key] for key in wanted} == wanted
    assert found.arguments["membrane_state"] == "sample"
    assert set(found.assumed) == {
        "membrane_state",
        "num_heads",
        "time_steps",
        "image_size",
        "static",
    }


def test_options_come_before_the_file_and_the_file_before_the_preset():
    arrays = empty(shapes_of("qkformer_10_384_imagenet"))
    facts = {"args.time_step": 1, "args.input_size": 288}
    found = recognize(arrays, options={"time_steps": 2}, facts=facts)
    assert found.arguments["time_steps"] == 2
    assert found.arguments["image_size"] == 288
    assert found.arguments["num_heads"] == 6
    assert found.assumed["time_steps"] == "given"
    assert "training" in found.assumed["image_size"]
    assert "qkformer_10_384_imagenet" in found.assumed["num_heads"]


@pytest.mark.parametrize("name", ["args.time_step", "args.time_steps", "args.T"])
def test_time_steps_of_the_file_are_heeded_by_any_of_their_names(name):
    arrays = empty(shapes_of("qkformer_10_384_imagenet"))
    found = recognize(arrays, facts={name: 3, "args.img_size": 160})
    assert PRESETS["qkformer_10_384_imagenet"].arguments.get("time_steps") != 3
    assert (found.arguments["time_steps"], found.arguments["image_size"]) == (3, 160)
    because = "the options of the training in the file"
    assert found.assumed["time_steps"] == found.assumed["image_size"] == because
    small = recognize(
        empty(authors_shapes(**SMALL)),
        options={"num_heads": 4, "image_size": 32},
        facts={name: 3},
    )
    assert small.arguments["time_steps"] == 3


def test_other_head_on_published_sizes_is_no_preset_but_takes_its_heads():
    arguments = {**PRESETS["qkformer_4_384_cifar10"].arguments, "num_classes": 37}
    found = recognize(empty(authors_shapes(**arguments)))
    assert found.preset is None
    assert found.arguments["num_classes"] == 37
    assert found.arguments["num_heads"] == 8


def test_unknown_sizes_need_what_the_shapes_do_not_tell():
    arrays = empty(authors_shapes(**SMALL))
    with pytest.raises(ValueError, match="nothing for num_heads, time_steps, image_s"):
        recognize(arrays)
    found = recognize(arrays, options=UNSEEN)
    assert {**SMALL, **UNSEEN}.items() <= found.arguments.items()


def test_file_without_a_head_gives_features():
    shapes = authors_shapes(**SMALL)
    del shapes["head.weight"], shapes["head.bias"]
    found = recognize(empty(shapes), options=UNSEEN)
    assert found.arguments["num_classes"] is None


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("qkformer_10_384_imagenet", "family='cifar' in the file, 'imagenet' in the p"),
        ("qkformer_4_384_cifar100", "num_classes=10 in the file, 100 in the preset"),
        ("qkformer_huge", "one of .*Received: 'qkformer_huge'"),
    ],
)
def test_another_preset_is_refused_in_one_line(preset, message):
    arrays = empty(shapes_of("qkformer_4_384_cifar10"))
    with pytest.raises(ValueError, match=message) as error:
        recognize(arrays, preset)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["embed_dim", "num_classes", "sizes"])
def test_option_that_the_shapes_tell_or_nobody_knows_is_refused(option):
    with pytest.raises(ValueError, match=f"Received: '{option}'"):
        recognize(empty(authors_shapes(**SMALL)), options={**UNSEEN, option: 3})


def test_weights_of_something_else_are_refused():
    arrays = empty({"layer1.0.conv1.weight": (8, 8, 3, 3), "fc.weight": (10, 8)})
    with pytest.raises(ValueError, match=r"QKFormer or MS.*2 arrays, such as layer1.0"):
        recognize(arrays)


@pytest.mark.parametrize(
    "name",
    [
        "patch_embed1.proj_conv.weight",
        "patch_embed3.proj4_conv.weight",
        "stage1.0.mlp.mlp1_conv.weight",
    ],
)
def test_missing_or_flat_kernel_is_named(name):
    shapes = authors_shapes(**SMALL)
    flat = {**shapes, name: (4,)}
    with pytest.raises(ValueError, match=f"misshapen: {name}"):
        recognize(empty(flat), options=UNSEEN)
    del shapes[name]
    with pytest.raises(ValueError, match=f"missing: {name}"):
        recognize(empty(shapes), options=UNSEEN)


def test_blocks_alone_are_no_model():
    shapes = authors_shapes(**SMALL)
    blocks = {name: shape for name, shape in shapes.items() if "embed" not in name}
    with pytest.raises(ValueError, match="missing: patch_embed1"):
        recognize(empty(blocks), options=UNSEEN)

"""Checkpoints of QKFormer's relatives: which model they belong to, and their shapes."""

import math

import numpy as np
import pytest
from authors_shapes import relative_shapes
from golden_models import RELATIVES, Golden
from small_models import SMALL_MODELS

from keras_qkformer.convert import weight_map
from keras_qkformer.convert.load import unused_arrays
from keras_qkformer.convert.recognition import recognize
from keras_qkformer.models import PRESETS

pytestmark = pytest.mark.backend_independent

# Preset -> file of the authors' code, all parameters of the checkpoint, and the other
# presets with the same tensors.
CHECKPOINTS = {
    "spikformer_8_384_imagenet": ("spikformer/imagenet", 16_828_312, ("cml",)),
    "spikformer_6_512_imagenet": ("spikformer/imagenet", 23_385_640, ()),
    "spikformer_10_512_imagenet": ("spikformer/imagenet", 36_025_896, ()),
    "spikformer_8_768_imagenet": ("spikformer/imagenet", 66_363_208, ("cml",)),
    "spikformer_4_256_cifar10": ("spikformer/cifar10", 4_159_274, ()),
    "spikformer_4_384_cifar100": ("spikformer/cifar10", 9_365_524, ()),
    "spikformer_2_256_cifar10_dvs": ("spikformer/cifar10dvs", 2_585_610, ("cml",)),
    "spikformer_2_256_dvs128_gesture": ("spikformer/cifar10dvs", 2_585_867, ("cml",)),
    "spikformer_cml_4_384_cifar10": ("cml/cifar10/CML_Spikformer", 9_330_874, ()),
    "spikingformer_8_384_imagenet": ("spikingformer/imagenet", 16_828_312, ("cml",)),
    "spikingformer_8_512_imagenet": ("spikingformer/imagenet", 29_705_768, ("cml",)),
    "spikingformer_4_384_cifar10": ("spikingformer/cifar10", 9_326_266, ()),
    "spikingformer_2_384_cifar100": ("spikingformer/cifar10", 5_800_468, ()),
    "spikingformer_cml_4_384_cifar10": ("cml/cifar10", 9_326_266, ()),
    "spike_driven_transformer_8_384_imagenet": ("spike_driven", 16_816_536, ()),
    "spike_driven_transformer_6_512_imagenet": ("spike_driven", 23_373_736, ()),
    "spike_driven_transformer_8_512_imagenet": ("spike_driven", 29_689_896, ()),
    "spike_driven_transformer_10_512_imagenet": ("spike_driven", 36_006_056, ()),
    "spike_driven_transformer_8_768_imagenet": ("spike_driven", 66_339_144, ()),
    "spike_driven_transformer_2_256_cifar10": ("spike_driven", 2_567_082, ()),
    "spike_driven_transformer_2_512_cifar100": ("spike_driven", 10_279_716, ()),
    "spike_driven_transformer_2_256_cifar10_dvs": ("spike_driven", 2_566_794, ()),
    "spike_driven_transformer_2_256_dvs128_gesture": ("spike_driven", 2_567_051, ()),
    "spikingformer_2_256_cifar10_dvs": (
        *("spikingformer/imagenet", 2_568_714, ("cml",)),
    ),
}
# File of the authors -> its golden file.
GOLDEN = {
    "spikformer_cifar10": "spikformer/cifar10",
    "spikformer_cifar10dvs": "spikformer/cifar10dvs",
    "spikformer_imagenet": "spikformer/imagenet",
    "cml_spikformer_cifar10": "cml/cifar10/CML_Spikformer",
    "spikingformer_cifar10": "spikingformer/cifar10",
    "spikingformer_dvs": "spikingformer/imagenet",
    "spikingformer_imagenet": "spikingformer/imagenet",
    "cml_spikingformer_cifar10": "cml/cifar10",
    "cml_spikingformer_dvs": "spikingformer/imagenet",
    "cml_spikingformer_imagenet": "spikingformer/imagenet",
    "sdt_cifar10": "spike_driven",
    "sdt_cifar10dvs": "spike_driven",
    "sdt_gesture": "spike_driven",
    "sdt_imagenet": "spike_driven",
    "sdt_mlp1": "spike_driven",
    "sdt_plif": "spike_driven",
}


def empty(shapes):
    return {name: np.broadcast_to(0.0, shape) for name, shape in shapes.items()}


def shapes_of(preset):
    return relative_shapes(CHECKPOINTS[preset][0], **PRESETS[preset].arguments)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_model_is_recognised_by_its_names_and_shapes(name):
    _, parameters, twins = CHECKPOINTS[name]
    shapes = shapes_of(name)
    trainable = [s for n, s in shapes.items() if s and ".running_" not in n]
    assert sum(map(math.prod, trainable)) == parameters
    found = recognize(empty(shapes))
    assert found.preset == name
    wanted = dict(PRESETS[name].arguments)
    assert {key: found.arguments[key] for key in wanted} == wanted
    family = PRESETS[name].family
    sizes = name.removeprefix(f"{family}_")
    because = f"preset {name} has these sizes"
    if twins:
        because += f", and so has {family}_cml_{sizes}"
    told = {"embed_dim", "depth", "num_classes", "mlp_ratio", "in_channels"}
    if "block.0.attn.talking_heads.weight" in shapes:
        told |= {"num_heads", "neuron"}
        assert found.assumed["reduction"] == because
    else:
        assert found.assumed["num_heads"] == because
    assert told.isdisjoint(found.assumed)


def test_an_option_chooses_among_presets_of_the_same_tensors():
    name = "spikingformer_8_384_imagenet"
    found = recognize(empty(shapes_of(name)), options={"downsampling": "cml"})
    assert found.preset == "spikingformer_cml_8_384_imagenet"
    assert found.arguments["downsampling"] == "cml"
    assert found.assumed["downsampling"] == "given"
    events = recognize(
        empty(shapes_of("spikingformer_2_256_cifar10_dvs")),
        preset="spikingformer_cml_2_256_cifar10_dvs",
    )
    assert events.arguments["tau"] == 1.75


def test_names_of_another_file_are_not_those_of_the_preset():
    arrays = empty(shapes_of("spikingformer_cml_4_384_cifar10"))
    arrays = {"\x1b[2J": np.zeros(3), **arrays}
    match = "must have the names of 'spikingformer_4_3"
    with pytest.raises(ValueError, match=match) as error:
        recognize(arrays, preset="spikingformer_4_384_cifar10")
    assert str(error.value).isprintable()


def test_unknown_sizes_need_what_neither_names_nor_shapes_tell():
    sizes = {"embed_dim": 16, "depth": 1, "num_classes": 3}
    arrays = empty(relative_shapes("spikingformer/imagenet", **sizes))
    missing = "num_heads, time_steps, image_size, reduction, downsampling, tau"
    with pytest.raises(ValueError, match=f"nothing for {missing}; sizes"):
        recognize(arrays)
    found = recognize(
        empty(relative_shapes("spikformer/cifar10dvs", **sizes, in_channels=2)),
        options={"num_heads": 2, "time_steps": 4},
    )
    assert found.arguments["attention_scale"] == 0.25
    assert found.assumed["attention_scale"] == "written into the authors' code"
    assert (found.arguments["static"], found.arguments["image_size"]) == (False, 128)


@pytest.mark.parametrize("family", ["spikingformer", "spike_driven_transformer"])
def test_the_published_code_has_no_neurons_without_a_leak(family):
    with pytest.raises(ValueError, match=r"of lif.* neurons.*'neuron': 'if'"):
        weight_map(SMALL_MODELS[family].make(neuron="if"))


@pytest.mark.parametrize("name", RELATIVES)
def test_names_and_shapes_are_those_of_the_golden_file(name, shared_golden):
    golden = Golden(name, shared_golden)
    config = {**golden.config, "depth": golden.config["depths"]}
    config["neuron"] = config.get("spike_mode", "lif")
    shapes = relative_shapes(GOLDEN[name], **config)
    assert shapes == {key: array.shape for key, array in golden.weights.items()}
    model = golden.model()
    theirs = {entry.name: np.shape(entry.to_theirs()) for entry in weight_map(model)}
    theirs |= {key: array.shape for key, array in unused_arrays(model).items()}
    assert theirs.items() <= shapes.items()
    assert all(n.endswith("num_batches_tracked") for n in shapes.keys() - theirs.keys())

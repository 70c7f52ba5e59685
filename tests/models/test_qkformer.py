"""The backbone: every argument has an effect, and wrong ones an error."""

import inspect

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, random_inputs, settle

from keras_qkformer.models import QKFormerBackbone, count_parameters


def shapes(**changes):
    backbone = QKFormerBackbone(**{**TINY, **changes})
    return {name: x.shape for name, x in backbone.output.items()}


def test_stages_halve_the_image_and_double_the_channels():
    assert shapes() == {"stage1": (None, 3, 8, 12, 8), "stage2": (None, 3, 4, 6, 16)}
    three = shapes(depths=(1, 1, 1), num_heads=1)
    assert three["stage3"] == (None, 3, 2, 3, 16)


@pytest.mark.parametrize(
    ("family", "size", "first", "second"),
    [
        ("imagenet", 32, (8, 8), (4, 4)),
        ("cifar", 32, (32, 32), (16, 16)),
        ("dvs", 32, (4, 4), (2, 2)),
    ],
)
def test_family_decides_how_much_the_stem_reduces(family, size, first, second):
    got = shapes(family=family, image_size=size)
    assert (got["stage1"][2:4], got["stage2"][2:4]) == (first, second)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"in_channels": 5}, True),
        ({"embed_dim": 32}, True),
        ({"depths": (1, 2)}, True),
        ({"mlp_ratio": 4}, True),
        ({"attention": ("self", "self")}, True),
        ({"neuron": "plif"}, True),
        ({"deformed_shortcut": False}, False),
        ({"attention": ("token", "token")}, False),
    ],
    ids=str,
)
def test_argument_changes_the_number_of_parameters(change, more):
    before = count_parameters(QKFormerBackbone(**TINY))
    after = count_parameters(QKFormerBackbone(**{**TINY, **change}))
    assert (after > before) if more else (after < before)


@pytest.mark.parametrize(
    "change",
    [
        {"num_heads": 4},
        {"attention": ("channel", "self")},
        {"residual": "pre_activation"},
        {"neuron": "if"},
        {"tau": 4.0},
        {"deformed_shortcut": False},
    ],
    ids=str,
)
def test_argument_changes_the_features_of_equal_weights(change):
    before = settle(QKFormerBackbone(**TINY))
    after = QKFormerBackbone(**{**TINY, **change})
    kept = {w.path: w for w in before.weights}
    for weight in after.weights:
        weight.assign(kept[weight.path])
    x = random_inputs(before)
    old, new = (to_numpy(model(x)["stage2"]) for model in (before, after))
    assert np.abs(old).max() > 0
    assert np.abs(old - new).max() > 0


def test_static_images_equal_the_same_frame_at_every_step():
    shown = settle(QKFormerBackbone(**TINY, static=True))
    filmed = QKFormerBackbone(**TINY, static=False)
    filmed.set_weights(shown.get_weights())
    images = random_inputs(shown)
    frames = np.repeat(images[:, None], 3, axis=1)
    assert filmed.input_shape == (None, 3, 8, 12, 2)
    np.testing.assert_array_equal(
        to_numpy(shown(images)["stage2"]), to_numpy(filmed(frames)["stage2"])
    )


def test_surrogate_changes_only_gradients():
    outputs, gradients = [], []
    for surrogate in ("sigmoid", "atan"):
        keras.utils.set_random_seed(0)
        backbone = QKFormerBackbone(**TINY, surrogate=surrogate)
        outputs.append(to_numpy(settle(backbone)(random_inputs(backbone))["stage2"]))
        neuron = backbone.get_layer("stage1_block1").mlp.reduce.fire
        gradients.append(neuron.surrogate)
    np.testing.assert_array_equal(*outputs)
    assert gradients == ["sigmoid", "atan"]


def test_stochastic_depth_grows_with_depth():
    backbone = QKFormerBackbone(**{**TINY, "depths": (1, 2)}, drop_path=0.2)
    rates = [layer.drop_path for layer in backbone.layers if "_block" in layer.name]
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2])


def test_dtype_reaches_the_features():
    backbone = QKFormerBackbone(**TINY, dtype="mixed_bfloat16")
    features = backbone(random_inputs(backbone))["stage2"]
    assert keras.backend.standardize_dtype(features.dtype) == "bfloat16"
    assert all(weight.dtype == "float32" for weight in backbone.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (8, 13)}, r"multiple of 2 .*image_size=\(8, 13\)"),
        ({"image_size": 24, "family": "dvs"}, r"multiple of 16 .*\(24, 24\)"),
        ({"image_size": 8, "family": "imagenet", "depths": (1, 1, 1)}, "multiple of"),
        ({"image_size": 0}, r"Received: image_size=\(0, 0\)"),
        ({"image_size": (8, 8, 2)}, r"a height and a width .*=\(8, 8, 2\)"),
        ({"family": "mnist"}, "family must be one of .*'mnist'"),
        ({"residual": "post"}, "residual must be one of .*'post'"),
        ({"time_steps": 0}, "time_steps must be .*time_steps=0"),
        ({"depths": (1, 0)}, r"depths must .*\(1, 0\)"),
        ({"embed_dim": 15}, "embed_dim must be a multiple of 2 .*15"),
        ({"num_heads": 3}, "num_heads must divide the 8 channels .*num_heads=3"),
        ({"num_heads": (2, 2, 2)}, "one for each of the 2 stages"),
        ({"attention": ("token",)}, "one for each of the 2 stages"),
        ({"attention": ("token", "soft")}, "attention must be one of .*'soft'"),
        ({"neuron": "izhikevich"}, "neuron must be one of .*'izhikevich'"),
        ({"neuron": "if", "tau": 2.0}, "has no tau. Received: tau=2.0"),
        ({"tau": 1.0}, "tau must be greater than 1 .*tau=1.0"),
        ({"surrogate": "step"}, "surrogate must be one of .*'step'"),
        ({"drop_path": 1.5}, "drop_path must be in"),
        ({"mlp_ratio": 0.01}, "mlp_ratio times .*mlp_ratio=0.01"),
        ({"membrane_state": "layer"}, "membrane_state must be one of .*'layer'"),
    ],
    ids=str,
)
def test_wrong_argument_says_the_rule_and_the_value(change, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        QKFormerBackbone(**{**TINY, **change})


def test_configuration_makes_an_equal_backbone():
    changes = dict(
        image_size=(32, 48),
        in_channels=5,
        static=False,
        time_steps=2,
        family="dvs",
        embed_dim=32,
        depths=(2, 1),
        num_heads=(2, 4),
        mlp_ratio=3,
        attention=("channel", "token"),
        residual="pre_activation",
        neuron="plif",
        tau=3.0,
        surrogate="atan",
        deformed_shortcut=False,
        drop_path=0.1,
        dtype="mixed_bfloat16",
    )
    arguments = set(inspect.signature(QKFormerBackbone).parameters)
    # Its other value has no pre-activation form and is tested by itself.
    assert arguments - {"kwargs", "membrane_state"} == set(changes)
    backbone = QKFormerBackbone(**changes)
    config = backbone.get_config()
    assert set(config) == arguments - {"kwargs"} | {"name", "trainable"}
    copy = QKFormerBackbone.from_config(config)
    assert copy.get_config() == config
    assert [w.shape for w in copy.weights] == [w.shape for w in backbone.weights]

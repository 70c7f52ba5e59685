"""Presets and arguments of models that are known without Keras are the real ones."""

import dataclasses
import json
import sys

import pytest
from small_models import SMALL_MODELS

from keras_qkformer.layers import qkformer_block, sew_block, spiking_self_attention
from keras_qkformer.layers.neurons import NEURONS
from keras_qkformer.layers.patch_embedding import family_reduction
from keras_qkformer.models import PRESETS, SpikingClassifier
from keras_qkformer.models.preset import FAMILIES
from keras_qkformer.ops import surrogate_names
from keras_qkformer.presets import published, qkformer, ranges, sew_resnet
from keras_qkformer.presets.arguments import parameters_of
from keras_qkformer.presets.declared import (
    check_settings,
    declared,
    files_of,
    is_unchanged,
    look_up,
)
from keras_qkformer.presets.preset import Preset

pytestmark = pytest.mark.backend_independent
OURS = sorted({preset.family for preset in published.PRESETS.values()})


def test_presets_are_those_of_the_registered_families():
    ours = {k: p for k, p in PRESETS.items() if p.family in OURS}
    assert list(ours) == list(published.PRESETS)
    assert all(ours[name] is preset for name, preset in published.PRESETS.items())
    package = {
        name
        for name, family in FAMILIES.items()
        if family.backbone.__module__.startswith("keras_qkformer.")
    }
    assert set(OURS) == package


@pytest.mark.parametrize("family", OURS)
def test_stand_ins_have_the_parameters_and_meanings_of_the_classes(family):
    real = FAMILIES[family].backbone, SpikingClassifier
    for stand_in, cls in zip(declared(family), real, strict=True):
        assert parameters_of(stand_in) == parameters_of(cls)
        assert stand_in.__doc__.split() == cls.__doc__.split()
        assert stand_in.__name__ == cls.__name__


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("qkformer_tinny", {}, r"'qkformer_tinny' \(did you mean 'qkformer_tiny'\?\)"),
        ("qkformer_tiny", {"taau": 3}, r"\['taau'\] \(did you mean 'tau'\?\)"),
        ("qkformer_tiny", {"tau": [3]}, r"tau must be a finite number or null"),
        ("qkformer_tiny", {"num_classes": "3"}, "num_classes must be a whole number"),
        ("spikformer_4_256_cifar10", {"family": "dvs"}, r"Received: \['family'\]"),
        ("qkformer_tiny", {"embed_dim": 7}, "multiple of 2 with 2 stages. .*=7"),
        ("qkformer_tiny", {"image_size": 9}, "image_size must be a multiple of 2 in"),
        ("qkformer_tiny", {"dropout": 1}, r"dropout must be in \[0, 1\). .*=1"),
        ("qkformer_tiny", {"surrogate": "step"}, "surrogate must be .*'step'"),
        ("spikformer_4_256_cifar10", {"depth": 0}, "depth must be above 0. .*=0"),
        ("spikformer_4_256_cifar10", {"attention_scale": 0}, "scale must be above 0"),
        ("spikingformer_4_384_cifar10", {"tau": 1}, "tau must be greater than 1"),
        ("max_former_4_384_cifar10", {"mixers": "conv"}, "mixers must be of"),
        ("sew_resnet_18_imagenet", {"connect": "or"}, "connect must be one of"),
    ],
)
def test_what_can_not_be_is_told(preset, changes, message, monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with pytest.raises(ValueError, match=message):
        check_settings(preset, changes)


def test_ranges_are_those_of_the_layers():
    assert ranges.NEURONS == tuple(sorted(NEURONS))
    assert set(ranges.SURROGATES) <= {*surrogate_names()}
    assert qkformer.ATTENTIONS == qkformer_block.ATTENTIONS
    assert qkformer.MEMBRANE_STATES == spiking_self_attention.MEMBRANE_STATES
    assert sew_resnet.CONNECTIONS == sew_block.CONNECTIONS
    for family, reduction in qkformer.STEM_REDUCTIONS.items():
        assert family_reduction(family, stem=True) == reduction
        assert family_reduction(family, stem=False) == 2


@pytest.mark.parametrize("family", SMALL_MODELS)
def test_every_change_of_a_preset_but_of_its_training_is_seen(family):
    small = SMALL_MODELS[family]
    given = small.make().backbone.preset_arguments()
    preset = Preset(
        family=family,
        description="",
        source="",
        parameters=0,
        arguments=small.arguments,
    )
    assert is_unchanged(preset, given)
    assert is_unchanged(preset, {"time_steps": small.arguments["time_steps"]})
    unseen = set()
    for name, value in small.changes.items():
        other = dataclasses.replace(preset, arguments={**small.arguments, name: value})
        if is_unchanged(other, given):
            unseen.add(name)
    assert unseen == {"drop_path"} & {*small.changes}
    for strange in ([], [[1], {}], {}):
        given = dict.fromkeys(small.arguments, strange)
        assert not is_unchanged(preset, given)


@pytest.mark.parametrize("name", published.PRESETS)
def test_every_preset_is_within_its_ranges(name):
    check_settings(name, {})


def test_kinds_of_files_are_known_from_a_config(tmp_path):
    assert files_of("qkformer_tiny") == "images"
    assert files_of("sew_resnet_7_cifar10_dvs") == "recordings"
    config = {"format": 1, "model_family": "spikformer", "image_size": 32}
    path = tmp_path / "config.json"
    for more, expected in (
        ({}, "images"),
        ({"in_channels": 2}, None),
        ({"model_family": "mine"}, None),
    ):
        path.write_text(json.dumps({**config, **more}))
        assert files_of(str(tmp_path)) == expected


def test_a_folder_has_the_arguments_of_its_config(tmp_path):
    config = {"format": 1, "model_family": "spikformer", "image_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert look_up(str(tmp_path)) == ("spikformer", {"image_size": 32})
    check_settings(str(tmp_path), {"attention_bias": True})
    with pytest.raises(ValueError, match=r"\['mixers'\]"):
        check_settings(str(tmp_path), {"mixers": ["self"]})


def test_what_only_its_module_or_its_address_knows_passes(tmp_path):
    config = {"format": 1, "model_family": "mine"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert look_up(str(tmp_path)) is None
    check_settings("hf://someone/model", {"anything": 1})

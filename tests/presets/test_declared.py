"""Presets and arguments of models that are known without Keras are the real ones."""

import json

import pytest

from keras_qkformer.models import PRESETS, SpikingClassifier
from keras_qkformer.models.preset import FAMILIES
from keras_qkformer.presets import published
from keras_qkformer.presets.arguments import parameters_of
from keras_qkformer.presets.declared import check_settings, declared, look_up

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
    ],
)
def test_what_can_not_be_is_told(preset, changes, message):
    with pytest.raises(ValueError, match=message):
        check_settings(preset, changes)


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

"""The classes of the published models have their names, in the order of the labels."""

import re
import zipfile

import pytest
from conftest import shared_file

from keras_qkformer.data.recordings.prepare import builder_class
from keras_qkformer.models import PRESETS
from keras_qkformer.published_data import IMAGENET_FILE

pytestmark = pytest.mark.backend_independent


@pytest.mark.parametrize(
    "name", [name for name, preset in PRESETS.items() if preset.source != "ours"]
)
def test_every_class_has_one_name(name):
    names = PRESETS[name].class_names
    assert len(set(names)) == len(names) == PRESETS[name].arguments["num_classes"]


def test_names_of_event_data_are_those_of_the_builders():
    for data, preset in (
        ("cifar10_dvs", "qkformer_2_256_cifar10_dvs"),
        ("dvs128_gesture", "qkformer_2_256_dvs128_gesture"),
    ):
        assert PRESETS[preset].class_names == builder_class(data).CLASS_NAMES


def test_cifar_is_in_alphabetical_order():
    for preset in ("qkformer_4_384_cifar10", "qkformer_4_384_cifar100"):
        names = PRESETS[preset].class_names
        assert list(names) == sorted(names)


def test_synsets_of_imagenet_are_in_order_and_named_as_in_real_photos():
    lines = IMAGENET_FILE.read_text().splitlines()
    pairs = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    assert len(pairs) == 1000
    assert pairs == sorted(pairs)
    names = dict(pairs)
    with zipfile.ZipFile(shared_file("imagenet-100-photos.zip")) as photos:
        found = re.findall(r"(n\d{8})_(.*)\.JPEG", "\n".join(photos.namelist()))
    assert len(found) == 100
    for synset, name in found:
        assert names[synset].lower() == name.lower().replace("_", " ")

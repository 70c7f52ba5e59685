"""The examples that a trained model is looked at with."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_qkformer.data.images.digits import write_digit_images
from keras_qkformer.data.recordings.moving_digits import write_moving_digits
from keras_qkformer.data.sources import load_examples
from keras_qkformer.presets.folders import weights_folder
from keras_qkformer.trained import load_trained
from keras_qkformer.training.model_data import BATCH_SIZE, model_data

pytestmark = pytest.mark.backend_independent

DIGITS, EVENTS = (weights_folder() / name for name in ("digits", "dvs_digits"))
RECIPE = Path(__file__).parents[2] / "recipes" / "digits.py"


@pytest.fixture(scope="module")
def digits():
    return load_trained(DIGITS)


@pytest.fixture(scope="module")
def events():
    return load_trained(EVENTS)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Sixty images each for training and for the test, as PNG."""
    folder = tmp_path_factory.mktemp("data") / "scans"
    write_digit_images(folder, most=60)
    return folder


def everything(data):
    return np.concatenate([*data.batches()])


def test_a_model_knows_the_data_of_its_recipe(digits):
    data = model_data(digits, DIGITS)
    assert (data.source, data.split, data.settings["optimizer.epochs"]) == (
        "digits",
        "test",
        20,
    )
    pixels, labels = load_examples("digits", "test")
    np.testing.assert_array_equal(data.labels, labels)
    np.testing.assert_array_equal(everything(data), digits.preprocessing(pixels))
    # And once more, from the start.
    assert next(data.batches()).shape == (64, 8, 8, 1)


def test_a_recipe_file_names_other_data(digits):
    data = model_data(digits, DIGITS, str(RECIPE), "train[:7]", ["data.batch_size=2"])
    assert (data.source, data.split, len(data.labels)) == ("digits", "train[:7]", 7)
    assert [len(batch) for batch in data.batches()] == [2, 2, 2, 1]


def test_a_folder_with_classes_has_labels(digits, images):
    data = model_data(digits, DIGITS, images)
    assert (data.source, data.split) == ("scans", "test")
    count = len([*(images / "test").rglob("*.png")])
    assert len(data.labels) == len(everything(data)) == count > 0
    assert {*data.labels} <= {*range(10)}


def test_a_folder_of_files_has_none(digits, images, tmp_path):
    files = sorted((images / "train").rglob("*.png"))[: BATCH_SIZE + 1]
    for number, file in enumerate(files):
        shutil.copy(file, tmp_path / f"{number:02}.png")
    (tmp_path / "notes.txt").write_text("no image")
    data = model_data(digits, DIGITS, tmp_path)
    assert (data.labels, data.split) == (None, "")
    assert [len(batch) for batch in data.batches()] == [BATCH_SIZE, 1]
    expected = digits.preprocessing(digits.read(files[0]))
    np.testing.assert_array_equal(everything(data)[0], expected)
    with pytest.raises(ValueError, match=r"Received: --split test with 33 files"):
        model_data(digits, DIGITS, tmp_path, "test")


def test_recordings_become_frames_as_in_training(events, tmp_path):
    write_moving_digits(tmp_path / "events", most=25)
    data = model_data(events, EVENTS, tmp_path / "events")
    assert (data.source, data.split) == ("events", "test")
    frames = everything(data)
    assert frames.shape == (len(data.labels), 6, 32, 32, 2)
    (file, *_) = sorted((tmp_path / "events").rglob("*.aedat*"))
    (tmp_path / "flat").mkdir()
    shutil.copy(file, tmp_path / "flat")
    (found,) = everything(model_data(events, EVENTS, tmp_path / "flat"))
    assert found.shape == (6, 32, 32, 2)
    np.testing.assert_array_equal(found, events.preprocessing(events.read(file)))


def test_data_must_be_known_and_have_the_classes_of_the_model(digits, images):
    without = dataclasses.replace(digits, metadata={})
    with pytest.raises(ValueError, match=r"--data must name .* Received: 'w' alone"):
        model_data(without, "w")
    assert model_data(without, "w", images).settings == {}
    others = dataclasses.replace(digits, class_names=list("abcdefghij"))
    with pytest.raises(ValueError, match=r"The classes of the data must be those"):
        model_data(others, DIGITS)

"""Examples of settings: events changed for training, voxel grids, what does not fit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fake_recordings import make_cifar10_dvs, make_classes

from keras_qkformer.data.examples import Examples
from keras_qkformer.data.recordings.event_noise import change_events
from keras_qkformer.data.recordings.prepare import builder_class, prepare
from keras_qkformer.data.settings import Data, EventAugmentation, ImageAugmentation
from keras_qkformer.data.source import REGISTERED, OnDemand, Source
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.frames import events_to_voxel_grid
from keras_qkformer.events.recording import read_recording

pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
STILL = {"flip": "none", "operations": False, "mixup_probability": 0.0}
SENSOR = (16, 16)
NOISY = {
    "drop_events": {"drop_events": 0.5},
    "drop_time": {"drop_time": 0.5},
    "drop_area": {"drop_area": 0.25},
    "jitter_us": {"jitter_us": 5000.0},
    "jitter_pixels": {"jitter_pixels": 2.0},
    "hot_pixels": {"hot_pixels": 3, "hot_pixel_hz": 1000.0},
    "noise_hz": {"noise_hz": 50.0},
    "filter_us": {"filter_us": 100},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for split, count in (("train", 4), ("test", 2)):
        make_classes(folder / split, ["left", "right"], count=count, sensor=16)
    return Data(
        name="recordings",
        data_dir=str(folder),
        sensor_size=SENSOR,
        train="train",
        validation="test",
        test="test",
        batch_size=4,
    )


def examples_of(settings, augmentation=None, **options):
    augmentation = augmentation and EventAugmentation(**STILL, **augmentation)
    settings = dataclasses.replace(settings, event_augmentation=augmentation)
    return Examples(settings, (3, *SENSOR, 2), seed=5, **options)


def epochs_of(examples, first_epoch=0, **options):
    batches = examples.training(first_epoch=first_epoch, epochs=2, **options)
    return [frames.numpy() for frames, _ in batches]


@pytest.mark.parametrize("name", NOISY)
def test_events_of_training_are_changed_and_those_of_evaluation_are_not(settings, name):
    plain, noisy = examples_of(settings), examples_of(settings, NOISY[name])
    inputs, labels = plain.held_out("test")
    for shown, same in zip(
        plain.evaluation(inputs, labels),
        noisy.evaluation(*noisy.held_out("test")),
        strict=True,
    ):
        np.testing.assert_array_equal(shown[0], same[0])
    # The same recordings in the same order, with other events.
    before, after = (np.stack(epochs_of(examples)) for examples in (plain, noisy))
    assert before.shape == after.shape == (4, 4, 3, *SENSOR, 2)
    assert not np.array_equal(before, after)
    difference = after.sum() - before.sum()
    if name in ("hot_pixels", "noise_hz"):
        assert difference > 0
    elif name == "jitter_us":
        assert difference == 0
    else:
        assert difference < 0


def test_changed_events_depend_on_seed_epoch_and_example_alone(settings):
    noise = NOISY["drop_events"]
    whole = epochs_of(examples_of(settings, noise))
    np.testing.assert_array_equal(whole, epochs_of(examples_of(settings, noise)))
    resumed = epochs_of(examples_of(settings, noise), first_epoch=1)
    np.testing.assert_array_equal(whole[2:], resumed)
    # Each recording is changed anew in every epoch.
    assert len({frames.tobytes() for frames in np.concatenate(whole)}) == 16


def test_steps_change_events_in_their_order_and_none_without_settings():
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 10_000, 500))
    x, y = rng.integers(0, 16, (2, 500))
    events = make_events(t, x, y, rng.random(500) < 0.5)
    none = EventAugmentation(flip="none")
    assert not none.changes_events
    shuffled = events[rng.permutation(500)]
    kept = change_events(shuffled, np.random.default_rng(0), none, SENSOR)
    np.testing.assert_array_equal(kept["t"], events["t"])
    lost = EventAugmentation(flip="none", drop_events=1.0, hot_pixels=2, noise_hz=9.0)
    assert lost.changes_events
    assert len(change_events(events, np.random.default_rng(0), lost, SENSOR)) == 0


def test_windows_of_recordings_can_be_changed(settings):
    windows = dataclasses.replace(settings, window_us=10_000, batch_size=2)
    noisy = examples_of(windows, NOISY["drop_events"])
    assert isinstance(noisy.train[0], OnDemand)
    assert isinstance(examples_of(windows).train[0], np.ndarray)
    # Of 8 recordings of nearly 100 ms.
    assert len(examples_of(settings).train[1]) == 8
    assert 8 * 8 < len(examples_of(windows).train[1]) <= 8 * 10
    frames = np.concatenate(epochs_of(noisy))
    assert 0 < frames.sum() < np.concatenate(epochs_of(examples_of(windows))).sum()


def test_a_setting_of_images_has_no_place_beside_recordings(settings):
    cropped = dataclasses.replace(settings, evaluation_crop=0.9)
    with pytest.raises(ValueError, match=r"is for images, not.*Received: 0\.9"):
        _ = examples_of(cropped).training_functions


def test_voxel_grids_are_frames_of_a_recipe(settings):
    grids = dataclasses.replace(settings, frames_by="voxel")
    inputs, labels = examples_of(grids).held_out("test")
    assert (inputs.shape, inputs.dtype) == ((4, 3, *SENSOR, 2), "float32")
    expected = {
        events_to_voxel_grid(read_recording(path), 3, SENSOR).tobytes()
        for path in sorted(Path(settings.data_dir, "test").rglob("*.aedat"))
    }
    assert {grid.tobytes() for grid in inputs} == expected
    ((batch, _),) = examples_of(grids).evaluation(inputs, labels)
    np.testing.assert_array_equal(batch, inputs)
    assert np.stack(epochs_of(examples_of(grids, NOISY["drop_events"]))).sum() > 0


def test_stored_frames_can_not_be_changed_and_stored_events_can(tmp_path):
    tfds.disable_progress_bar()
    names = builder_class("cifar10_dvs").CLASS_NAMES
    make_cifar10_dvs(tmp_path / "files", names, zipped=False)
    options = {"data_dir": tmp_path, "verify_files": False}
    prepare("cifar10_dvs", tmp_path / "files", configs=["frames_t10"], **options)
    settings = Data(
        name="cifar10_dvs",
        data_dir=str(tmp_path),
        train="train",
        validation="test",
        test="test",
        batch_size=8,
    )
    noise = EventAugmentation(**STILL, drop_events=0.5)
    noisy = dataclasses.replace(settings, event_augmentation=noise)
    shape = (10, 128, 128, 2)
    assert len(Examples(settings, shape).train[1]) == 90
    with pytest.raises(ValueError, match="data prepare cifar10_dvs --config events"):
        Examples(noisy, shape)
    prepare("cifar10_dvs", tmp_path / "files", configs=["events"], **options)
    plain, changed = Examples(settings, shape), Examples(noisy, shape)
    first, *_ = changed.training(first_epoch=0, epochs=1, steps=1)
    whole, *_ = plain.training(first_epoch=0, epochs=1, steps=1)
    assert 0 < first[0].numpy().sum() < whole[0].numpy().sum()
    stored, counted = (e.held_out("test")[0] for e in (plain, changed))
    np.testing.assert_array_equal(stored, counted)


def digits(*, settings=None, **options):
    """Examples of 32 digits of 8x8 pixels to train, with other settings."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    splits = {"train": "train[:32]", "validation": "train[32:50]", "test": "test[:7]"}
    values = {"name": "digits", "batch_size": 8, **splits, **(settings or {})}
    return Examples(Data(**values), (8, 8, 1), **options)


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("values", [(), (0.5, 0.5)])
def test_statistics_have_a_value_for_each_channel(name, values):
    with pytest.raises(ValueError, match=rf"data\.{name} must have 1 .*Received: \["):
        _ = digits(settings={name: values}).training_functions


def test_images_of_another_range_are_not_augmented_as_pixels(monkeypatch):
    """Training would see others than evaluation: these of 0 to 1 would be black."""

    def load(split, bounds):
        return np.ones((8, 8, 8, 1), "float32"), np.arange(8) % 2

    source = Source(
        class_names=("a", "b"), mean=(0.5,), std=(0.25,), max_value=1.0, load=load
    )
    monkeypatch.setitem(REGISTERED, "ones", lambda: source)
    splits = dict.fromkeys(("train", "validation", "test"), "all")
    settings = Data(name="ones", batch_size=8, **splits)
    images, _ = first_epoch(Examples(settings, (8, 8, 1)))
    np.testing.assert_array_equal(images, 2.0)
    settings = dataclasses.replace(settings, image_augmentation=ImageAugmentation())
    with pytest.raises(ValueError, match=r"0 to 255\. Received: max_value=1\.0 of"):
        _ = Examples(settings, (8, 8, 1)).training_functions


def first_epoch(examples, **options):
    """Images and labels of the first epoch."""
    batches = examples.training(first_epoch=0, epochs=1, **options)
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_seed_decides_the_order_of_training():
    one, same, other = (first_epoch(digits(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0], same[0])
    assert not np.array_equal(one[0], other[0])


def test_steps_are_bounded_in_training_and_in_evaluation():
    examples = digits(max_steps=2)
    assert (examples.steps, digits().steps, digits(max_steps=9).steps) == (2, 4, 4)
    for split, count in (("train[32:50]", 16), ("test[:7]", 7)):
        inputs, labels = examples.held_out(split)
        assert len(inputs) == len(labels) == count
        assert len(digits().held_out(split)[1]) == {16: 18}.get(count, count)


def test_batches_of_evaluation_fill_the_devices_of_every_host():
    examples = digits()
    inputs, labels = examples.held_out("train[32:50]")
    batches = examples.evaluation(inputs, labels, multiple_of=4).as_numpy_iterator()
    assert [len(batch[1]) for batch in batches] == [8, 8, 4]
    places = np.minimum(np.arange(20), 17)
    for index, rows in enumerate(([0, 1, 2, 3], [4, 5, 6, 7])):
        shard = examples.evaluation(inputs, labels, multiple_of=4, shard=(index, 2))
        first, _, last = shard.as_numpy_iterator()
        np.testing.assert_array_equal(first[1], labels[rows])
        np.testing.assert_array_equal(last[1], labels[places[16:]][2 * index :][:2])


@pytest.mark.parametrize("name", ["max_shift", "max_rotation", "max_zoom"])
def test_each_amount_moves_images_in_its_own_way_and_only_where_asked(name):
    plain, labels = first_epoch(digits())
    value = {"max_shift": 0.2, "max_rotation": 20.0, "max_zoom": 0.3}[name]
    moved = digits(settings={name: value})
    images, same = first_epoch(moved)
    np.testing.assert_array_equal(same, labels)
    assert abs(images - plain).max() > 0.1
    assert moved.augmentation().keywords[name] == value
    np.testing.assert_array_equal(first_epoch(moved, augmented=False)[0], plain)


def test_random_windows_are_of_the_whole_image_and_of_their_shape():
    """Whatever evaluation cuts off."""
    whole = {"random_resized_crop": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip": False}
    settings = {
        "evaluation_crop": 0.5,
        "image_augmentation": ImageAugmentation(**whole),
    }
    plain, labels = first_epoch(digits())
    images, same = first_epoch(digits(settings=settings))
    np.testing.assert_array_equal(same.argmax(-1), labels)
    np.testing.assert_allclose(images, plain, atol=0.51 / 255 / 0.37)
    wide = {"random_resized_crop": (0.125, 0.125), "crop_ratio": (2.0, 2.0)}
    settings["image_augmentation"] = ImageAugmentation(**wide)
    window = digits(settings=settings).training_functions["window"]
    found = window(8, 8, np.zeros((10, 4), "float32"))
    assert found.numpy().tolist() == [0, 0, 2, 4]

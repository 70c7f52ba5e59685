"""A trained model as one object: from a folder to answers about files and arrays."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from fake_images import picture
from fuzz.preset_folder import fuzz
from model_harness import TINY, compiled, settle

import keras_qkformer
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.frames import events_to_frames
from keras_qkformer.manifest import IntegrityWarning, write_manifest
from keras_qkformer.models import (
    QKFormerBackbone,
    QKFormerClassifier,
    SpikingClassifier,
)
from keras_qkformer.trained import BEST_FOLDER, TrainedModel, load_trained

NAMES = ["cat", "dog", "owl"]
OF_IMAGES = Preprocessing(
    (8, 12), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), crop=0.75, interpolation="bicubic"
)
OF_FRAMES = Preprocessing((8, 12), (0.5, 0.25), (0.5, 2.0), max_value=2.0)


def save_model(folder, preprocessing, metadata=None, **arguments):
    backbone = QKFormerBackbone(**{**TINY, **arguments})
    model = settle(QKFormerClassifier(backbone, len(NAMES)))
    metadata = {
        "class_names": NAMES,
        "preprocessing": preprocessing.to_dict(),
        **(metadata or {}),
    }
    model.save_to_preset(folder, metadata)
    return model


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A workdir with a model of images, and the model."""
    workdir = tmp_path_factory.mktemp("images")
    model = save_model(workdir / BEST_FOLDER, OF_IMAGES, in_channels=3)
    return workdir, model


def softmax(logits):
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def test_the_folder_of_a_training_and_its_best_epoch_are_the_same(images):
    workdir, model = images
    for folder in (workdir, workdir / BEST_FOLDER, str(workdir)):
        trained = load_trained(folder)
        assert isinstance(trained, TrainedModel)
        assert trained.class_names == NAMES
        assert trained.preprocessing == OF_IMAGES
        assert trained.folder == workdir / BEST_FOLDER
        assert trained.metadata["parameters"] > 0
        for ours, theirs in zip(trained.model.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert load_trained(workdir, time_steps=2).model.backbone.time_steps == 2
    assert keras_qkformer.load_trained is load_trained


def test_files_and_arrays_of_any_size_have_the_answers_of_the_model(images, tmp_path):
    workdir, model = images
    pixels = [picture(i, size) for i, size in enumerate([(40, 56), (33, 20), (8, 12)])]
    for number, image in enumerate(pixels):
        (tmp_path / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
    inputs = []
    for image, (height, width), (top, left) in zip(
        # The shorter side becomes 8 / 0.75 = 10 or 12 / 0.75 = 16; then 8 x 12.
        *(pixels, [(11, 16), (26, 16), (10, 16)], [(2, 2), (9, 2), (1, 2)]),
        strict=True,
    ):
        resized = tf.image.resize(image, (height, width), "bicubic", antialias=True)
        middle = resized[top : top + 8, left : left + 12].numpy().clip(0, 255)
        inputs.append((middle / 255 - OF_IMAGES.mean) / OF_IMAGES.std)
    expected = compiled(model)(np.array(inputs, "float32"))
    trained = load_trained(workdir)
    np.testing.assert_allclose(trained.logits(pixels), expected, atol=1e-4)
    files = [tmp_path / "0.png", str(tmp_path / "1.png"), pixels[2]]
    answers = trained.predict(files)
    np.testing.assert_allclose(answers, softmax(expected), atol=1e-4)
    np.testing.assert_allclose(answers.sum(-1), 1, atol=1e-12)
    one = trained.predict(pixels[2][None], batch_size=1)
    np.testing.assert_allclose(one, answers[2:], atol=1e-5)


@pytest.mark.backend_independent
def test_frames_are_made_by_known_defaults(tmp_path):
    save_model(tmp_path, OF_FRAMES, static=False)
    trained = load_trained(tmp_path)
    for data, sensor_size in (
        (None, [8, 12]),  # That of the model.
        ({"sensor_size": None}, [128, 128]),
        ({"sensor_size": [16, 24], "frames_by": None}, [16, 24]),
    ):
        metadata = {} if data is None else {"recipe": {"data": data}}
        known = dataclasses.replace(trained, metadata=metadata)
        options = {"sensor_size": sensor_size, "frames_by": "number"}
        assert known.frame_options == options
        assert known.orientation == "jaer"
    # A prepared data set has one sensor, which no recipe names.
    metadata = {"recipe": {"data": {"sensor_size": None}}, "sensor_size": [34, 34]}
    known = dataclasses.replace(trained, metadata=metadata)
    assert known.frame_options["sensor_size"] == [34, 34]


@pytest.mark.backend_independent
def test_inputs_pass_the_model_in_batches_of_the_size(images, monkeypatch):
    trained, sizes = load_trained(images[0]), []

    def record(model, inputs, batch_size=None, **options):
        sizes.append(batch_size)
        return np.zeros((len(inputs), 3), "float32")

    monkeypatch.setattr(QKFormerClassifier, "predict", record)
    trained.predict(np.zeros((3, 8, 12, 3)), batch_size=2)
    trained.logits(np.zeros((3, 8, 12, 3)), batch_size=3)
    assert sizes == [2, 3]


@pytest.mark.parametrize("frames_by", ["number", "time"])
def test_recordings_become_frames_as_in_training(tmp_path, frames_by):
    metadata = {
        "recipe": {"data": {"sensor_size": [16, 24], "frames_by": frames_by}},
        "orientation": "spikingjelly",
    }
    model = save_model(tmp_path / "model", OF_FRAMES, metadata, static=False)
    draw = np.random.default_rng(0).integers
    t = np.sort(draw(0, 90, 500) ** 3)
    events = make_events(t, draw(0, 24, 500), draw(0, 16, 500), draw(0, 2, 500))
    write_aedat2(tmp_path / "a.aedat", events, orientation="spikingjelly")
    frames = events_to_frames(events, 3, (16, 24), split_by=frames_by)
    small = tf.image.resize(frames, (8, 12), antialias=True).numpy()
    inputs = ((small / 2 - OF_FRAMES.mean) / OF_FRAMES.std).astype("float32")
    expected = softmax(compiled(model)(inputs[None]))
    answers = load_trained(tmp_path / "model").predict([tmp_path / "a.aedat", frames])
    np.testing.assert_allclose(answers, [expected[0]] * 2, atol=1e-4)


@pytest.mark.backend_independent
def test_what_is_not_trained_or_lacks_something_is_named(images, tmp_path):
    workdir, _ = images
    with pytest.raises(ValueError, match="at least one finished epoch"):
        load_trained(tmp_path)
    path = workdir / BEST_FOLDER / "metadata.json"
    metadata = json.loads(path.read_text())
    for changes, message in (
        ({"class_names": None, "preprocessing": None}, "without class_names, preproc"),
        (
            {"preprocessing": {"mean": [0]}},
            r"must have \['image_size', 'mean', 'std'\]",
        ),
        ({"preprocessing": {**OF_IMAGES.to_dict(), "gamma": 2}}, "'gamma'"),
    ):
        changed = {**metadata, **changes}
        changed = {key: value for key, value in changed.items() if value is not None}
        shutil.copytree(workdir / BEST_FOLDER, tmp_path, dirs_exist_ok=True)
        (tmp_path / "metadata.json").write_text(json.dumps(changed))
        write_manifest(tmp_path)
        with pytest.raises(ValueError, match=message):
            load_trained(tmp_path)


@pytest.mark.backend_independent
def test_metadata_that_does_not_fit_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setattr(
        SpikingClassifier, "from_preset", lambda *arguments, **options: images[1]
    )
    metadata = json.loads((images[0] / BEST_FOLDER / "metadata.json").read_text())
    for changes, message in (
        ({"preprocessing": []}, r"metadata\.json: preprocessing: .* Received: \[\]"),
        *(
            (
                {"preprocessing": {**OF_IMAGES.to_dict(), name: value}},
                rf"metadata\.json: preprocessing\.{name}.*Received: ",
            )
            for name, value in (
                ("mean", [0.4, float("nan"), 0.6]),
                ("std", [0.2, 0.0, 0.3]),
                ("std", [0.2, float("inf"), 0.3]),
                ("std", "abc"),
                ("image_size", [8, -12]),
                ("image_size", [8]),
                ("max_value", 0),
                ("crop", 0.0),
                ("interpolation", "area"),
            )
        ),
        (
            {"preprocessing": {**OF_IMAGES.to_dict(), "std": [1, 1]}},
            "a value for each channel. Received: 3 and 2",
        ),
        (
            {"preprocessing": {**OF_IMAGES.to_dict(), "mean": [1, 1], "std": [1, 1]}},
            "a mean for each of the 3 channels. Received: 2",
        ),
        (
            {"preprocessing": {**OF_IMAGES.to_dict(), "image_size": [16, 16]}},
            r"the model's image_size, \(8, 12\). Received: \(16, 16\)",
        ),
        ({"class_names": NAMES[:2]}, "a class name for each of the 3 outputs.*: 2"),
        ({"class_names": [1, 2, 3]}, r"metadata\.json: class_names\.0: "),
        ({"recipe": []}, r"metadata\.json: recipe: "),
    ):
        (tmp_path / "metadata.json").write_text(json.dumps({**metadata, **changes}))
        with pytest.raises(ValueError, match=message):
            load_trained(tmp_path)


@pytest.mark.backend_independent
def test_changed_weights_do_not_answer(images, tmp_path):
    """The head's kernel with the other sign, and infinite: no file looks damaged."""
    import h5py

    shutil.copytree(images[0], tmp_path, dirs_exist_ok=True)

    def change(function):
        def visit(name, item):
            if isinstance(item, h5py.Dataset) and item.shape[-1:] == (len(NAMES),):
                item[...] = function(item[...])

        with h5py.File(tmp_path / BEST_FOLDER / "model.weights.h5", "r+") as file:
            file.visititems(visit)

    kernel = load_trained(tmp_path).model.get_layer("head").get_weights()[0]
    change(np.negative)
    with pytest.raises(ValueError, match=r"SHA-256 of model\.weights\.h5 must be"):
        load_trained(tmp_path)
    with pytest.warns(IntegrityWarning, match=r"model\.weights\.h5.* on trust"):
        trusted = load_trained(tmp_path, trust=True).model.get_layer("head")
    np.testing.assert_array_equal(trusted.get_weights()[0], -kernel)
    change(lambda kernel: np.full_like(kernel, np.inf))
    write_manifest(tmp_path / BEST_FOLDER)
    rule = "Weights must be finite. Received: .*head/kernel"
    with pytest.raises(ValueError, match=rule):
        load_trained(tmp_path, trust=True)


@pytest.mark.backend_independent
def test_no_random_damage_is_loaded(images):
    for seed in range(2):
        counts, failures = fuzz(images[0] / BEST_FOLDER, load_trained, 0.5, seed)
        assert failures == [], counts


@pytest.mark.backend_independent
def test_a_file_that_the_model_can_not_take_is_an_error(images, tmp_path):
    trained = load_trained(images[0])
    with pytest.raises(ValueError, match=r"must be a list.*Received: 'one\.png'"):
        trained.predict("one.png")
    (tmp_path / "a.jpg").write_text("a text")
    with pytest.raises(ValueError, match="must be a whole JPEG"):
        trained.predict([tmp_path / "a.jpg"])
    with pytest.raises(ValueError, match="a file that can be read"):
        trained.predict([tmp_path / "none.jpg"])
    grey = OF_IMAGES.to_dict() | {"mean": (0,) * 5, "std": (1,) * 5}
    save_model(tmp_path / "wide", Preprocessing(**grey), in_channels=5)
    with pytest.raises(ValueError, match=r"1 or 3 channels.*in_channels=5"):
        load_trained(tmp_path / "wide").predict([tmp_path / "a.jpg"])

"""Training on folders of images: augmented, damaged, resumed; previews and speeds."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from fake_images import (
    COLOURS,
    colour_examples,
    make_folder,
    write_colour_folder,
    write_colour_records,
)
from harness import free_port
from saved_presets import shallow_preset

from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.service import serve_dispatcher, serve_worker
from keras_qkformer.data.sources import load_examples
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.predict import predict_files
from keras_qkformer.trained import load_trained
from keras_qkformer.training.evaluate import evaluate, predict_split
from keras_qkformer.training.fit import fit
from keras_qkformer.training.input_pipeline import benchmark, preview
from keras_qkformer.training.recipe import (
    Data,
    ImageAugmentation,
    Optimizer,
    Recipe,
    override,
    to_dict,
)
from keras_qkformer.training.setup import prepare_training


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path / "images")


def make_recipe(root, *changes):
    recipe = Recipe(
        preset=shallow_preset(image_size=16, in_channels=3),
        model={"num_classes": 2},
        data=Data(
            name="folder",
            data_dir=str(root),
            train="train[:75%]",
            validation="train[75%:]",
            test="test",
            batch_size=4,
            evaluation_crop=0.8,
            image_augmentation=ImageAugmentation(
                policy="randaugment",
                random_resized_crop=(0.3, 1.0),
                erase_probability=0.25,
                mixup_alpha=0.5,
                cutmix_alpha=1.0,
            ),
        ),
        optimizer=Optimizer(epochs=1, learning_rate=1e-3),
        label_smoothing=0.1,
    )
    return override(recipe, changes)


@pytest.mark.backend_independent
def test_images_of_every_size_train_and_damaged_ones_are_listed(root, tmp_path):
    damaged = root / "train/cat/0.jpg", root / "test/dog/1.jpg"
    for path in damaged:
        path.write_text("a text")
    workdir = tmp_path / "run"
    results = fit(make_recipe(root), workdir, verbose=0)
    assert np.isfinite(results["history"]["loss"]).all()
    assert results["test"]["examples"] == 3
    assert results["damaged_images"] == 2
    lines = (workdir / "damaged_images.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == sorted(map(str, damaged))
    assert evaluate(workdir) == results["test"]
    # A file is preprocessed as in evaluation: its answer is that of the split.
    files = [root / "test" / name for name in ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg")]
    names, answers = predict_files(workdir, [*files, damaged[1]], batch_size=2)
    *answers, without = answers
    assert [answer.path for answer in answers] == files
    assert without.probabilities is None
    assert str(damaged[1]) in without.error
    probabilities = np.stack([answer.probabilities for answer in answers])
    accuracy = (probabilities.argmax(-1) == [0, 0, 1]).mean()
    assert names == ["cat", "dog"]
    assert accuracy == pytest.approx(results["test"]["accuracy"])
    loss = -np.log(probabilities[range(3), [0, 0, 1]]).mean()
    assert loss == pytest.approx(results["test"]["loss"], abs=1e-4)
    images = np.load(workdir / "examples.npz")["images"]
    assert (images.shape, images.dtype) == ((3, 20, 20, 3), "uint8")
    # What the training left out is still told when the same call only tests.
    damaged[0].write_bytes((root / "train/cat/1.jpg").read_bytes())
    assert fit(make_recipe(root), workdir, verbose=0)["damaged_images"] == 2
    assert (workdir / "damaged_images.txt").read_text().splitlines() == lines


@pytest.mark.backend_independent
def test_a_single_class_is_nothing_to_learn(root, tmp_path):
    (root / "train/dog").rename(root / "train/cat/dog")
    (root / "test/dog").rename(root / "test/cat/dog")
    recipe = make_recipe(root / "train" / "cat", "data.test=train[:1]")
    recipe = override(recipe, ["data.train=train[:4]", "data.validation=train[4:]"])
    with pytest.raises(ValueError, match=r"two classes\. Received: \['dog'\] of"):
        fit(recipe, tmp_path / "run", verbose=0)


@pytest.mark.backend_independent
def test_images_of_a_folder_train_from_a_data_service(root, tmp_path):
    (root / "train/cat/0.jpg").write_text("a text")
    port = free_port()
    address = f"grpc://localhost:{port}"
    dispatcher = serve_dispatcher(port)
    worker = serve_worker(address)
    simple = "data.image_augmentation.policy=none", "max_steps=1"
    recipe = make_recipe(root, "data.train=train", *simple)
    results = fit(recipe, tmp_path / "run", verbose=0, data_service=address)
    assert np.isfinite(results["history"]["loss"]).all()
    del worker, dispatcher


@pytest.mark.backend_independent
def test_strict_stops_at_a_damaged_image(root, tmp_path):
    (root / "train/cat/3.jpg").write_bytes(b"")
    recipe = make_recipe(root, "data.strict=true", "data.train=train")
    with pytest.raises(ValueError, match=r"must be whole\..*3\.jpg: a file of 0 bytes"):
        fit(recipe, tmp_path / "run", verbose=0)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.mean=[0.5]", r"data\.mean must have 3 values.*Received: \[0\.5\]"),
        ("data.max_zoom=0.1", r"instead of max_shift"),
        ("model.num_classes=3", r"must have the 2 classes of 'folder'"),
        ("data.sensor_size=[3, 3]", r"sensor_size is no option of the source"),
    ],
)
def test_value_that_does_not_fit_is_an_error(root, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        fit(make_recipe(root, change), tmp_path / "run", verbose=0)


@pytest.mark.backend_independent
def test_preview_shows_what_the_network_sees(root):
    plain = 'data.image_augmentation={"flip": false}'
    images, captions = preview(make_recipe(root, plain), 8)
    assert images.shape == (8, 16, 16, 3)
    assert images.min() > -0.01 and images.max() < 1.01
    assert {caption.split()[0] for caption in captions} == {"cat", "dog"}
    images, captions = preview(make_recipe(root, "data.batch_size=2"), 4)
    assert images.shape == (4, 16, 16, 3) and len(captions) == 4


@pytest.mark.backend_independent
def test_benchmark_has_a_speed_for_every_stage(root, monkeypatch):
    shapes, precisions = set(), set()

    def train_on_batch(self, images, labels):  # Without the time of compiling.
        shapes.add((images.shape, labels.shape[:1]))
        precisions.add(self.backbone.dtype_policy.name)

    monkeypatch.setattr(SpikingClassifier, "train_on_batch", train_on_batch)
    recipe = make_recipe(root, "precision=mixed_bfloat16")
    rates = benchmark(recipe, seconds=0.05)
    assert keras.config.dtype_policy().name == "float32"
    assert precisions == {"mixed_bfloat16"}
    assert list(rates) == ["read", "decode", "batch", "augment", "train"]
    assert all(rate > 0 for rate in rates.values())
    assert shapes == {((4, 16, 16, 3), (4,))}


MEAN, STD = (0.6, 0.5, 0.3), (0.2, 0.4, 0.25)
"""Unequal everywhere, so that nothing can be exchanged unseen."""


def awkward_recipe(root):
    """Nothing in it is at its default or neutral."""
    return Recipe(
        preset=shallow_preset(image_size=16, in_channels=3),
        model={"dropout": 0.3},
        data=Data(
            name="tfrecord",
            data_dir=str(root),
            train="train",
            validation="validation",
            test="test",
            batch_size=4,
            evaluation_crop=0.8,
            image_augmentation=ImageAugmentation(flip=False, interpolation="bicubic"),
            mean=MEAN,
            std=STD,
        ),
        optimizer=Optimizer(epochs=1, learning_rate=0.1, average_decay=0.5),
        label_smoothing=0.3,
        seed=5,
    )


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Pictures of one colour per class; some of every split are damaged."""
    root = tmp_path_factory.mktemp("colours")
    splits = ("train", 11, (2, 6)), ("validation", 6, (4,)), ("test", 8, (4,))
    for split, count, damaged in splits:
        write_colour_records(root, split, colour_examples(count, damaged))
    return root


@pytest.fixture(scope="module")
def awkward(colours, tmp_path_factory):
    """A training, after something else in this process has met a damaged image."""
    other = tmp_path_factory.mktemp("other")
    write_colour_folder(other, "train", colour_examples(4, damaged=(1,), vary=False))
    load_examples("folder", "train", data_dir=str(other))
    workdir = tmp_path_factory.mktemp("awkward") / "run"
    results = fit(awkward_recipe(colours), workdir, verbose=0)
    with np.load(workdir / "examples.npz") as examples:
        assert np.ptp(examples["logits"], 0).min() > 1e-3  # Its neurons fire.
    return workdir, results


def test_damage_of_something_else_in_this_process_is_not_reported(awkward, colours):
    workdir, results = awkward
    lines = (workdir / "damaged_images.txt").read_text().splitlines()
    assert results["damaged_images"] == len(lines) == 4
    splits = "test", "train", "train", "validation"
    for line, split in zip(lines, splits, strict=True):
        assert line.startswith(f"{colours}/{split}-00000-of-00001, byte ")


@pytest.mark.backend_independent
def test_evaluation_tells_the_damage_of_its_own_split(awkward, colours):
    told = []
    assert evaluate(awkward[0], report_damaged=told.append)["examples"] == 7
    ((place,),) = told
    assert place.startswith(f"{colours}/test-00000-of-00001, byte ")
    evaluate(awkward[0], "train[:2]", report_damaged=pytest.fail)


def test_best_weights_are_the_averages_of_the_checkpoint(awkward):
    workdir, _ = awkward
    (path,) = (workdir / "checkpoints").glob("*.weights.h5")
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    optimizer = {
        int(name.split("/")[-1]): array
        for name, array in arrays.items()
        if name.startswith("optimizer/")
    }
    raw = [a for name, a in arrays.items() if not name.startswith("optimizer/")]
    best = [np.array(weight) for weight in load_trained(workdir).model.weights]
    # The optimizer has them behind its own variables.
    averages = [optimizer[number] for number in sorted(optimizer)[-len(best) :]]
    assert len(raw) == len(best)
    for ours, average in zip(best, averages, strict=True):
        np.testing.assert_array_equal(ours, average)
    for ours in best:
        if ours.ndim > 1:  # Kernels: all have learnt.
            assert not any(np.array_equal(ours, other) for other in raw)


def test_metadata_of_best_weights_are_those_of_the_recipe(awkward, colours):
    metadata = load_trained(awkward[0]).metadata
    assert metadata["recipe"] == to_dict(awkward_recipe(colours))
    assert metadata["class_names"] == ["zebra", "ant", "mole"]
    assert metadata["preprocessing"] == {
        "image_size": [16, 16],
        "mean": list(MEAN),
        "std": list(STD),
        "max_value": 255.0,
        "crop": 0.8,
        "interpolation": "bicubic",
    }


def test_validation_loss_is_that_of_smoothed_labels(awkward):
    workdir, results = awkward
    predictions = predict_split(workdir, "validation")
    logits, labels = predictions["logits"], predictions["labels"]
    assert labels.tolist() == [0, 1, 2, 0, 2]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = 0.7 * np.eye(3)[labels] + 0.3 / 3
    loss = -(targets * log_p).sum(-1).mean()
    assert results["best"]["val_loss"] == pytest.approx(loss, rel=1e-4)
    unsmoothed = -log_p[range(5), labels].mean()
    assert abs(unsmoothed - loss) > 1e-3 * loss


def test_tensorboard_shows_training_images_in_their_colours(awkward):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = []
    for path in (awkward[0] / "logs" / "train").iterdir():
        events = EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()
        if "augmented" in events.Tags()["tensors"]:
            (event,) = events.Tensors("augmented")
            shown += list(tf.make_ndarray(event.tensor_proto)[2:])
    assert len(shown) == 4
    wanted = np.array(list(COLOURS.values()))
    for encoded in shown:
        image = tf.io.decode_png(encoded).numpy().astype(int)
        # A value may be cut off where it was rounded.
        assert abs(image - wanted[:, None, None]).max((1, 2, 3)).min() <= 1


@pytest.mark.backend_independent
def test_damaged_validation_image_is_an_error_with_strict(colours, tmp_path):
    recipe = override(awkward_recipe(colours), ["data.strict=true"])
    recipe = override(recipe, ["data.train=test[:4]"])  # A whole part.
    with pytest.raises(ValueError, match=r"must be whole\..*/validation-"):
        fit(recipe, tmp_path / "run", verbose=0)


@pytest.mark.backend_independent
def test_damaged_test_image_is_an_error_with_strict(awkward, colours):
    recipe = override(awkward_recipe(colours), ["data.strict=true"])
    with pytest.raises(ValueError, match=r"must be whole\..*/test-"):
        evaluate(awkward[0], recipe=recipe)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Images in which every pixel counts, of many sizes, and their classes."""
    random = np.random.default_rng(0)
    sizes = (20, 20), (31, 24), (20, 37), (26, 26), (20, 20), (40, 33)
    images = [random.integers(0, 256, (*size, 3), "uint8") for size in sizes]
    names = [list(COLOURS)[number % 3] for number in range(6)]
    root = tmp_path_factory.mktemp("noise")
    encoded = [tf.io.encode_png(image).numpy() for image in images]
    write_colour_records(root, "train", zip(names, encoded, strict=True))
    return root, images


AUGMENTATIONS = {"nothing": "null", "no operation": '{"flip": false}'}


@pytest.mark.backend_independent
@pytest.mark.parametrize("augmentation", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_training_batch_without_augmentation_is_preprocessed_images(
    noise, augmentation
):
    root, images = noise
    change = f"data.image_augmentation={augmentation}"
    _, examples = prepare_training(override(awkward_recipe(root), [change]))
    assert examples.class_names == ("zebra", "ant", "mole")
    (batch,) = examples.training(first_epoch=0, epochs=1).as_numpy_iterator()
    interpolation = "bilinear" if augmentation == "null" else "bicubic"
    preprocessing = Preprocessing(
        (16, 16), MEAN, STD, crop=0.8, interpolation=interpolation
    )
    wanted = [preprocessing(image).numpy() for image in images]
    # An image of 16 / 0.8 pixels need not be resized: its middle is taken.
    np.testing.assert_allclose(
        wanted[0], (images[0][2:18, 2:18] / 255.0 - MEAN) / STD, atol=1e-5
    )
    inputs, labels = batch
    assert inputs.shape == (4, 16, 16, 3)
    found = [
        int(np.argmin([abs(image - other).max() for other in wanted]))
        for image in inputs
    ]
    assert len(set(found)) == 4
    # Pixels are whole numbers while they are augmented.
    rounding = 0.51 / 255 / np.array(STD)
    for image, number in zip(inputs, found, strict=True):
        assert (abs(image - wanted[number]) <= rounding).all()
    classes = [number % 3 for number in found]
    if augmentation == "null":
        assert labels.tolist() == classes
    else:
        targets = np.full((4, 3), 0.3 / 3)
        targets[range(4), classes] += 0.7
        np.testing.assert_allclose(labels, targets, atol=1e-6)

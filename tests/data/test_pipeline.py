"""Splits, order, augmentation and image files."""

import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets
from fake_images import make_folder, make_records

from keras_qkformer.data.images.affine import augment_images, random_affine
from keras_qkformer.data.images.encoded_images import EncodedImages
from keras_qkformer.data.images.image_decoding import read_image
from keras_qkformer.data.pipeline import evaluation_dataset, training_dataset
from keras_qkformer.data.source import OnDemand, Source
from keras_qkformer.data.sources import get_source, load_examples, load_split

pytestmark = pytest.mark.backend_independent


def identity(images):
    return tf.cast(images, tf.float32)


def numbered(count):
    """Images whose only pixel is their number."""
    images = np.arange(count, dtype="uint8").reshape(count, 1, 1, 1)
    return images, np.arange(count)


def order_of(dataset):
    return [tuple(labels.numpy()) for _, labels in dataset]


def test_digits_split_has_no_example_twice():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    train, test = (
        load_examples("digits", "train")[0],
        load_examples("digits", "test")[0],
    )
    assert (len(train), len(test)) == (1437, 360)
    fitting, validation = (
        load_examples("digits", split)[0] for split in ("train[:90%]", "train[90%:]")
    )
    np.testing.assert_array_equal(np.concatenate([fitting, validation]), train)
    assert train.dtype == "uint8"
    assert train.max() == 255


@pytest.mark.parametrize(
    "split", ["all", "test[", "test[5]", "train[:x]", "train[50%:110%]", "test[9:9]"]
)
def test_wrong_split_is_an_error_that_names_it(split):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    with pytest.raises(ValueError, match="Received") as error:
        load_examples("digits", split)
    assert repr(split) in str(error.value)
    if split == "all":
        assert "one of ['test', 'train']" in str(error.value)


def test_unknown_source_is_an_error():
    with pytest.raises(ValueError, match="Received: 'mnist'"):
        load_examples("mnist", "train")


CIFAR = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY = (0.449,), (0.226,)


@pytest.mark.parametrize(
    ("name", "channels", "statistics"),
    [
        ("cifar10", 3, CIFAR),
        ("cifar100", 3, CIFAR),
        ("imagenet2012", 3, IMAGENET),
        ("tfds/cifar10", 3, IMAGENET),
        ("folder", 3, IMAGENET),
        ("tfrecord", 3, IMAGENET),
        ("cifar10", 1, GREY),
        ("folder", 1, GREY),
        ("tfrecord", 1, GREY),
        ("digits", None, ((0.3053,), (0.3760,))),
        ("digits", 3, ((0.3053,), (0.3760,))),
    ],
)
def test_images_are_normalized_by_the_statistics_of_their_source(
    tmp_path, monkeypatch, name, channels, statistics
):
    opened = []

    def builder(name, data_dir):
        """As if every data set of TFDS were prepared."""
        opened.append(name)
        features = {"image": None, "label": SimpleNamespace(names=["wave", "clap"])}
        return SimpleNamespace(
            info=SimpleNamespace(features=features), data_path=Path(data_dir)
        )

    monkeypatch.setattr(tensorflow_datasets, "builder", builder)
    options = {"channels": channels, "data_dir": tmp_path}
    if name == "folder":
        make_folder(tmp_path)
    elif name == "tfrecord":
        make_records(tmp_path, "train", 2)
    elif name == "digits":
        del options["data_dir"]
    source = get_source(name, **options)
    assert (source.mean, source.std) == statistics
    assert source.max_value == 255
    if opened:
        assert opened == [name.removeprefix("tfds/")]
        assert source.class_names == ("wave", "clap")


def test_statistics_of_the_digits_are_those_of_their_pixels():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    source, images = get_source("digits"), load_examples("digits", "train")[0]
    assert source.mean == pytest.approx([(images / 255).mean()], abs=1e-3)
    assert source.std == pytest.approx([(images / 255).std()], abs=1e-3)


def test_every_epoch_has_its_own_order_of_all_examples():
    dataset = training_dataset(
        *numbered(12), transform=identity, batch_size=4, seed=3, first_epoch=0, epochs=2
    )
    batches = order_of(dataset)
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert sorted(first) == sorted(second) == list(range(12))
    assert list(first) != list(second)
    for images, labels in dataset:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)


def test_training_can_start_at_any_epoch():
    options = dict(
        transform=identity,
        batch_size=4,
        seed=3,
        epochs=3,
        augment=functools.partial(
            augment_images, max_shift=0.5, max_rotation=0.0, max_zoom=0.5
        ),
    )
    images = np.random.default_rng(0).integers(0, 255, (9, 6, 6, 1)).astype("uint8")
    whole = list(training_dataset(images, np.arange(9), first_epoch=0, **options))
    rest = list(training_dataset(images, np.arange(9), first_epoch=1, **options))
    assert (len(whole), len(rest)) == (6, 4)
    for (x, y), (expected_x, expected_y) in zip(rest, whole[2:], strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_seed_decides_the_order():
    options = dict(transform=identity, batch_size=4, first_epoch=0, epochs=1)
    orders = [
        order_of(training_dataset(*numbered(12), seed=seed, **options))
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("encoded", [False, True])
def test_seed_decides_the_windows(encoded):
    # Every image is the same: the place of a window is its pixel.
    image = np.arange(196, dtype="uint8").reshape(14, 14, 1)
    images, labels = np.stack([image] * 8), np.zeros(8, "int64")
    if encoded:
        png = tf.io.encode_png(image).numpy()
        images = EncodedImages(lambda number: png, ["a"] * 8, np.arange(8), 1)

    def window(height, width, draws):
        top, left = tf.unstack(tf.cast(14 * draws[0, 2:], tf.int32))
        return tf.stack([top, left, 1, 1])

    options = dict(transform=identity, batch_size=8, epochs=2, window=window)
    windows = [
        [batch[:, 0, 0, 0].numpy().tolist() for batch, _ in dataset]
        for dataset in (
            training_dataset(images, labels, seed=seed, first_epoch=0, **options)
            for seed in (0, 0, 5)
        )
    ]
    assert windows[0] == windows[1]
    # Of 196 places, eight are rarely the same ones.
    first, second, other = *windows[0], windows[2][0]
    for one, two in ((first, second), (first, other)):
        assert len(set(one)) > 4
        assert sum(a == b for a, b in zip(one, two, strict=True)) < 4
        assert len(set(one) & set(two)) < 4


def test_steps_cut_an_epoch_short():
    dataset = training_dataset(
        *numbered(12),
        transform=identity,
        batch_size=4,
        seed=0,
        first_epoch=0,
        epochs=2,
        steps=2,
    )
    assert len(order_of(dataset)) == 4


def test_evaluation_sees_every_example_once_in_order():
    dataset = evaluation_dataset(*numbered(10), transform=identity, batch_size=4)
    assert order_of(dataset) == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]


def test_shift_moves_a_pixel_without_changing_it():
    image = np.zeros((1, 9, 9, 1), "float32")
    image[0, 4, 4] = 1.0
    moved = random_affine(tf.constant(image), [1, 2], 0.3, 0.0, 0.0).numpy()
    assert moved.sum() == pytest.approx(1.0, abs=1e-5)  # bilinear weights
    rows, columns = np.nonzero(moved[0, ..., 0])
    assert abs(rows.mean() - 4) <= 3
    assert (abs(rows - 4) + abs(columns - 4)).max() > 0


def test_rotation_is_about_the_middle():
    yy, xx = np.mgrid[:33, :33] - 16.0
    disc = (yy**2 + xx**2 < 100).astype("float32")[None, ..., None]
    turned = random_affine(tf.constant(disc), [1, 2], 0.0, 45.0, 0.0).numpy()
    # A disc looks the same from every side; only its rim is interpolated.
    assert np.abs(turned - disc).mean() < 0.03
    bar = (np.abs(yy) < 2).astype("float32")[None, ..., None]
    assert np.abs(random_affine(tf.constant(bar), [1, 2], 0, 45.0, 0) - bar).max() > 0.9


def test_images_of_a_batch_move_by_different_amounts():
    ramp = np.tile(np.arange(9, dtype="float32")[None, None, :, None], (4, 9, 1, 1))
    moved = random_affine(tf.constant(ramp), [1, 2], 0.3, 0.0, 0.0).numpy()
    assert len({float(image[4, 4, 0]) for image in moved}) == 4


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_files_of_every_mode_are_read(tmp_path, mode, channels):
    image_module = pytest.importorskip("PIL.Image", reason="makes the files")
    path = tmp_path / "image.png"
    image_module.new(mode, (5, 4), 1 if mode in ("P", "1", "I;16") else None).save(path)
    image = read_image(path, channels)
    assert image.shape == (4, 5, channels)
    assert image.dtype == "uint8"


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "gif", "webp"])
def test_image_files_of_every_format_are_read(tmp_path, suffix):
    image_module = pytest.importorskip("PIL.Image", reason="makes the files")
    path = tmp_path / f"image.{suffix}"
    image_module.new("RGB", (5, 4), (200, 100, 50)).save(path)
    image = read_image(path, 3)
    assert image.shape == (4, 5, 3)
    np.testing.assert_allclose(image[0, 0], (200, 100, 50), atol=4)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\nhalf"])
def test_file_that_is_no_image_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"An image must be a whole .*image\.png"):
        read_image(path, 3)


def test_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"none\.png.*No such file"):
        read_image(tmp_path / "none.png", 3)


@pytest.mark.parametrize("on_demand", [False, True])
def test_shares_of_a_batch_are_read_once_and_make_the_batch(on_demand):
    images, labels = load_examples("digits", "train[:50]")
    seen = []

    def read(number):
        seen.append(number)
        return images[number]

    inputs = images
    if on_demand:
        inputs = OnDemand(read, np.arange(50), images.shape[1:], images.dtype)
    options = {
        "transform": lambda batch: tf.cast(batch, tf.float32),
        "batch_size": 8,
        "seed": 3,
        "first_epoch": 1,
        "epochs": 3,
    }

    def batches(**more):
        dataset = training_dataset(inputs, labels, **options, **more)
        return list(dataset.as_numpy_iterator())

    whole = batches()
    seen.clear()
    halves = [batches(shard=(part, 2)) for part in range(2)]
    assert len(seen) == (2 * 48 if on_demand else 0)
    assert len(whole) == len(halves[0]) == len(halves[1]) == 12
    for batch, *parts in zip(whole, *halves, strict=True):
        for values, *own in zip(batch, *parts, strict=True):
            np.testing.assert_array_equal(np.concatenate(own), values)


def test_shares_draw_differently_and_their_evaluation_counts_once():
    images, labels = load_examples("digits", "train[:18]")
    draws = []

    def augment(batch, labels, seed):
        draws.append(seed)
        return batch + tf.cast(seed[1], tf.float32), labels

    def transform(batch):
        return tf.cast(batch, tf.float32)

    added = []
    for part in range(2):
        options = {"batch_size": 8, "seed": 0, "first_epoch": 0, "epochs": 1}
        pair = [
            list(
                training_dataset(
                    images,
                    labels,
                    transform=transform,
                    augment=how,
                    shard=(part, 2),
                    **options,
                ).as_numpy_iterator()
            )
            for how in (augment, None)
        ]
        added += [int((a - b).mean()) for (a, _), (b, _) in zip(*pair, strict=True)]
    assert added == [0, 8, 4, 12]  # The place of the first example in the epoch.
    weights, found = [], []
    for part in range(2):
        dataset = evaluation_dataset(
            images,
            labels,
            transform=transform,
            batch_size=8,
            multiple_of=4,
            shard=(part, 2),
        )
        sizes = [len(batch[0]) for batch in dataset]
        assert sizes == [4, 4, 2]
        for batch in dataset.as_numpy_iterator():
            weights += batch[2].tolist()
            found += batch[1][batch[2] > 0].tolist()
    assert sorted(found) == sorted(labels.tolist())
    assert sum(weight > 0 for weight in weights) == 18
    assert sum(weights) == pytest.approx(20)


def test_batches_that_others_make_are_the_same_without_end():
    images, labels = load_examples("digits", "train[:20]")
    options = {"batch_size": 8, "seed": 0, "first_epoch": 2, "epochs": 4}
    options["transform"] = lambda batch: tf.cast(batch, tf.float32)
    ours = list(training_dataset(images, labels, **options).as_numpy_iterator())
    theirs = training_dataset(images, labels, splittable=True, **options)
    for one, other in zip(ours, theirs.take(4).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert len(list(theirs.skip(4).take(3))) == 3
    inputs = OnDemand(lambda n: images[n], np.arange(20), images.shape[1:], "uint8")
    with pytest.raises(ValueError, match=r"no Python.* Received: OnDemand of \(20, 8"):
        training_dataset(inputs, labels, splittable=True, **options)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 1], "from 0 to 1 for each example. Received: 3 labels from 1 to 2"),
        ([-1, 0, 1], "Received: 3 labels from -1 to 1"),
        ([0, 1], "Received: 2 labels from 0 to 1 for 3 examples of 'train'"),
    ],
)
def test_labels_of_a_source_fit_its_examples_and_names(labels, message):
    source = Source(
        class_names=("ant", "bee"),
        mean=(0.0,),
        std=(1.0,),
        load=lambda split, bounds: (np.zeros((3, 4, 4, 1)), np.array(labels)),
    )
    with pytest.raises(ValueError, match=message):
        load_split(source, "train")


def test_no_function_is_written_to_a_file(tmp_path, monkeypatch):
    """AutoGraph would, and a process that is killed leaves the files behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    png = tf.io.encode_png(np.zeros((8, 8, 1), "uint8")).numpy()
    files = EncodedImages(lambda number: png, ["a"] * 4, np.arange(4), 1)
    for inputs in (numbered(4)[0], files):
        options = {"batch_size": 2, "transform": lambda x: tf.cast(x, "float32")}
        next(iter(evaluation_dataset(inputs, np.arange(4), **options)))
        options |= {"seed": 0, "first_epoch": 0, "epochs": 1}
        next(iter(training_dataset(inputs, np.arange(4), **options)))
    assert not [*tmp_path.glob("__autograph*")]

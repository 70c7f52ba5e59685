"""Folders, zips, TFRecords and TFDS sets of images; damaged ones; late decoding."""

import numpy as np
import pytest
import tensorflow as tf
from fake_images import (
    CLASSES,
    COLOURS,
    colour_examples,
    encode,
    jpeg,
    make_folder,
    make_records,
    picture,
    write_colour_folder,
    write_colour_records,
    zip_folder,
)

from keras_qkformer.data.images import encoded_images
from keras_qkformer.data.images.augment import random_window
from keras_qkformer.data.images.encoded_images import EncodedImages, plain_errors
from keras_qkformer.data.images.image_decoding import decode
from keras_qkformer.data.pipeline import evaluation_dataset, training_dataset
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.sources import get_source, load_examples, load_split

pytestmark = pytest.mark.backend_independent


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path / "images")


def pixels(**options):
    return Preprocessing((16, 16), (0,) * 3, (1,) * 3, **options).pixels


def batches_of(inputs, labels, **options):
    options = {"batch_size": 4, "seed": 3, "first_epoch": 0, "epochs": 1, **options}
    options.setdefault("transform", pixels(crop=1.0))
    return [
        (x.numpy(), y.numpy()) for x, y in training_dataset(inputs, labels, **options)
    ]


def test_folder_and_zip_hold_the_same_examples(root):
    inputs, labels = load_examples("folder", "train", data_dir=str(root))
    zipped, same = load_examples("folder", "train", data_dir=str(zip_folder(root)))
    assert get_source("folder", data_dir=str(root)).class_names == CLASSES
    assert len(inputs) == len(zipped) == 12
    np.testing.assert_array_equal(labels, same)
    for place in range(12):
        np.testing.assert_array_equal(inputs.decode(place), zipped.decode(place))
    assert list(labels) != sorted(labels)  # Or a slice would be of one class.


def test_slices_of_a_split_share_nothing_and_miss_nothing(root):
    parts = [
        load_examples("folder", split, data_dir=str(root))
        for split in ("train[:75%]", "train[75%:]", "train")
    ]
    numbers = [inputs.numbers for inputs, _ in parts]
    np.testing.assert_array_equal(np.concatenate(numbers[:2]), numbers[2])
    labels = [labels for _, labels in parts]
    np.testing.assert_array_equal(np.concatenate(labels[:2]), labels[2])


def test_small_images_of_one_size_are_decoded_once(tmp_path):
    root = make_folder(tmp_path / "images", vary=False)
    inputs, labels = load_examples("folder", "train", data_dir=str(root))
    assert isinstance(inputs, np.ndarray)
    assert (inputs.shape, inputs.dtype) == ((12, 16, 16, 3), "uint8")
    grey, _ = load_examples("folder", "train", data_dir=str(root), channels=1)
    assert grey.shape == (12, 16, 16, 1)
    means = inputs[labels == 0].mean((1, 2, 3))
    expected = [picture(number, (16, 16)).mean() for number in range(6)]
    np.testing.assert_allclose(np.sort(means), np.sort(expected), atol=1)


def test_images_that_would_fill_the_memory_stay_encoded(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "images", vary=False)
    monkeypatch.setattr(encoded_images, "IN_MEMORY_BYTES", 12 * 16 * 16 * 3 - 1)
    inputs, _ = load_examples("folder", "train", data_dir=str(root))
    assert isinstance(inputs, EncodedImages)


@pytest.mark.parametrize("prefix", ["", "slim"])
def test_records_are_read_by_number(tmp_path, prefix):
    make_records(tmp_path, "train", 6, prefix)
    for _ in range(2):  # The second time from the index.
        inputs, labels = load_examples("tfrecord", "train", data_dir=str(tmp_path))
        assert sorted(labels) == [0, 0, 0, 1, 1, 1]
        for place, number in enumerate((0, 2, 4, 1, 3, 5)):
            expected = decode(jpeg(number), 3)
            np.testing.assert_array_equal(np.asarray(inputs)[place], expected)
            assert labels[place] == number % 2
    assert list(tmp_path.glob(".train*.index.npz"))
    make_records(tmp_path, "train", 8, prefix)
    assert len(load_examples("tfrecord", "train", data_dir=str(tmp_path))[1]) == 8


def test_tfds_set_is_decoded_late(tmp_path):
    import tensorflow_datasets as tfds

    class Pets(tfds.core.GeneratorBasedBuilder):
        """Cats and dogs of many sizes."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=list(CLASSES)),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number in range(6):
                image = picture(number, (20 + number, 30))
                yield number, {"image": image, "label": number % 2}

    tfds.disable_progress_bar()
    with pytest.raises(ValueError, match=r"must be prepared.*Received: nothing at"):
        get_source("tfds/pets", data_dir=str(tmp_path))
    Pets(data_dir=tmp_path).download_and_prepare()
    source = get_source("tfds/pets", data_dir=str(tmp_path))
    assert source.class_names == CLASSES
    inputs, labels = load_examples("tfds/pets", "train[:4]", data_dir=str(tmp_path))
    assert isinstance(inputs, EncodedImages)
    for place, label in enumerate(labels):
        number = inputs.decode(place).shape[0] - 20
        np.testing.assert_array_equal(
            inputs.decode(place), picture(number, (20 + number, 30))
        )
        assert number % 2 == label
    with pytest.raises(ValueError, match=r"Received: 'validation'"):
        load_examples("tfds/pets", "validation", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="Received: 'no_such_set'"):
        get_source("tfds/no_such_set", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("L", "jpeg"),
        ("CMYK", "jpeg"),
        ("RGB", "webp"),
        ("P", "gif"),
        ("RGBA", "png"),
        ("LA", "png"),
        ("1", "png"),
        ("I;16", "png"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_has_the_channels_of_the_model(mode, kind, channels):
    image_module = pytest.importorskip("PIL.Image", reason="makes the files")
    if mode == "I;16":
        values = picture(0)[..., 0].astype("uint16") * 256 + 17
        image = image_module.fromarray(values)
        expected = picture(0)[..., :1]
    else:
        image = image_module.fromarray(picture(0)).convert(mode)
        expected = np.array(image.convert("L" if channels == 1 else "RGB"))
    result = decode(encode(image, kind), channels)
    assert result.shape == (40, 56, channels) and result.dtype == "uint8"
    expected = expected.reshape(40, 56, -1)
    assert abs(result.astype(int) - expected).mean() < 3


def test_of_an_animation_the_first_image_counts():
    image_module = pytest.importorskip("PIL.Image", reason="makes the files")
    frames = [image_module.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    encoded = encode(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert decode(encoded, 3)[0, 0].tolist() == [255, 0, 0]


def test_animated_webp_is_refused_before_it_is_decoded():
    image_module = pytest.importorskip("PIL.Image", reason="makes the files")
    frames = [image_module.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    encoded = encode(frames[0], "webp", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="an animated WebP file"):
        decode(encoded, 3)


def test_window_is_what_is_there_in_the_whole_image():
    def window(height, width, draws):
        return tf.stack([height // 5, width - 40, 24, tf.cast(draws[0, 0], tf.int32)])

    draws = np.full((10, 4), 30.0, "float32")
    part = decode(jpeg(0), 3, window, draws)
    whole = decode(jpeg(0), 3)[8:32, 16:46]
    assert part.shape == whole.shape
    # Colours of JPEG are smoothed across the border of the window.
    assert abs(part[1:-1, 2:-2].astype(int) - whole[1:-1, 2:-2]).max() <= 2
    png = tf.io.encode_png(picture(0)).numpy()
    np.testing.assert_array_equal(
        decode(png, 3, window, draws), picture(0)[8:32, 16:46]
    )


def test_training_can_start_at_any_epoch_with_random_windows(root):
    inputs, labels = load_examples("folder", "train", data_dir=str(root))
    options = {"epochs": 3, "window": random_window, "transform": pixels()}
    whole = batches_of(inputs, labels, **options)
    rest = batches_of(inputs, labels, first_epoch=1, **options)
    assert (len(whole), len(rest)) == (9, 6)
    for (x, y), (expected_x, expected_y) in zip(rest, whole[3:], strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)
    other = batches_of(inputs, labels, seed=4, **options)
    assert any((x != y).any() for (x, _), (y, _) in zip(whole, other, strict=True))


def test_windows_of_images_in_memory_are_those_of_encoded_ones(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "images", vary=False)
    results = []
    for most in (1 << 30, 1):
        monkeypatch.setattr(encoded_images, "IN_MEMORY_BYTES", most)
        inputs, labels = load_examples("folder", "train", data_dir=str(root))
        options = {"window": random_window, "transform": pixels()}
        results.append(batches_of(inputs, labels, **options))
    for (x, y), (other_x, other_y) in zip(*results, strict=True):
        np.testing.assert_array_equal(y, other_y)
        assert abs(x.astype(int) - other_x).mean() < 6  # Colour at window borders.


def damage(root):
    """Four files of twelve that are no images."""
    (root / "train/cat/0.jpg").write_bytes(b"")
    (root / "train/cat/1.jpg").write_text("a text")
    whole = (root / "train/dog/2.jpg").read_bytes()
    (root / "train/dog/2.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/dog/3.jpg").write_bytes(whole[:3] + b"x" * 500)
    return {"cat/0.jpg", "cat/1.jpg", "dog/2.jpg", "dog/3.jpg"}


def test_damaged_images_are_left_out_and_listed(root):
    names = damage(root)
    inputs, labels = load_examples("folder", "train", data_dir=str(root))
    transform = Preprocessing((16, 16), mean=(0,) * 3, std=(1,) * 3, crop=1.0)
    whole, kept = inputs.without_damaged(labels)
    dataset = evaluation_dataset(whole, kept, transform=transform, batch_size=3)
    assert len(dataset) == 3  # Or Keras would say that there are too few.
    seen = np.concatenate([y for _, y in dataset])
    assert {name.removeprefix(f"{root}/train/") for name in inputs.damaged} == names
    assert "0 bytes" in inputs.damaged[f"{root}/train/cat/0.jpg"]
    assert len(seen) == len(whole) == 8
    for place, label in enumerate(seen):
        assert whole.names[whole.numbers[place]].split("/")[-2] == CLASSES[label]
    # In training another one stands in, so every epoch has as many batches.
    batches = batches_of(inputs, labels, epochs=2)
    assert [len(y) for _, y in batches] == [4] * 6
    again = batches_of(inputs, labels, epochs=2)
    for (x, _), (y, _) in zip(batches, again, strict=True):
        np.testing.assert_array_equal(x, y)


def test_damaged_images_of_one_size_are_left_out_of_memory(tmp_path):
    root = make_folder(tmp_path / "images", vary=False)
    (root / "train/cat/0.jpg").write_bytes(b"")
    source = get_source("folder", data_dir=str(root))
    inputs, labels = load_split(source, "train")
    assert inputs.shape == (11, 16, 16, 3) and sorted(labels) == [0] * 5 + [1] * 6
    assert list(source.damaged) == [f"{root}/train/cat/0.jpg"]


def test_each_set_of_images_reports_its_own_damage(tmp_path):
    roots = [make_folder(tmp_path / name) for name in ("first", "second")]
    for root, name in zip(roots, ("cat/0.jpg", "dog/2.jpg"), strict=True):
        (root / "train" / name).write_text("a text")
    sources = [get_source("folder", data_dir=str(root)) for root in roots]
    sets = [load_split(source, "train") for source in sources]
    for inputs, labels in sets:
        batches_of(inputs, labels, epochs=2)
        inputs[3:].without_damaged(labels[3:])
    assert [list(source.damaged) for source in sources] == [
        [f"{roots[0]}/train/cat/0.jpg"],
        [f"{roots[1]}/train/dog/2.jpg"],
    ]
    assert all(s.damaged is i.damaged for s, (i, _) in zip(sources, sets, strict=True))


def test_strict_makes_a_damaged_image_an_error(root):
    damage(root)
    options = {"data_dir": str(root), "strict": True}
    with pytest.raises(ValueError, match=r"An image must be whole\. .*\.jpg: "):
        inputs, labels = load_examples("folder", "train", **options)
        with plain_errors(inputs.damaged):
            batches_of(inputs, labels)


COLOUR_SETS = {"folder": write_colour_folder, "tfrecord": write_colour_records}


def load_colours(tmp_path, name, vary=True, **options):
    """Eleven pictures of one colour per class; two, of different classes, damaged."""
    root = tmp_path / "colours"
    COLOUR_SETS[name](root, "train", colour_examples(11, damaged=(3, 7), vary=vary))
    options = {"data_dir": str(root), **options}
    class_names = get_source(name, **options).class_names
    return class_names, *load_examples(name, "train", **options)


def check_colours(class_names, images, labels):
    """Check that every label is that of the colour of its picture."""
    for image, label in zip(images, labels, strict=True):
        colour = np.full(image.shape, COLOURS[class_names[label]])
        np.testing.assert_array_equal(image, colour)


@pytest.mark.parametrize("name", COLOUR_SETS)
@pytest.mark.parametrize("vary", [True, False], ids=["encoded", "in memory"])
def test_every_label_fits_its_picture_where_some_are_damaged(tmp_path, name, vary):
    class_names, inputs, labels = load_colours(tmp_path, name, vary)
    in_file = name == "tfrecord"
    assert class_names == (tuple(COLOURS) if in_file else ("ant", "mole", "zebra"))
    assert isinstance(inputs, EncodedImages) == vary
    options = {
        "transform": pixels(),
        "batch_size": 3,
        "window": None if in_file else random_window,
    }
    batches = batches_of(inputs, labels, epochs=2, **options)
    assert len(batches) == 6
    for images, own in batches:
        check_colours(class_names, images, own)
    if vary:
        options.update(seed=3, first_epoch=0, epochs=1, splittable=True)
        by_others = training_dataset(inputs, labels, **options)
        for images, own in by_others.take(6).as_numpy_iterator():
            check_colours(class_names, images, own)
        inputs, labels = inputs.without_damaged(labels)
    dataset = evaluation_dataset(inputs, labels, transform=pixels(), batch_size=4)
    assert [len(own) for _, own in dataset] == [4, 4, 1]
    for images, own in dataset.as_numpy_iterator():
        check_colours(class_names, images, own)


@pytest.mark.parametrize("name", COLOUR_SETS)
def test_slice_of_images_is_as_strict_as_all_of_them(tmp_path, name):
    _, inputs, labels = load_colours(tmp_path, name, strict=True)
    for places in (slice(None), np.arange(11)[::-1]):
        with pytest.raises(ValueError, match=r"An image must be whole\. Received: "):
            inputs[places].without_damaged(labels)


def test_nothing_but_damaged_images_is_an_error(tmp_path):
    root = make_folder(tmp_path / "images")
    for path in root.glob("train/*/*.jpg"):
        path.write_text("a text")
    with pytest.raises(ValueError, match=r"None of 12 images can be decoded.*\.jpg"):
        load_examples("folder", "train", data_dir=str(root))


def remove(root, pattern):
    for path in root.glob(pattern):
        path.unlink()


def change_nothing(root):
    return root


def missing(root):
    return root / "nowhere"


def empty_class(root):
    remove(root, "train/dog/*")
    (root / "train/dog/notes.txt").write_text("none yet")
    return root


def no_classes(root):
    remove(root, "*/*/*")
    for path in [*root.glob("*/*"), *root.glob("*")]:
        path.rmdir()
    (root / "train").mkdir()
    return root


def other_classes(root):
    (root / "test/dog").rename(root / "test/wolf")
    return root


def truncated_zip(root):
    path = zip_folder(root)
    path.write_bytes(path.read_bytes()[:-400])
    return path


@pytest.mark.parametrize(
    ("change", "split", "message"),
    [
        (missing, "train", r"must be a folder or a zip.*nowhere.*there is none"),
        (empty_class, "train", r"A class must have images .*none in .*/train/dog"),
        (no_classes, "train", r"must hold a folder per split"),
        (
            other_classes,
            "train",
            r"same classes.*\['dog', 'wolf'\].*'train' and 'test'",
        ),
        (truncated_zip, "train", r"A zip must be whole.*images\.zip"),
        (change_nothing, "validation", r"one of \['test', 'train'\].*'validation'"),
    ],
)
def test_wrong_folder_is_an_error_that_says_where(root, change, split, message):
    data_dir = change(root)
    with pytest.raises(ValueError, match=message):
        load_examples("folder", split, data_dir=str(data_dir))


def test_files_beside_images_are_ignored(root):
    (root / "train/cat/.DS_Store").write_text("")
    (root / "train/cat/notes.txt").write_text("")
    (root / "train/list.csv").write_text("")
    (root / "licence").write_text("")
    for data_dir in (root, zip_folder(root)):
        assert len(load_examples("folder", "train", data_dir=str(data_dir))[1]) == 12

"""Folders, zips and TFRecords of images that are hostile or damaged."""

import os
import struct
import sys
import zipfile
from pathlib import Path

import fuzzing
import numpy as np
import pytest
import tensorflow as tf
from fake_images import jpeg, make_folder, make_records, zip_folder

from keras_qkformer.data.images import folder
from keras_qkformer.data.images.tfrecord import ImageRecords
from keras_qkformer.data.sources import get_source, load_examples, load_split

pytestmark = pytest.mark.backend_independent


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path / "images", counts=(("train", 2),), vary=False)


def add(path, name, content, **options):
    with zipfile.ZipFile(path, "a", **options) as archive:
        archive.writestr(name, content)


def damaged_of(data_dir, split="train"):
    """The damaged images of a split, and how many whole ones are left."""
    source = get_source("folder", data_dir=str(data_dir))
    inputs, _ = load_split(source, split)
    return source.damaged, len(inputs)


@pytest.mark.parametrize(
    ("name", "message"),
    [("../evil.jpg", "outside its folder"), ("/train/cat/x.jpg", "outside its folder")],
)
def test_zip_with_names_outside_of_it_is_refused(root, name, message):
    path = zip_folder(root)
    add(path, name, jpeg(0))
    with pytest.raises(
        ValueError, match=rf"A zip must be whole.*images\.zip.*{message}"
    ):
        get_source("folder", data_dir=str(path))


def test_zip_in_a_zip_and_deeper_folders_are_not_looked_into(root):
    path = zip_folder(root)
    add(path, "train/cat/more.zip", path.read_bytes())
    add(path, "train/cat/deeper/3.jpg", jpeg(0))
    add(path, "train/note.txt", "no class")
    assert damaged_of(path) == ({}, 4)


def test_image_of_a_zip_that_inflates_is_left_out(root, monkeypatch):
    monkeypatch.setattr(folder, "LARGEST_IMAGE", 1 << 20)
    path = zip_folder(root)
    add(path, "train/cat/big.jpg", bytes(2 << 20), compression=zipfile.ZIP_DEFLATED)
    damaged, left = damaged_of(path)
    assert list(damaged) == [f"{path}/train/cat/big.jpg"]
    assert (
        "has 2097152 bytes, of at most 1048576" in damaged[f"{path}/train/cat/big.jpg"]
    )
    assert left == 4


@pytest.mark.parametrize("what", ["checksum", "stream"])
def test_image_of_a_damaged_entry_is_left_out(root, what):
    path = zip_folder(root)
    data = bytearray(path.read_bytes())
    if what == "checksum":
        place = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
        while b".jpg" not in data[place + 46 : place + 66]:
            place = data.index(b"PK\1\2", place + 4)
        data[place + 16] ^= 1
    else:
        place = data.index(b"train/cat/0.jpg") + 15
        data[place : place + 40] = b"\xff" * 40
    path.write_bytes(data)
    damaged, left = damaged_of(path)
    assert left == 3
    ((name, reason),) = damaged.items()
    assert name.startswith(f"{path}/train/")
    assert "damaged" in reason


def test_names_of_a_zip_are_escaped(root):
    path = zip_folder(root)
    add(path, "train/cat/\x1b[2J.jpg", b"no image")
    damaged, _ = damaged_of(path)
    assert list(damaged) == [rf"{path}/train/cat/\x1b[2J.jpg"]


def test_what_is_no_regular_file_is_a_damaged_image(root):
    cat = root / "train" / "cat"
    os.mkfifo(cat / "pipe.jpg")
    (cat / "loop.jpg").symlink_to("loop.jpg")
    (cat / "nothing.jpg").symlink_to("nowhere")
    (cat / "device.jpg").symlink_to("/dev/zero")
    (cat / "folder.jpg").mkdir()
    (cat / "link.jpg").symlink_to("0.jpg")
    (cat / "up").symlink_to("..")
    (root / "train" / "self").symlink_to("self")
    damaged, left = damaged_of(root)
    names = {Path(name).name: reason for name, reason in damaged.items()}
    assert names == dict.fromkeys(
        ("pipe.jpg", "loop.jpg", "nothing.jpg", "device.jpg"), "no regular file"
    )
    assert left == 5  # The link to an image is one.
    with pytest.raises(ValueError, match=r"An image must be whole.*no regular file"):
        get_source("folder", data_dir=str(root), strict=True)


def test_names_that_are_no_text(root):
    image = root / "train" / "cat" / "0.jpg"
    image.rename(os.fsdecode(os.fsencode(image.parent) + b"/\xff.jpg"))
    damaged, left = damaged_of(root)
    assert damaged == {rf"{image.parent}/\udcff.jpg": "its name is no UTF-8"}
    assert left == 3
    (root / "train" / "dog").rename(os.fsdecode(os.fsencode(root) + b"/train/\xff"))
    with pytest.raises(ValueError, match=r"must be UTF-8.*\\udcff"):
        get_source("folder", data_dir=str(root))


def test_file_of_any_size_is_read_up_to_a_limit(root):
    with (root / "train/cat/0.jpg").open("r+b") as file:
        file.truncate(1 << 40)  # A hole, which takes no room on the disk.
    damaged, left = damaged_of(root)
    assert damaged == {f"{root}/train/cat/0.jpg": "more than 268435456 bytes"}
    assert left == 3


# TFRecords: how a file is damaged, and what the error says beside its name.


def example(**features):
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    lists = {
        "bytes_list": tf.train.BytesList,
        "int64_list": tf.train.Int64List,
        "float_list": tf.train.FloatList,
    }
    made = {}
    for name, value in features.items():
        kind = kinds[type(value)]
        made[name] = tf.train.Feature(**{kind: lists[kind](value=[value])})
    return tf.train.Example(
        features=tf.train.Features(feature=made)
    ).SerializeToString()


def write_second(path, record):
    """A whole record, and a second one, which starts at the byte that is returned."""
    first = example(image=jpeg(0), label=1)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(first)
        writer.write(record)
    return len(first) + 16


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"no example at all", "Error parsing|DecodeError|no example"),
        (b"", "no feature image"),
        (example(label=1), "no feature image or image/encoded but"),
        (example(image=jpeg(0)), "no feature label"),
        (example(image=3, label=1), "image is no bytes"),
        (example(image=jpeg(0), label=b"cat"), "label is no whole number"),
        (example(image=jpeg(0), label=1.0), "label is no whole number"),
        (example(image=jpeg(0), label=2), "label 2"),
        (example(image=jpeg(0), label=-1), "label -1"),
    ],
)
def test_wrong_record_is_named_by_file_and_byte(tmp_path, record, message):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    path = tmp_path / "train.tfrecord"
    place = write_second(path, record)
    rule = rf"train\.tfrecord'?, byte {place}: .*{message}"
    with pytest.raises(ValueError, match=rule):
        load_examples("tfrecord", "train", data_dir=str(tmp_path))


def checksum(data):
    """That of a TFRecord: CRC-32C, rotated and moved."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


@pytest.mark.parametrize(
    "what", ["cut", "cut in the length", "content", "length", "length and checksum"]
)
def test_damaged_record_is_named_by_file_and_byte(tmp_path, what):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    path = tmp_path / "train.tfrecord"
    place = write_second(path, example(image=jpeg(1), label=0))
    assert checksum(path.read_bytes()[:8]) == path.read_bytes()[8:12]
    data = bytearray(path.read_bytes())
    if what == "cut":
        del data[-10:]
    elif what == "cut in the length":
        del data[place + 5 :]
    elif what == "content":
        data[place + 100] ^= 1
    elif what == "length":
        data[place] ^= 1
    else:
        length = struct.pack("<Q", 2**40)
        data[place : place + 12] = length + checksum(length)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"train\.tfrecord', byte {place}: "):
        load_examples("tfrecord", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "index",
    [
        {"places": np.full((4, 3), 10**12)},
        {"places": np.full((4, 3), -5)},
        {"places": np.zeros((4, 2), "int64")},
        {"labels": np.zeros(7, "int64")},
        {"labels": np.zeros(4, "float32")},
        {"places": np.array([[{}] * 3] * 4, object)},
    ],
)
def test_index_that_does_not_fit_is_made_again(tmp_path, index):
    make_records(tmp_path, "train", 4)
    _, labels = load_examples("tfrecord", "train", data_dir=str(tmp_path))
    (path,) = tmp_path.glob(".*.index.npz")
    with np.load(path) as kept:
        np.savez(path, **{**kept, **index})
    inputs, again = load_examples("tfrecord", "train", data_dir=str(tmp_path))
    np.testing.assert_array_equal(again, labels)
    assert len(inputs) == 4


def write_example(path, label):
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example(image=jpeg(0), label=label))


def test_labels_that_were_corrected_count_though_the_size_stays(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    path, found = tmp_path / "train-0", []
    for label in (0, 1):
        write_example(path, label)
        found.append((ImageRecords([path]).labels.tolist(), path.stat().st_size))
    assert found[0][1] == found[1][1]
    assert [labels for labels, _ in found] == [[0], [1]]


def test_no_damage_of_an_index_is_in_the_way(tmp_path):
    write_example(tmp_path / "train-0", 1)
    ImageRecords([tmp_path / "train-0"])
    (index,) = tmp_path.glob(".*.index.npz")
    whole = index.read_bytes()
    entry = whole.index(b"PK\1\2")
    for place in (*range(6, 10), *range(entry + 8, entry + 12), 60, len(whole) - 6):
        for change in (1, 9, 255):
            data = bytearray(whole)
            data[place] ^= change
            index.write_bytes(data)
            assert ImageRecords([tmp_path / "train-0"]).labels.tolist() == [1]


def test_classes_of_records_are_utf8_whatever_the_system_is(tmp_path):
    write_example(tmp_path / "train-0", 1)
    (tmp_path / "labels.txt").write_bytes(b"caf\xc3\xa9\nno \xff text\n")
    source = get_source("tfrecord", data_dir=str(tmp_path))
    assert source.class_names == ("caf\u00e9", "no \ufffd text")
    for split in ("/train", "../train", "*"):
        with pytest.raises(ValueError, match="A split must have files"):
            load_split(source, split)


def test_names_of_thousands_of_folders_take_no_memory(root):
    path = zip_folder(root)
    add(path, "train/cat/" + "a/" * 30_000 + "x.jpg", b"")
    before = fuzzing.peak_bytes(reset=True)
    assert damaged_of(path) == ({}, 4)
    assert fuzzing.peak_bytes() - before < 100_000_000


FEATURES = """{"pythonClassName":
"tensorflow_datasets.core.features.features_dict.FeaturesDict", "featuresDict": {
"features": {"label": {"pythonClassName": "CLASS"}}}}"""


def test_no_file_of_a_data_set_imports_a_module(tmp_path, monkeypatch):
    folder = tmp_path / "strange" / "1.0.0"
    folder.mkdir(parents=True)
    info = '{"name": "strange", "version": "1.0.0", "fileFormat": "tfrecord"}'
    (folder / "dataset_info.json").write_text(info)
    (tmp_path / "trap_of_features.py").write_text("raise SystemExit('trapped')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("trap_of_features.Label", "this.Label", "os.Label"):
        (folder / "features.json").write_text(FEATURES.replace("CLASS", name))
        with pytest.raises(ValueError, match=r"must be that of a data set of TFDS"):
            get_source("tfds/strange", data_dir=str(tmp_path))
    assert not {"trap_of_features", "this"} & {*sys.modules}
    with pytest.raises(ValueError, match="code that would be downloaded"):
        get_source("tfds/kaggle:strange", data_dir=str(tmp_path))

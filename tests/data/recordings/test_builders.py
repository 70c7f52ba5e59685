"""DVS128 Gesture and CIFAR10-DVS in miniature, through TFDS and with damage."""

import io
import itertools
import os
import shutil
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import shared_file
from fake_recordings import (
    CODES,
    make_cifar10_dvs,
    make_gesture,
    make_gesture_recording,
)
from tensorflow_datasets.core import dataset_metadata

from keras_qkformer.data.recordings.builder import EventConfig, Recording, check_file
from keras_qkformer.data.recordings.cifar10_dvs.cifar10_dvs_dataset_builder import (
    split_as_published,
    split_clean,
)
from keras_qkformer.data.recordings.dvs128_gesture.dvs128_gesture_dataset_builder import (  # noqa: E501
    read_labels,
)
from keras_qkformer.data.recordings.prepare import builder_class, prepare
from keras_qkformer.events.aedat2 import read_aedat2
from keras_qkformer.events.aedat31 import read_aedat31
from keras_qkformer.events.byte_stream import DamagedRecordingError
from keras_qkformer.events.frames import events_to_frames
from keras_qkformer.mistakes import is_mistake

pytestmark = [
    pytest.mark.backend_independent,
    # TFDS leaves files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
SPLITS = {
    "dvs128_gesture": {"train": 1176, "test": 288},
    "cifar10_dvs": {"train": 90, "test": 10},
}
TWO_FRAMES = EventConfig(name="frames_t2", num_frames=2)


@pytest.fixture(scope="module", autouse=True)
def _no_progress_bars():
    tfds.disable_progress_bar()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folders as `manual_dir` has them, by the name of the data set."""
    folder = tmp_path_factory.mktemp("files")
    make_gesture(folder / "dvs128_gesture")
    names = builder_class("cifar10_dvs").CLASS_NAMES
    make_cifar10_dvs(folder / "cifar10_dvs", names, zipped=True)
    return folder


def build(name, config, manual_dir, data_dir, **options):
    builder = builder_class(name)(
        config=config, data_dir=data_dir, **{"verify_files": False, **options}
    )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return builder


@pytest.fixture(scope="module")
def built(files, tmp_path_factory):
    """Builders with data, by the name of the data set and of the config."""
    folder = tmp_path_factory.mktemp("data")
    return {
        (name, getattr(config, "name", config)): build(
            name, config, files / name, folder
        )
        for name in SPLITS
        for config in ("events", TWO_FRAMES)
    }


each = pytest.mark.parametrize("name", SPLITS)


def examples(builder, split):
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


def key(example):
    return example["recording"].decode(), int(example["number"])


@each
def test_builder_is_described_as_tfds_wants_it(name):
    cls = builder_class(name)
    assert name in tfds.list_builders(with_community_datasets=False)
    metadata = cls.get_metadata()
    assert "CC BY 4.0" in metadata.description
    assert metadata.citation.startswith("@")
    assert metadata.tags
    assert set(metadata.tags) <= set(dataset_metadata.valid_tags())
    for class_name in cls.CLASS_NAMES:
        assert class_name in metadata.description


@each
@pytest.mark.parametrize("config", ["events", "frames_t2"])
def test_examples_have_the_shapes_and_types_of_the_info(built, name, config):
    builder = built[name, config]
    assert {k: v.num_examples for k, v in builder.info.splits.items()} == SPLITS[name]
    reloaded = builder_class(name)(
        config=builder.builder_config, data_dir=builder._data_dir_root
    )
    for split in SPLITS[name]:
        data = reloaded.as_dataset(split=split)
        for feature, info in builder.info.features.get_tensor_info().items():
            spec = data.element_spec[feature]
            assert tuple(spec.shape) == info.shape
            assert spec.dtype == info.tf_dtype


@each
def test_no_example_is_twice_or_in_two_splits(built, name):
    seen = {}
    for split, count in SPLITS[name].items():
        found = examples(built[name, "frames_t2"], split)
        assert len({key(e) for e in found}) == count
        seen[split] = {(key(e), e["frames"].tobytes()) for e in found}
    for i in (0, 1):
        assert not {e[i] for e in seen["train"]} & {e[i] for e in seen["test"]}


@each
def test_frames_are_those_of_the_events(built, name):
    events = {key(e): e for e in examples(built[name, "events"], "test")}
    for example in examples(built[name, "frames_t2"], "test")[::40]:
        stored = events[key(example)]
        array = np.rec.fromarrays([stored[f] for f in "txyp"], names="t,x,y,p")
        expected = events_to_frames(array, 2, (128, 128))
        np.testing.assert_array_equal(example["frames"], expected)
        assert example["label"] == stored["label"]


def test_gestures_are_cut_and_labelled_as_the_files_say(built, files):
    path = files / "dvs128_gesture" / "DvsGesture" / "user24_led.aedat"
    recording = read_aedat31(path)
    found = {}
    for example in examples(built["dvs128_gesture", "events"], "test"):
        if example["recording"] == b"user24_led":
            found[int(example["number"])] = example
    assert sorted(found) == list(range(12))
    for number, example in found.items():
        assert example["label"] == CODES[number] - 1
        start, end = 1000 + 1000 * number, 1900 + 1000 * number
        assert (example["start_us"], example["end_us"]) == (start, end)
        assert (example["user"], example["light"]) == (24, 3)
        part = recording[(recording["t"] >= start) & (recording["t"] < end)]
        assert len(part) == 30  # Neither the event before the first, nor the next one.
        for field in "txyp":
            np.testing.assert_array_equal(example[field], part[field])


def test_users_of_training_and_test_are_different(files):
    builder = builder_class("dvs128_gesture")(config="events", verify_files=False)
    splits = builder.split_recordings(builder.find_recordings(files / "dvs128_gesture"))
    users = {k: {int(r.name[4:6]) for r in part} for k, part in splits.items()}
    assert users == {"train": set(range(1, 24)), "test": set(range(24, 30))}


def test_real_label_file_is_read():
    path = shared_file("dvs128-gesture-user01_natural_labels.csv")
    labels = read_labels(
        Recording("dvs128-gesture-user01_natural", path.with_name("none.aedat"))
    )
    assert sorted(code for code, _, _ in labels) == sorted(CODES)
    assert labels[0] == (1, 53036986, 59508469)
    assert all(a[2] <= b[1] for a, b in itertools.pairwise(labels))


def test_labels_of_cifar10_dvs_are_alphabetical(built):
    builder = built["cifar10_dvs", "events"]
    assert list(builder.CLASS_NAMES) == sorted(builder.CLASS_NAMES)
    for example in examples(builder, "test"):
        name = example["recording"].decode().split("_")[1]
        assert example["label"] == builder.CLASS_NAMES.index(name)


def recordings(count):
    return [Recording(f"cifar10_dog_{number}", None) for number in range(count)]


def numbers(split):
    return {int(recording.name.rpartition("_")[2]) for recording in split}


def test_published_test_split_is_that_of_names_sorted_as_strings():
    splits = split_as_published(recordings(1000))
    assert numbers(splits["test"]) == {*range(91, 100), *range(909, 1000)}
    assert numbers(splits["train"]) == set(range(1000)) - numbers(splits["test"])


def test_clean_splits_are_those_of_the_numbers():
    splits = split_clean(recordings(1000))
    assert numbers(splits["train"]) == set(range(800))
    assert numbers(splits["validation"]) == set(range(800, 900))
    assert numbers(splits["test"]) == set(range(900, 1000))


@pytest.mark.parametrize("zipped", [True, False])
def test_archives_and_folders_give_the_same(tmp_path, zipped):
    names = builder_class("cifar10_dvs").CLASS_NAMES
    make_cifar10_dvs(tmp_path / "files", names, zipped=zipped, count=10)
    builder = build(
        "cifar10_dvs", "events_clean", tmp_path / "files", tmp_path / "data"
    )
    found = {split: examples(builder, split) for split in builder.info.splits}
    assert {k: len(v) for k, v in found.items()} == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    (example,) = (e for e in found["test"] if e["recording"] == b"cifar10_dog_9")
    # The same file, by hand: x = 127 - row, y = 127 - column of the address.
    plain = make_cifar10_dvs(tmp_path / "plain", names, zipped=False)
    content = (plain / "dog" / "cifar10_dog_9.aedat").read_bytes()
    address = np.frombuffer(content[-40 * 8 :], ">u4")[::2]
    np.testing.assert_array_equal(example["x"], 127 - (address >> 8 & 127))
    np.testing.assert_array_equal(example["y"], 127 - (address >> 1 & 127))
    np.testing.assert_array_equal(example["p"], address & 1 == 0)
    assert len(read_aedat2(content)) == 40


def prepared(name, files, folder, **options):
    options = {"verify_files": False, "configs": ["events", "frames_t10"], **options}
    return prepare(name, files / name, data_dir=folder, **options)


def test_preparing_goes_on_where_it_was_interrupted(files, tmp_path, monkeypatch):
    read, done = Recording.read, []

    def count(recording, orientation):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(recording.name)
        return read(recording, orientation)

    monkeypatch.setattr(Recording, "read", count)
    with pytest.raises(KeyboardInterrupt):
        prepared("cifar10_dvs", files, tmp_path)
    first = list(done)
    done.clear()
    monkeypatch.setattr(
        Recording, "read", lambda *args: done.append(args[0].name) or read(*args)
    )
    paths, damaged = prepared("cifar10_dvs", files, tmp_path)
    assert not damaged
    assert len(first) == 7
    assert not set(first) & set(done)
    assert len(done) == 93  # Each once, for both configs.
    assert all(path.is_dir() for path in paths)
    assert not (tmp_path / "cifar10_dvs" / "partial").exists()
    done.clear()
    assert prepared("cifar10_dvs", files, tmp_path) == (paths, [])
    assert not done
    builder = builder_class("cifar10_dvs")(config="events", data_dir=tmp_path)
    direct = build("cifar10_dvs", "events", files / "cifar10_dvs", tmp_path / "direct")
    for ours, theirs in zip(
        examples(builder, "test"), examples(direct, "test"), strict=True
    ):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_array_equal(ours[name], value)


def test_a_kill_while_a_data_set_is_written_leaves_nothing_for_good(
    files, tmp_path, monkeypatch
):
    def killed(self, **_):
        incomplete = Path(self.data_dir).parent / f"incomplete.A1B2C3_{self.version}"
        incomplete.mkdir(parents=True)
        (incomplete / "shard").write_bytes(b"half")
        raise KeyboardInterrupt

    def remove(path, **arguments):
        if Path(path).parent == folder / "partial":
            raise KeyboardInterrupt
        real(path, **arguments)

    real, options = shutil.rmtree, {"configs": ["frames_t10"]}
    folder = tmp_path / "cifar10_dvs"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(builder_class("cifar10_dvs"), "download_and_prepare", killed)
        prepared("cifar10_dvs", files, tmp_path, **options)
    (left,) = folder.glob("frames_t10/incomplete.*")
    long_ago = time.time() - 25 * 60 * 60
    for path in (*left.iterdir(), left):
        os.utime(path, (long_ago, long_ago))
    (folder / "frames_t10" / "incomplete.D4E5F6_1.0.0").mkdir()  # Of one that lives.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("keras_qkformer.data.recordings.prepare.shutil.rmtree", remove)
        prepared("cifar10_dvs", files, tmp_path, **options)
    assert (folder / "partial").exists()
    prepared("cifar10_dvs", files, tmp_path, **options)
    assert {path.name for path in folder.iterdir()} == {".config", "frames_t10"}
    names = {path.name for path in (folder / "frames_t10").iterdir()}
    assert names == {"incomplete.D4E5F6_1.0.0", left.name.partition("_")[2]}


def test_damaged_recordings_are_all_named_and_the_rest_can_be_kept(tmp_path):
    folder = make_gesture(tmp_path / "dvs128_gesture")
    cut, mangled = folder / "user03_lab.aedat", folder / "user24_led.aedat"
    whole = cut.read_bytes()
    cut.write_bytes(whole[:1500])
    mangled.write_bytes(b"#!AER-DAT3.1\r\n" + whole[200:])
    options = {"configs": ["events"]}
    paths, damaged = prepared("dvs128_gesture", tmp_path, tmp_path / "data", **options)
    assert paths == []
    assert [recording.name for recording, _ in damaged] == ["user03_lab", "user24_led"]
    assert all(isinstance(error, DamagedRecordingError) for _, error in damaged)
    assert [error.offset for _, error in damaged] == [1497, 14]
    (path,), damaged = prepared(
        "dvs128_gesture", tmp_path, tmp_path / "data", strict=False, **options
    )
    assert len(damaged) == 2
    builder = tfds.builder_from_directory(path)
    kept = sorted(key(e) for e in examples(builder, "train"))
    # 178 events, header and packets of 64 are whole: those before 5900 microseconds.
    numbers = [number for name, number in kept if name == "user03_lab"]
    assert numbers == [0, 1, 2, 3, 4]
    assert not [1 for e in examples(builder, "test") if key(e)[0] == "user24_led"]


def test_damaged_archive_member_is_reported(tmp_path):
    names = builder_class("cifar10_dvs").CLASS_NAMES
    make_cifar10_dvs(tmp_path / "cifar10_dvs", names, zipped=True)
    path = tmp_path / "cifar10_dvs" / "dog.zip"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    _, damaged = prepared("cifar10_dvs", tmp_path, tmp_path / "data")
    ((recording, error),) = damaged
    assert str(recording) == f"{path}:dog/cifar10_dog_0.aedat"
    assert "expected a whole file in the archive" in str(error)


def test_gestures_without_events_are_damage(tmp_path):
    folder = make_gesture(tmp_path / "dvs128_gesture")
    path = folder / "user05_lab_labels.csv"
    path.write_text(path.read_text() + "3,900000,900001\n")
    _, damaged = prepared(
        "dvs128_gesture", tmp_path, tmp_path / "data", configs=["events"]
    )
    ((recording, error),) = damaged
    assert recording.name == "user05_lab"
    assert "expected events from 900000 to 900001" in str(error)
    (path,), damaged = prepared(
        "dvs128_gesture", tmp_path, tmp_path / "data", configs=["events"], strict=False
    )
    assert len(damaged) == 1
    kept = [key(e) for e in examples(tfds.builder_from_directory(path), "train")]
    assert sorted(n for name, n in kept if name == "user05_lab") == [*range(12)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "class,start,end\n1,2,3\n",
        "class,startTime_usec,endTime_usec\n12,2,3\n",
        "class,startTime_usec,endTime_usec\n1,3,3\n",
        "class,startTime_usec,endTime_usec\n1,2\n",
        "class,startTime_usec,endTime_usec\none,2,3\n",
        "class,startTime_usec,endTime_usec\n1,2,9223372036854775808\n",
        "class,startTime_usec,endTime_usec\n1,2,\udcff\n",
        f"class,startTime_usec,endTime_usec\n1,2,{'9' * 200_000}\n",
    ],
    ids=lambda text: text[37:60],
)
def test_label_file_of_another_form_is_an_error(tmp_path, text):
    make_gesture_recording(tmp_path, "user01_lab")
    path = tmp_path / "user01_lab_labels.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=r"user01_lab_labels\.csv must have") as error:
        read_labels(Recording("user01_lab", tmp_path / "user01_lab.aedat"))
    assert is_mistake(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("line", ["../user01_lab.aedat", "/etc/passwd", "\udcff"])
def test_list_of_a_split_names_recordings_alone(tmp_path, line):
    (tmp_path / "trials_to_train.txt").write_text(line, errors="surrogateescape")
    builder = builder_class("dvs128_gesture")(
        data_dir=tmp_path, config="events", verify_files=False
    )
    with pytest.raises(ValueError, match=r"train\.txt must name recordings") as error:
        builder.find_recordings(tmp_path)
    assert is_mistake(error.value)


def patched(content, places):
    """A zip archive of one member with other fields, in both of its headers."""
    content = bytearray(content)
    central = content.index(b"PK\x01\x02")
    for local, at_central, value in places:
        for place in (local, central + at_central):
            content[place : place + len(value)] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(6, 8, b"\1\0")], "is encrypted"),
        ([(8, 10, b"\x63\0")], "compression method is not supported"),
        ([(8, 10, b"\x0e\0")], "expected a whole file in the archive"),  # LZMA.
        ([(8, 10, b"\x0c\0")], "expected a whole file in the archive"),  # bzip2.
        ([(8, 10, b"\x08\0")], "expected a whole file in the archive"),  # Deflate.
        ([(22, 24, b"\0\0\0\x80")], "at most 1073741824 bytes. Received: 2147483648"),
        ([(0, 42, b"\xff\0\0\0")], "expected a whole file in the archive"),
    ],
)
def test_hostile_archive_members_are_damage(tmp_path, places, message):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.aedat", b"#!AER-DAT2.0\r\n" + bytes(800))
    path.write_bytes(patched(path.read_bytes(), places))
    events, damage = Recording("a", path, "a.aedat").read("jaer")
    assert len(events) == 0
    assert message in str(damage)


def test_archives_have_no_name_twice_and_no_folder_counts(tmp_path):
    names = builder_class("cifar10_dvs").CLASS_NAMES
    make_cifar10_dvs(tmp_path, names, zipped=False, count=1)
    (tmp_path / "cat" / "cifar10_cat_1.aedat").mkdir()
    builder = builder_class("cifar10_dvs")(
        data_dir=tmp_path / "data", config="events", verify_files=False
    )
    assert len(builder.find_recordings(tmp_path)) == len(names)
    with zipfile.ZipFile(tmp_path / "dog.zip", "w") as archive:
        for folder in ("a", "../b"):
            archive.writestr(f"{folder}/cifar10_dog_0.aedat", b"")
    with pytest.raises(ValueError, match="class dog must have different names"):
        builder.find_recordings(tmp_path)


@pytest.mark.parametrize(
    "name", ["DvsGesture/../../evil", "../evil", "link", "cut", "changed"]
)
def test_hostile_gesture_archives_are_refused(tmp_path, name):
    manual_dir = tmp_path / "deep" / "manual"
    manual_dir.mkdir(parents=True)
    path = manual_dir / "DvsGesture.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("DvsGesture/trials_to_train.txt")
        member.size = 6000
        archive.addfile(member, io.BytesIO(np.random.default_rng(0).bytes(6000)))
        evil = tarfile.TarInfo(name)
        if name == "link":
            evil.type, evil.linkname = tarfile.SYMTYPE, "../../../evil"
        archive.addfile(evil)
    content = bytearray(path.read_bytes())
    if name == "changed":
        content[3000] ^= 0xFF
    path.write_bytes(content[:3000] if name == "cut" else content)
    builder = builder_class("dvs128_gesture")(
        data_dir=tmp_path / "data", config="events", verify_files=False
    )
    with pytest.raises(ValueError, match="must be a whole archive") as error:
        builder.find_recordings(manual_dir)
    assert is_mistake(error.value)
    assert [*tmp_path.rglob("*")] == [tmp_path / "deep", manual_dir, path]


@each
def test_files_that_are_not_the_published_ones_are_refused(files, tmp_path, name):
    rule = {
        "dvs128_gesture": r"gesture_mapping\.csv must be the published file with md5",
        "cifar10_dvs": r"airplane\.zip must be the published file with bytes 747054427",
    }[name]
    with pytest.raises(ValueError, match=f"{rule}.*Received: "):
        prepare(name, files / name, data_dir=tmp_path)
    with pytest.raises(ValueError, match=rule):
        build(name, "events", files / name, tmp_path, verify_files=True)
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_checksums_are_those_of_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    check_file(
        path,
        size=3,
        md5="900150983cd24fb0d6963f7d28e17f72",
        sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    with pytest.raises(ValueError, match=r"sha256 f00.*Received: ba7816bf"):
        check_file(path, sha256="f00")


def test_all_archives_of_cifar10_dvs_have_checksums():
    infos = builder_class("cifar10_dvs").url_infos.values()
    names = builder_class("cifar10_dvs").CLASS_NAMES
    assert sorted(i.filename for i in infos) == [f"{name}.zip" for name in names]
    assert sum(info.size for info in infos) == 8_384_751_365


def test_gesture_archive_is_unpacked(tmp_path):
    folder = make_gesture(tmp_path / "source")
    manual_dir = tmp_path / "manual"
    manual_dir.mkdir()
    with tarfile.open(manual_dir / "DvsGesture.tar.gz", "w:gz") as archive:
        archive.add(folder, "DvsGesture")
    builder = builder_class("dvs128_gesture")(
        data_dir=tmp_path, config="events", verify_files=False
    )
    assert len(builder.find_recordings(manual_dir)) == 122
    assert sorted(p.name for p in manual_dir.iterdir()) == [
        "DvsGesture",
        "DvsGesture.tar.gz",
    ]
    builder.verify_files = True
    shutil.rmtree(manual_dir / "DvsGesture")
    with pytest.raises(ValueError, match="published file with md5 8a5c71fb"):
        builder.find_recordings(manual_dir)


@each
def test_missing_files_are_named(tmp_path, name):
    with pytest.raises(ValueError, match="The folder must hold"):
        prepare(name, tmp_path, data_dir=tmp_path)
    with pytest.raises(ValueError, match="must exist"):
        prepare(name, tmp_path / "none", data_dir=tmp_path)
    with pytest.raises(ValueError, match="Received: 'frames_t3'"):
        prepare(name, tmp_path, data_dir=tmp_path, configs=["frames_t3"])

"""N-MNIST, N-Caltech101, ASL-DVS and DVS-Lip in miniature, in their real layouts."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata

from keras_qkformer.cli.main import main
from keras_qkformer.data.recordings import class_folders
from keras_qkformer.data.recordings.builder import Recording
from keras_qkformer.data.recordings.prepare import DATA_SETS, builder_class, prepare
from keras_qkformer.data.source import NAMES
from keras_qkformer.data.sources import SOURCES, load_split
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.frames import events_to_frames
from keras_qkformer.events.nmnist import write_nmnist

pytestmark = [
    pytest.mark.backend_independent,
    # TFDS leaves files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
SETS = ("nmnist", "ncaltech101", "asl_dvs", "dvs_lip")
ZIPPED = ("nmnist", "ncaltech101", "dvs_lip")
each = pytest.mark.parametrize("name", SETS)


@pytest.fixture(scope="module", autouse=True)
def _no_progress_bars():
    tfds.disable_progress_bar()


def events_of(text, cls):
    """Twelve events of their own for every recording, up to the sensor's corner."""
    rng = np.random.default_rng(list(text.encode()))
    height, width = cls.SENSOR_SIZE
    x, y = rng.integers(0, width, 12), rng.integers(0, height, 12)
    x[0], y[0] = width - 1, height - 1
    return make_events(np.arange(12) * 900, x, y, rng.random(12) < 0.5)


def content_of(text, cls):
    file, events = io.BytesIO(), events_of(text, cls)
    if cls.EXTENSION == ".bin":
        write_nmnist(file, events)
    elif cls.EXTENSION == ".mat":
        names = {"ts": "t", "x": "x", "y": "y", "pol": "p"}
        scipy.io.savemat(file, {name: events[field] for name, field in names.items()})
    else:
        order = ("t", "x", "y", "p")
        types = dict(t="<i8", x="<i2", y="<i2", p="?")
        array = np.zeros(len(events), [(name, types[name]) for name in order])
        for field in order:
            array[field] = events[field]
        np.save(file, array)
    return file.getvalue()


def make_files(folder, name, *, zipped, classes=2, count=11):
    """`count` recordings in each place of the first classes."""
    cls = builder_class(name)
    folder.mkdir()
    archives = {}
    for place in cls.PLACES:
        for label in cls.CLASS_NAMES[:classes]:
            for number in range(count):
                inner = f"{place.folder}/{label}/{number:05}{cls.EXTENSION}"
                archives.setdefault(place.archive, {})[inner] = content_of(inner, cls)
    for archive, contents in archives.items():
        if zipped:
            with zipfile.ZipFile(folder / archive, "w") as file:
                for inner, content in contents.items():
                    file.writestr(inner, content)
                # What macOS and others add.
                file.writestr(f"__MACOSX/{inner}", b"x")
                file.writestr(inner.replace("/000", "/._000"), b"x")
                file.writestr("README.txt", b"x")
        for inner, content in contents.items() if not zipped else ():
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            (folder / inner).write_bytes(content)
    return folder


def test_every_data_set_is_named_everywhere():
    assert {*DATA_SETS} == {*SETS, "dvs128_gesture", "cifar10_dvs"}
    assert {*DATA_SETS} <= {*NAMES} and {*DATA_SETS} <= {*SOURCES}


@each
def test_builder_is_described_as_tfds_wants_it(name):
    cls = builder_class(name)
    assert name in tfds.list_builders(with_community_datasets=False)
    metadata = cls.get_metadata()
    assert metadata.citation.startswith("@") and metadata.tags
    assert {*metadata.tags} <= {*dataset_metadata.valid_tags()}
    assert [*cls.CLASS_NAMES] == sorted({*cls.CLASS_NAMES})
    for class_name in cls.CLASS_NAMES:
        assert class_name in metadata.description
    for place in cls.PLACES if name in ZIPPED else ():
        assert place.md5 in metadata.description and len(place.md5) == 32
        assert place.archive in metadata.description
    assert f"data prepare {name} " in metadata.description
    height, width = cls.SENSOR_SIZE
    assert height <= 256 and width <= 256  # As uint8 is stored.


def test_numbers_of_classes_are_the_published_ones():
    counts = [len(builder_class(name).CLASS_NAMES) for name in SETS]
    assert counts == [10, 101, 24, 100]
    assert [p.count for p in builder_class("nmnist").PLACES] == [60_000, 10_000]
    assert builder_class("asl_dvs").PLACES[0].count == 24 * 4200


@pytest.mark.parametrize("name", ZIPPED)
def test_archives_and_folders_become_the_same_examples(name, tmp_path):
    cls, found = builder_class(name), []
    for zipped in (True, False):
        files = make_files(tmp_path / f"files{zipped}", name, zipped=zipped)
        paths, damaged = prepare(
            name,
            files,
            data_dir=tmp_path / f"data{zipped}",
            configs=["events"],
            verify_files=False,
        )
        assert len(paths) == 1 and not damaged
        source = SOURCES[name](time_steps=4, data_dir=tmp_path / f"data{zipped}")
        assert source.class_names == tuple(cls.CLASS_NAMES)
        assert source.sensor_size == cls.SENSOR_SIZE
        found.append({split: load_split(source, split) for split in ("train", "test")})
    for split in ("train", "test"):
        (inputs, labels), (others, other_labels) = (each[split] for each in found)
        np.testing.assert_array_equal(labels, other_labels)
        np.testing.assert_array_equal(inputs[:], others[:])
    # Without splits of its own, 9.9 of 11, rounded up, train.
    own = cls.PLACES[0].split is not None
    sizes = {split: len(labels) for split, (_, labels) in found[0].items()}
    assert sizes == {"train": 22 if own else 20, "test": 22 if own else 2}


@each
def test_frames_are_those_of_the_file_and_its_folder(name, tmp_path):
    cls = builder_class(name)
    files = make_files(tmp_path / "files", name, zipped=name in ZIPPED)
    prepare(name, files, data_dir=tmp_path, verify_files=False)
    source = SOURCES[name](time_steps=10, data_dir=tmp_path)
    expected = {}
    for place in cls.PLACES:
        for label, class_name in enumerate(cls.CLASS_NAMES[:2]):
            for number in range(11):
                inner = f"{place.folder}/{class_name}/{number:05}{cls.EXTENSION}"
                # 0.9 or 0.8 of 11, rounded up.
                first = 9 if name == "asl_dvs" else 10
                split = place.split or ("train" if number < first else "test")
                frames = events_to_frames(events_of(inner, cls), 10, cls.SENSOR_SIZE)
                # The events of 12 that don't divide by 10 are in the last frame.
                assert frames.sum((1, 2, 3)).tolist() == [1] * 9 + [3]
                expected.setdefault(split, set()).add((label, frames.tobytes()))
    for split, examples in expected.items():
        inputs, labels = load_split(source, split)
        seen = {
            (int(label), frames.astype("float32").tobytes())
            for frames, label in zip(inputs[:], labels, strict=True)
        }
        assert seen == examples and len(seen) == len(labels)


def test_preparing_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    files = make_files(tmp_path / "files", "nmnist", zipped=True, count=5)
    read, done = Recording.read, []

    def count(recording, orientation):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(recording.name)
        return read(recording, orientation)

    monkeypatch.setattr(Recording, "read", count)
    options = {"data_dir": tmp_path, "configs": ["events"], "verify_files": False}
    with pytest.raises(KeyboardInterrupt):
        prepare("nmnist", files, **options)
    first, done[:] = [*done], []
    monkeypatch.setattr(
        Recording, "read", lambda *args: done.append(args[0].name) or read(*args)
    )
    (path,), damaged = prepare("nmnist", files, **options)
    assert path.is_dir() and not damaged
    assert len({*first, *done}) == 20 and len(done) == 13


@each
def test_files_that_are_not_the_published_ones_are_refused(name, tmp_path):
    if name in ZIPPED:
        files = make_files(tmp_path / "zips", name, zipped=True)
        with pytest.raises(ValueError, match=r"\.zip must be the published file with"):
            prepare(name, files, data_dir=tmp_path)
    files = make_files(tmp_path / "plain", name, zipped=False)
    with pytest.raises(ValueError, match=r"of the \d+ classes.*Received: .*with"):
        prepare(name, files, data_dir=tmp_path)
    assert not list(tmp_path.rglob("*.tfrecord*"))
    rule = r"must hold .*\.zip or .*/, see the builder"
    if name not in ZIPPED:
        rule = r"must have a folder of recordings \(\.mat\) for each of the 24 classes"
    with pytest.raises(ValueError, match=rule):
        prepare(name, tmp_path, data_dir=tmp_path, verify_files=False)


def test_whole_archive_is_verified_by_its_digest(tmp_path, monkeypatch):
    cls = builder_class("dvs_lip")
    files = make_files(tmp_path / "files", "dvs_lip", zipped=True, classes=100, count=1)
    digest = hashlib.md5((files / "DVS-Lip.zip").read_bytes()).hexdigest()
    places = tuple(place._replace(md5=digest) for place in cls.PLACES)
    monkeypatch.setattr(cls, "PLACES", places)
    builder = cls(config="events", data_dir=tmp_path)
    assert len(builder.find_recordings(files)) == 200
    few = tuple(place._replace(count=3) for place in places)
    monkeypatch.setattr(cls, "PLACES", few)
    with pytest.raises(ValueError, match="must have the 3 published recordings"):
        builder.find_recordings(files)


def test_hostile_archives_are_refused(tmp_path):
    builder = builder_class("nmnist")(
        config="events", data_dir=tmp_path, verify_files=False
    )
    (tmp_path / "Train.zip").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(ValueError, match="must be a whole archive"):
        builder.find_recordings(tmp_path)
    for inner, rule in (
        ("Train/../../1.bin", "must have a folder of recordings"),
        ("Train/11/1.bin", r"with \['11'\]"),
        ("other/1/1.bin", "must have a folder of recordings"),
    ):
        with zipfile.ZipFile(tmp_path / "Train.zip", "w") as file:
            file.writestr(inner, b"x")
        with pytest.raises(ValueError, match=rule):
            builder.find_recordings(tmp_path)
    with zipfile.ZipFile(tmp_path / "Train.zip", "w") as file:
        for name in ("Train/1/1.bin", "Train/1/./1.bin"):
            file.writestr(name, b"x")
    with pytest.raises(ValueError, match="must have different names"):
        builder.find_recordings(tmp_path)


def test_damaged_recordings_are_named_by_the_command(tmp_path, capsys):
    files = make_files(tmp_path / "files", "nmnist", zipped=False)
    path = files / "Test" / "1" / "00002.bin"
    path.write_bytes(path.read_bytes()[:-1])
    line = ["data", "prepare", "nmnist", "--manual-dir", str(files)]
    line += ["--data-dir", str(tmp_path / "data"), "--config=events", "--any-files"]
    assert main(line) == 1
    said = capsys.readouterr().err
    assert f"{path}: At byte 55: expected the 5 bytes of an event" in said
    assert main([*line, "--lenient"]) == 0
    assert issubclass(builder_class("nmnist"), class_folders.ClassFolderBuilder)

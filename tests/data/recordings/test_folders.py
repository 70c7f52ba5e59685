"""Recordings of one's own and prepared data sets as sources of frames."""

import os
import shutil
import threading
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import shared_file
from fake_recordings import make_cifar10_dvs, make_classes

from keras_qkformer.data import source
from keras_qkformer.data.pipeline import evaluation_dataset, training_dataset
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.recordings.folders import frames_of_events
from keras_qkformer.data.recordings.prepare import builder_class, prepare
from keras_qkformer.data.source import OnDemand
from keras_qkformer.data.sources import get_source, load_examples
from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.events.aedat31 import read_aedat31, write_aedat31
from keras_qkformer.events.dat import write_dat
from keras_qkformer.events.event_array import make_events, split_windows
from keras_qkformer.events.evt2 import write_evt2
from keras_qkformer.events.evt3 import write_evt3
from keras_qkformer.events.frames import events_to_frames
from keras_qkformer.events.nmnist import write_nmnist
from keras_qkformer.events.npz_file import write_npz
from keras_qkformer.mistakes import is_mistake

pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
OPTIONS = {"time_steps": 3, "sensor_size": (32, 32)}
PLAIN = Preprocessing((32, 32), mean=(0, 0), std=(1, 1), max_value=1)

# The column of an event is its place in the file, where time runs backwards.
BACKWARDS = make_events([700, 0, 1000, 10, 20, 30], range(6), [0] * 6, [1] * 6)
# Frames are columns: of one event each, the last takes the rest; or of 250 us each.
IN_FOUR_FRAMES = pytest.mark.parametrize(
    ("frames_by", "columns"),
    [
        ("number", [[0], [1], [2], [3, 4, 5]]),
        ("time", [[1, 3, 4, 5], [], [0], [2]]),
    ],
)


def columns_of(frames):
    """The columns of row 0 with an ON event, of each frame; there is nothing else."""
    assert not frames[:, 1:].any() and not frames[..., 0].any()
    return [np.flatnonzero(frame[0, :, 1]).tolist() for frame in frames]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    make_classes(folder / "train", ["left", "right"], count=6)
    make_classes(folder / "test", ["left", "right"], count=2, seed=1)
    return folder


def load(folder, split, **options):
    options = {"data_dir": folder, **OPTIONS, **options}
    return load_examples("recordings", split, **options)


def files_of(folder):
    return sorted(folder.rglob("*.aedat"))


@pytest.mark.parametrize("frames_by", ["number", "time"])
def test_folders_of_splits_and_classes_are_examples(folder, frames_by):
    frames, labels = load(folder, "test", frames_by=frames_by)
    assert (frames.shape, frames.dtype) == ((4, 3, 32, 32, 2), "uint16")
    expected = {
        (
            events_to_frames(
                read_aedat31(path), 3, (32, 32), split_by=frames_by, dtype="uint16"
            ).tobytes(),
            ["left", "right"].index(path.parent.name),
        )
        for path in files_of(folder / "test")
    }
    assert {(f.tobytes(), y) for f, y in zip(frames, labels, strict=True)} == expected
    assert get_source("recordings", data_dir=folder, **OPTIONS).class_names == (
        "left",
        "right",
    )


def test_folders_of_classes_alone_are_the_training_split(folder):
    frames, labels = load(folder / "train", "train[:50%]")
    rest, others = load(folder / "train", "train[50%:]")
    assert sorted([*labels, *others]) == [0] * 6 + [1] * 6
    assert set(labels) == set(others) == {0, 1}  # The order is mixed.
    assert len({f.tobytes() for f in [*frames, *rest]}) == 12
    with pytest.raises(ValueError, match=r"one of \['train'\].*Received: 'test'"):
        load(folder / "train", "test")


def test_formats_may_be_mixed_in_a_folder(folder, tmp_path):
    """A file is known by its first bytes; its extension says that it is one."""
    writers = {
        "a.raw": write_evt3,
        "b.raw": write_evt2,
        "c.dat": write_dat,
        "d.npz": write_npz,
        "e.npy": np.save,
        "f.csv": write_csv,
    }
    (path, *_) = files_of(folder)
    events = read_aedat31(path)
    (tmp_path / "left").mkdir()
    for name, write in writers.items():
        write(tmp_path / "left" / name, events)
    frames, labels = load(tmp_path, "train")
    expected = events_to_frames(events, 3, (32, 32), dtype="uint16")
    assert len(labels) == len(writers)
    assert all((frame == expected).all() for frame in frames)


def write_csv(path, events):
    rows = ("{},{},{},{:d}".format(*event) for event in events.tolist())
    path.write_text("\n".join(["t_us,x,y,p", *rows]))


def test_slices_count_recordings_and_never_part_one(folder):
    frames, labels = load(folder, "train[:25%]", window_us=20_000)
    rest, _ = load(folder, "train[25%:]", window_us=20_000)
    windows = {
        path: split_windows(read_aedat31(path), 20_000)
        for path in files_of(folder / "train")
    }
    assert len(frames) + len(rest) == sum(map(len, windows.values()))
    ours = {f.tobytes() for f in frames}
    inside = 0
    for parts in windows.values():
        made = {
            events_to_frames(part, 3, (32, 32), dtype="uint16").tobytes()
            for part in parts
        }
        assert made <= ours or not made & ours
        inside += made <= ours
    assert inside == 3
    assert len(labels) == len(frames)


def test_lists_name_files_and_classes(tmp_path, folder):
    for number, path in enumerate(files_of(folder / "test"), 1):
        write_nmnist(tmp_path / f"{number}.bs2", read_aedat31(path))
    text = "#sample #class\r\n1\t10\r\n2\t9\r\n\r\n"
    (tmp_path / "few.txt").write_text(text)
    (tmp_path / "test1.txt").write_text("3.bs2 9\n4 10\n1 10\n")
    (tmp_path / "README.txt").write_text("not a list at all")
    frames, labels = load(tmp_path, "few")
    assert len(frames) == 2
    assert sorted(labels) == [0, 1]
    source_of_lists = get_source("recordings", data_dir=tmp_path, **OPTIONS)
    assert source_of_lists.class_names == ("9", "10")
    assert sorted(load(tmp_path, "test1")[1]) == [0, 1, 1]
    (tmp_path / "few.txt").write_text("1 10\n7 9\n")
    with pytest.raises(ValueError, match=r"few\.txt, line 2, .*Received: '7 9'"):
        load(tmp_path, "test1")


def test_names_in_capitals_are_recordings_and_hidden_ones_are_not(tmp_path):
    make_classes(tmp_path, ["left", "right"], count=2)
    for path in files_of(tmp_path):
        path.with_name(f"._{path.name}").write_bytes(b"what macOS leaves")
    (tmp_path / "left" / "0.aedat").rename(tmp_path / "left" / "0.AEDAT")
    (tmp_path / "._train.txt").write_bytes(b"what macOS leaves")
    frames, labels = load(tmp_path, "train")
    assert (len(frames), sorted(labels)) == (4, [0, 0, 1, 1])


def test_list_of_a_windows_editor_is_read(tmp_path, folder):
    shutil.copy(files_of(folder / "train")[0], tmp_path / "a.aedat")
    (tmp_path / "train.txt").write_text("a 7\n", "utf-8-sig", newline="\r\n")
    assert get_source("recordings", data_dir=tmp_path, **OPTIONS).class_names == ("7",)


def test_list_that_is_a_pipe_is_not_waited_for(tmp_path, folder):
    pipe = folder / "train.txt"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    timer = threading.Timer(5, os.close, [end])  # Whoever waits gets an empty list.
    timer.start()
    assert len(load(folder, "train")[1]) > 0
    timer.cancel()
    os.close(end)


@IN_FOUR_FRAMES
def test_time_may_run_backwards_in_a_recording(tmp_path, frames_by, columns):
    (tmp_path / "wave").mkdir()
    write_aedat31(tmp_path / "wave" / "0.aedat", BACKWARDS)
    (frames,), _ = load(tmp_path, "train", time_steps=4, frames_by=frames_by)
    assert columns_of(frames) == columns
    # Windows and parts are of time, however their frames are made.
    options = {"time_steps": 1, "frames_by": frames_by}
    frames, _ = load(tmp_path, "train", window_us=500, **options)
    assert columns_of(frames[:, 0]) == [[1, 3, 4, 5], [0]]
    (tmp_path / "part.txt").write_text("wave/0 wave 0.00002 0.00071\n")
    frames, _ = load(tmp_path, "part", **options)
    assert columns_of(frames[:, 0]) == [[0, 4, 5]]


def test_longest_time_between_events_can_be_chosen(tmp_path):
    (tmp_path / "wave").mkdir()
    two_hours = 7_200_000_000
    events = make_events([0, 10, two_hours], [1, 2, 3], [0] * 3, [1] * 3)
    write_aedat31(tmp_path / "wave" / "0.aedat", events)
    with pytest.raises(ValueError, match="max_gap_us"):
        load(tmp_path, "train")[0]
    (frames,), _ = load(tmp_path, "train", max_gap_us=two_hours)
    assert frames.sum() == 3


def test_every_window_has_the_label_of_its_recording(tmp_path):
    # Whole windows of 1000 us in the recordings of each class; some have none.
    windows = {"wave": [0, 3, 1], "clap": [2, 0, 4], "drum": [0, 0, 5]}
    names = sorted(windows)
    for name, counts in windows.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        for number, count in enumerate(counts):
            t = np.arange(0, 1000 * count + 501, 100)  # Half a window is left over.
            events = make_events(
                t, *np.full((2, len(t)), [[names.index(name)], [number]]), t
            )
            write_aedat31(tmp_path / "train" / name / f"{number}.aedat", events)
    frames, labels = load(tmp_path, "train", time_steps=1, window_us=1000)
    assert len(frames) == len(labels) == 15
    found = {name: [0, 0, 0] for name in names}
    for frame, label in zip(frames, labels, strict=True):
        assert frame.sum() == 10
        ((_, row, column),) = {tuple(place) for place in np.argwhere(frame.sum(-1))}
        assert column == label
        found[names[label]][row] += 1
    assert found == windows


def test_list_may_name_a_part_of_a_recording(tmp_path, folder):
    events = read_aedat31(files_of(folder / "train")[0])
    t = events["t"] - events["t"][0]
    write_aedat31(tmp_path / "a.aedat", events)
    (tmp_path / "train.txt").write_text("a.aedat left 0 0.05\na right 0.05 9\n")
    (tmp_path / "all.txt").write_text("a left\n")
    frames, labels = load(tmp_path, "train")
    parts = [events[t < 50_000], events[t >= 50_000]]
    assert sorted(labels) == [0, 1]
    for frame, label in zip(frames, labels, strict=True):
        expected = events_to_frames(parts[label], 3, (32, 32), dtype="uint16")
        np.testing.assert_array_equal(frame, expected)
    assert load(tmp_path, "all")[0].sum() == len(events)
    assert len(load(tmp_path, "train", window_us=20_000)[1]) == 2 + 2
    for span in (
        "0.1",
        "0.1 0.1",
        "-1 2",
        "a b",
        "0 nan",
        "0 inf",
        "0 1e300",
        "0 1e10",
    ):
        (tmp_path / "train.txt").write_text(f"a left {span}\n")
        with pytest.raises(ValueError, match=rf"train\.txt, line 1, .*{span}'"):
            load(tmp_path, "train")


def test_list_names_files_of_its_own_folder_alone(tmp_path, folder):
    inside = tmp_path / "inside"
    inside.mkdir()
    for place in (tmp_path, inside):
        shutil.copy(files_of(folder / "train")[0], place / "a.aedat")
    (inside / "b.aedat").mkdir()
    absolute = str(tmp_path / "a.aedat")
    for name in (
        "../a",
        "../inside/a.aedat",
        absolute,
        "b",
        "\udcff",
        "\0",
        "a" * 9000,
    ):
        (inside / "train.txt").write_text(f"a 0\n{name} 1\n", errors="surrogateescape")
        with pytest.raises((ValueError, OSError)) as error:
            load(inside, "train")
        assert is_mistake(error.value)


@pytest.mark.parametrize("content", [b"", b"#!AER-DAT3.1\r\n#", bytes(9)])
def test_damaged_recording_is_named(tmp_path, content):
    make_classes(tmp_path, ["left", "right"], count=1)
    (tmp_path / "left" / "folder.aedat").mkdir()
    path = tmp_path / "right" / "0.aedat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"right/0\.aedat: At byte \d+: ") as error:
        load(tmp_path, "train")
    assert is_mistake(error.value)


def test_inputs_on_demand_are_those_in_memory(folder, monkeypatch):
    whole, labels = load(folder, "train")
    monkeypatch.setattr(source, "IN_MEMORY_BYTES", 0)
    inputs, same = load(folder, "train")
    assert isinstance(whole, np.ndarray)
    assert isinstance(inputs, OnDemand)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(np.asarray(inputs), whole)
    options = dict(transform=PLAIN, batch_size=5, seed=2, first_epoch=1, epochs=3)
    ours = list(training_dataset(inputs, labels, **options))
    theirs = list(training_dataset(whole, labels, **options))
    ours += list(evaluation_dataset(inputs, labels, transform=PLAIN, batch_size=5))
    theirs += list(evaluation_dataset(whole, labels, transform=PLAIN, batch_size=5))
    assert len(ours) == len(theirs) == 4 + 3
    for (x, y), (expected_x, expected_y) in zip(ours, theirs, strict=True):
        assert x.shape[1:] == (3, 32, 32, 2)
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_augmentation_gets_its_own_seed_per_batch_and_may_soften_labels():
    import tensorflow as tf

    def augment(inputs, labels, seed, epoch):
        assert seed.dtype == tf.int32
        assert seed.shape == (2,)
        soft = tf.one_hot(labels, 4) * 0.5
        stamp = tf.cast(
            tf.stack([*tf.unstack(seed), tf.cast(epoch, tf.int32)]), tf.float32
        )
        return inputs + tf.reshape(stamp, (1, 1, 1, 3)), soft

    images = np.zeros((8, 1, 1, 3), "uint8")
    data = training_dataset(
        images,
        np.arange(8) % 4,
        transform=lambda x: tf.cast(x, tf.float32),
        batch_size=4,
        seed=10,
        first_epoch=2,
        epochs=4,
        augment=augment,
    )
    stamps = [tuple(x[0, 0, 0].numpy()) for x, _ in data]
    # (seed + epoch, place of the batch's first example, epoch)
    assert stamps == [(12, 0, 2), (12, 4, 2), (13, 0, 3), (13, 4, 3)]
    assert all(y.shape == (4, 4) for _, y in data)


def test_counts_are_resized_and_not_scaled():
    counts = np.full((2, 3, 8, 6, 2), 300, "uint16")
    result = Preprocessing((4, 3), (0.0, 0.0), (1.0, 1.0), max_value=1.0)(counts)
    assert result.shape == (2, 3, 4, 3, 2)
    np.testing.assert_allclose(result, 300, rtol=1e-6)
    same = Preprocessing((8, 6), (0.0, 0.0), (1.0, 1.0), max_value=1.0)(counts)
    np.testing.assert_array_equal(same, counts)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tfds.disable_progress_bar()
    folder = tmp_path_factory.mktemp("prepared")
    make_cifar10_dvs(
        folder / "files", builder_class("cifar10_dvs").CLASS_NAMES, zipped=False
    )
    # Upright, row and column are exchanged.
    events = BACKWARDS.copy()
    events["x"], events["y"] = BACKWARDS["y"], BACKWARDS["x"]
    write_aedat2(folder / "files" / "horse" / "cifar10_horse_8.aedat", events)
    for configs in (["events", "frames_t10"], ["events_clean"]):
        prepare(
            "cifar10_dvs",
            folder / "files",
            data_dir=folder,
            configs=configs,
            verify_files=False,
        )
    return folder


@pytest.mark.parametrize("time_steps", [10, 4])
@pytest.mark.parametrize("in_memory", [True, False])
def test_prepared_data_set_gives_its_frames(
    prepared, monkeypatch, time_steps, in_memory
):
    if not in_memory:
        monkeypatch.setattr(source, "IN_MEMORY_BYTES", 0)
    options = {"time_steps": time_steps, "data_dir": prepared}
    frames, labels = load_examples("cifar10_dvs", "test", **options)
    assert frames.shape == (10, time_steps, 128, 128, 2)
    assert isinstance(frames, OnDemand) != in_memory
    # Ten recordings per class: the last name of each is the test split.
    names = builder_class("cifar10_dvs").CLASS_NAMES
    files = make_expected(prepared / "files", names, time_steps)
    for place, label in enumerate(labels):
        np.testing.assert_array_equal(frames[place], files[label])
    assert sorted(labels) == list(range(10))
    part, some = load_examples("cifar10_dvs", "train[10%:40%]", **options)
    assert len(part) == len(some) == 27


@pytest.mark.parametrize(
    ("time_steps", "counts"),
    [(4, [20, 8, 6, 6]), (10, [13, 5, 4, 3, 3, 3, 2, 2, 2, 3])],
)
def test_prepared_data_set_gives_frames_of_equal_length(prepared, time_steps, counts):
    # i^2 for i from 0 to 39 in parts of 380 or 152 us; 10 frames by number are stored.
    frames, _ = load_examples(
        "cifar10_dvs",
        "test",
        time_steps=time_steps,
        data_dir=prepared,
        frames_by="time",
    )
    np.testing.assert_array_equal(frames.sum((2, 3, 4)), [counts] * 10)


@IN_FOUR_FRAMES
def test_time_may_run_backwards_in_a_prepared_data_set(prepared, frames_by, columns):
    frames, labels = load_examples(
        "cifar10_dvs_clean",
        "validation",
        time_steps=4,
        data_dir=prepared,
        frames_by=frames_by,
    )
    (place,) = np.flatnonzero(frames.sum((1, 2, 3, 4)) == 6)
    assert columns_of(frames[place]) == columns
    names = builder_class("cifar10_dvs").CLASS_NAMES
    assert names[labels[place]] == "horse"


def make_expected(folder, names, time_steps):
    from keras_qkformer.events.aedat2 import read_aedat2

    return [
        events_to_frames(
            read_aedat2(
                folder / name / f"cifar10_{name}_9.aedat", orientation="spikingjelly"
            ),
            time_steps,
            (128, 128),
        )
        for name in names
    ]


def test_source_says_how_its_recordings_were_turned(prepared, folder):
    options = {"time_steps": 2, "data_dir": prepared}
    assert get_source("cifar10_dvs", **options).orientation == "spikingjelly"
    own = get_source("recordings", data_dir=folder, **OPTIONS)
    assert own.orientation == "jaer"


@pytest.mark.parametrize("name", ["recordings", "cifar10_dvs", "cifar10_dvs_clean"])
def test_counts_of_events_stay_what_they_are(prepared, folder, name):
    data_dir = folder if name == "recordings" else prepared
    found = get_source(name, time_steps=2, data_dir=data_dir)
    assert (found.mean, found.std, found.max_value) == ((0.0, 0.0), (1.0, 1.0), 1.0)


def test_clean_splits_are_a_source_of_their_own(prepared):
    options = {"time_steps": 2, "data_dir": prepared}
    for split, count in (("train", 80), ("validation", 10), ("test", 10)):
        assert len(load_examples("cifar10_dvs_clean", split, **options)[1]) == count


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("recordings", {}, "data_dir must be a folder.*Received: None"),
        ("recordings", {"data_dir": "none"}, "Received: 'none'"),
        ("recordings", {"sensor_size": (99999, 99999)}, "16 frames of 99999x99999"),
        ("recordings", {"data_dir": "."}, r"must have recordings .*Received: '\.'"),
        ("digits", {"window_us": 3}, "data.window_us is no option.*Received"),
        ("cifar10_dvs", {"sensor_size": (3, 3)}, "data.sensor_size is no option"),
        ("cifar10_dvs", {"data_dir": "none"}, "data prepare cifar10_dvs --config"),
        ("dvs128_gesture", {"data_dir": "none"}, "frames_t16 --manual-dir"),
    ],
)
def test_mistake_in_the_options_is_an_error(tmp_path, monkeypatch, name, options, rule):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"(?s){rule}"):
        get_source(name, time_steps=16, **options)


def test_event_outside_the_sensor_names_the_file(folder):
    with pytest.raises(ValueError, match=r"\.aedat: .*16x16"):
        load(folder, "train", sensor_size=(16, 16))


def test_windows_longer_than_all_recordings_are_an_error(folder):
    with pytest.raises(ValueError, match="window_us must not exceed"):
        load(folder, "train", window_us=10**9)


def test_real_nmnist_list_is_a_source(tmp_path):
    path = shared_file("nmnist-small.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    options = {"time_steps": 4, "sensor_size": (34, 34)}
    folder = tmp_path / "NMNISTsmall"
    frames, labels = load_examples("recordings", "test100", data_dir=folder, **options)
    assert frames.shape == (100, 4, 34, 34, 2)
    assert set(labels) == set(range(10))


@pytest.mark.backend_independent
def test_recordings_without_time_steps_are_refused(tmp_path):
    """As for a model of images, which has none to tell."""
    with pytest.raises(ValueError, match="Received: 'recordings' without time_steps"):
        get_source("recordings", data_dir=str(tmp_path), channels=1, time_steps=None)


def test_a_class_may_be_called_by_any_digits(tmp_path, folder):
    recording = next((folder / "train" / "left").iterdir())
    shutil.copyfile(recording, tmp_path / recording.name)
    lines = [f"{recording.name} {name}\n" for name in ("9" * 5000, "10", "2")]
    (tmp_path / "train.txt").write_text("".join(lines))
    source = get_source("recordings", data_dir=str(tmp_path), **OPTIONS)
    assert source.class_names == ("9" * 5000, "2", "10")


def test_a_pixel_that_fires_all_the_time_is_no_bug():
    events = make_events(range(70_000), *[[1] * 70_000] * 3)
    with pytest.raises(ValueError, match=r"uint16\. Received: 70000: a w") as hot:
        frames_of_events(events, 1, (4, 4), "number")
    assert is_mistake(hot.value)

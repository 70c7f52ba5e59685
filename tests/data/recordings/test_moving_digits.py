"""The moving digits: what lies on disk, again and again."""

import numpy as np
import pytest

from keras_qkformer.data.recordings import moving_digits
from keras_qkformer.data.recordings.moving_digits import write_moving_digits
from keras_qkformer.events.event_array import check_coordinates
from keras_qkformer.events.frames import events_to_frames
from keras_qkformer.events.recording import read_recording

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytestmark = pytest.mark.backend_independent


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "new" / "folder"
    assert write_moving_digits(folder, most=40) == 80
    return folder


def test_files_lie_in_folders_of_split_and_class(digits):
    names = [name.split("/") for name in contents(digits) if name.endswith("aedat")]
    assert len(names) == 80
    assert {split for split, _, _ in names} == {"train", "test"}
    assert {label for _, label, _ in names} == set("0123456789")
    assert all(file.split(".")[0].isdecimal() for _, _, file in names)
    from keras_qkformer.data.sources import load_examples

    for split in ("train", "test"):
        labels = load_examples("digits", split)[1][:40]
        found = {int(file[:4]): int(c) for s, c, file in names if s == split}
        assert [found[i] for i in range(40)] == labels.tolist()


def test_recordings_are_events_of_the_sensor_with_some_noise(digits):
    counts = []
    for path in digits.rglob("*.aedat"):
        events = read_recording(path)
        check_coordinates(events, moving_digits.SENSOR_SIZE)
        assert 0 <= events["t"].min()
        assert events["t"].max() <= moving_digits.DURATION_US
        assert 0.3 < events["p"].mean() < 0.7
        counts.append(len(events))
    assert 1000 < np.mean(counts) < 10_000


def test_classes_can_be_told_apart_by_their_mean_frames(tmp_path):
    write_moving_digits(tmp_path, most=150)
    sums = {"train": [], "test": []}
    for path in sorted(tmp_path.rglob("*.aedat")):
        split, label, _ = path.relative_to(tmp_path).parts
        frame = events_to_frames(read_recording(path), 1, (32, 32))[0].sum(-1)
        # Where the digit moved does not matter: its spectrum does not know.
        spectrum = np.abs(np.fft.fft2(frame))[:8, :8].ravel()
        sums[split].append((int(label), spectrum / np.linalg.norm(spectrum)))
    labels, spectra = (np.array(x) for x in zip(*sums["train"], strict=True))
    means = np.stack([spectra[labels == i].mean(0) for i in range(10)])
    labels, spectra = (np.array(x) for x in zip(*sums["test"], strict=True))
    distance = np.linalg.norm(spectra[:, None] - means, axis=-1)
    assert (distance.argmin(1) == labels).mean() > 0.4


def test_a_second_call_writes_nothing_and_a_larger_one_adds(digits, tmp_path):
    assert write_moving_digits(tmp_path, most=10) == 20
    before = contents(tmp_path)
    assert write_moving_digits(tmp_path, most=10) == 0
    assert contents(tmp_path) == before
    assert write_moving_digits(tmp_path, most=40) == 60
    assert contents(tmp_path) == contents(digits)


def test_an_interrupted_call_goes_on(digits, tmp_path, monkeypatch):
    write, calls = moving_digits.write_aedat31, []

    def stop_in_the_middle(path, events):
        calls.append(path)
        if len(calls) == 30:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, events)

    monkeypatch.setattr(moving_digits, "write_aedat31", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        write_moving_digits(tmp_path, most=40)
    monkeypatch.undo()
    assert len(list(tmp_path.rglob("*.aedat"))) == 29
    assert write_moving_digits(tmp_path, most=40) == 51
    assert contents(tmp_path) == contents(digits)


def test_another_seed_is_another_recording(digits, tmp_path):
    write_moving_digits(tmp_path, most=1, seed=1)
    for path in tmp_path.rglob("*.aedat"):
        other = digits / path.relative_to(tmp_path)
        assert path.read_bytes() != other.read_bytes()


def test_a_folder_of_something_else_is_left_alone(digits, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=f"'{tmp_path}', which is something else"):
        write_moving_digits(tmp_path)
    with pytest.raises(ValueError, match=r"thesis\.tex', which is something else"):
        write_moving_digits(tmp_path / "thesis.tex")
    assert list(tmp_path.iterdir()) == [tmp_path / "thesis.tex"]
    with pytest.raises(ValueError, match=r'same seed .* with .*"seed": 0'):
        write_moving_digits(digits, seed=1)


@pytest.mark.parametrize("options", [{"most": 0}, {"most": 1.5}, {"seed": -1}])
def test_arguments_out_of_range_are_errors(options, tmp_path):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        write_moving_digits(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()

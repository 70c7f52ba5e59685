"""`keras-qkformer data prepare` as a user meets it."""

import pytest
from fake_recordings import make_cifar10_dvs

from keras_qkformer.cli.main import main
from keras_qkformer.data.recordings.prepare import builder_class

pytestmark = pytest.mark.backend_independent
CONFIG = ("--config", "frames_t10")


@pytest.fixture
def prepare(folder, monkeypatch, capsys):
    """Function from arguments to exit status, output and errors, in the folder."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        try:
            status = main(["data", "prepare", *arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        return (status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepare")
    names = builder_class("cifar10_dvs").CLASS_NAMES
    make_cifar10_dvs(folder / "files", names, zipped=False)
    make_cifar10_dvs(folder / "few", names, zipped=False, count=1)
    return folder


def test_damage_is_reported_at_the_end_with_status_1(folder, prepare):
    damaged = folder / "files" / "dog" / "cifar10_dog_0.aedat"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-3])
    common = ["cifar10_dvs", "--manual-dir", "files", "--any-files", *CONFIG]
    status, output, errors = prepare(*common, "--data-dir", "strict")
    assert (status, output) == (1, "")
    first, last = errors.splitlines()
    assert f"cifar10_dog_0.aedat: At byte {len(whole) - 8}: expected" in first
    assert "1 damaged recording, nothing was built" in last
    status, output, errors = prepare(*common, "--data-dir", "strict", "--lenient")
    assert (status, output) == (0, "strict/cifar10_dvs/frames_t10/1.0.0\n")
    assert "the readable part was kept" in errors
    damaged.write_bytes(whole)
    status, output, errors = prepare(*common, "--data-dir", "good")
    assert (status, output) == (0, "good/cifar10_dvs/frames_t10/1.0.0\n")
    assert not errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cifar100_dvs", "--manual-dir", "files"], "'cifar100_dvs'"),
        (["cifar10_dvs", "--manual-dir", "none"], "'none'"),
        (["dvs128_gesture", "--manual-dir", "files"], "DvsGesture.tar.gz"),
        (
            ["cifar10_dvs", "--manual-dir", "few", "--any-files", "--data-dir", "d"],
            "no recordings for 'test'",
        ),
        (["cifar10_dvs", "--manual-dir", "files"], "must have 1000 recordings"),
        (["cifar10_dvs"], "--manual-dir"),
        (
            ["cifar10_dvs", "--manual-dir", "files", "--config", "frames_t9"],
            "'frames_t9'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_is_one_line_and_status_2(prepare, arguments, message):
    status, output, errors = prepare(*arguments)
    assert (status, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert message in errors


def test_digits_are_written_once_and_mistakes_are_one_line(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    monkeypatch.chdir(tmp_path)
    command = ["data", "digits", "--out", "digits", "--most", "2"]
    for written in (4, 0):
        assert main(command) == 0
        assert capsys.readouterr().out == f"digits: {written} recordings written\n"
    assert len(list(tmp_path.glob("digits/*/*/*.aedat"))) == 4
    assert main([*command, "--seed", "1"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("keras-qkformer: error: A folder of moving digits must")
    assert errors.count("\n") == 1

"""The commands about weights as a user meets them, in this process."""

import json
import pickle
import sys
import zipfile

import pytest
from authors_shapes import authors_shapes, random_arrays

from keras_qkformer.cli.main import main
from keras_qkformer.convert import read_checkpoint, write_checkpoint
from keras_qkformer.models import PRESETS

pytestmark = pytest.mark.backend_independent


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Function that runs a command in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_QKFORMER_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def checkpoint(tmp_path):
    """A file of the weights of a published model."""
    arguments = PRESETS["qkformer_2_256_cifar10_dvs"].arguments
    write_checkpoint(tmp_path / "w.pth", random_arrays(authors_shapes(**arguments)))
    return tmp_path / "w.pth"


def test_weights_go_into_the_cache_and_back(run, checkpoint, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    status, out, err = run("convert", "w.pth", "--out", "cache/dvs")
    assert status == 0, err
    assert "w.pth: qkformer_2_256_cifar10_dvs" in out
    assert "1,504,138 parameters" in out
    assert "embed_dim=256, depths=(1, 1)" in out
    assert "assumed time_steps=16: preset qkformer_2_256_cifar10_dvs" in out
    assert "assumed membrane_state=sample" in out
    assert "84.0 % top-1 by the paper" in out
    assert "not measured here" in out
    assert "arrays\n" in err
    assert out.splitlines()[-1] == "cache/dvs"
    _, listing, _ = run("presets")
    name = "qkformer_2_256_cifar10_dvs"
    (row,) = (r for r in listing.splitlines() if r.startswith(f"{name} "))
    *found, note, weights = row.split()[1:]
    assert (found, weights) == (["1,504,138", "84.00", "%"], "weights")
    assert f"\n{note} reported by the paper" in listing
    assert f"{name}\t{checkpoint.parent / 'cache' / 'dvs'}\n" in listing
    status, out, _ = run("convert", "cache/dvs", "--to", "pytorch")
    assert (status, out) == (0, "cache/dvs.pth\n")
    assert len(read_checkpoint("cache/dvs.pth").arrays) > 100


def test_presets_without_a_cache_have_no_weights(run):
    status, out, _ = run("presets")
    assert status == 0
    rows = [row for row in out.splitlines() if row.partition(" ")[0] in PRESETS]
    assert len(rows) == len(PRESETS)
    assert not any("weights" in row for row in rows)
    assert max(map(len, rows)) < 80


def test_unseen_sizes_are_given_and_checked_against_pytorch(run, tmp_path):
    pytest.importorskip("torch", reason="the other side")
    sizes = {"family": "cifar", "embed_dim": 32, "depths": (1, 1), "in_channels": 1}
    write_checkpoint(tmp_path / "w.pth", random_arrays(authors_shapes(**sizes)))
    options = ("--set", "num_heads=[2, 4]", "--set", "image_size=8")
    status, out, err = run(
        "convert", "w.pth", *options, "--set", "time_steps=2", "--verify"
    )
    assert status == 0, err
    assert "no published preset" in out
    assert "assumed num_heads=[2, 4]: given" in out
    assert "largest difference of a logit to PyTorch, in float64: " in out
    config = json.loads((tmp_path / "w" / "config.json").read_text())
    assert (config["num_heads"], config["time_steps"]) == ([2, 4], 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pth"], "none.pth"),
        (["w.pth", "--preset", "qkformer_10_384_imagenet"], "family='dvs' in the file"),
        (["w.pth", "--preset", "qkformer_2_256_dvs128_gesture"], "num_classes=10 in"),
        (["w.pth", "--preset", "huge"], "'huge'"),
        (["w.pth", "--set", "num_heads=3"], "num_heads=3"),
        (["w.pth", "--set", "embed_dim=3"], "'embed_dim'"),
        (["w.pth", "--set", "num_heads"], "FIELD=VALUE"),
        (["w.pth", "--entry", "state_dict"], "entry='state_dict'"),
        (["w.pth", "--out", "w.pth"], "must be a folder to write, not a file"),
        (["hostile.pth"], "asks to import __builtin__.eval"),
        (["truncated.pth"], "truncated.pth"),
        (["nowhere", "--to", "pytorch"], "'nowhere'"),
        (
            ["w.pth", "--to", "pytorch", "--entry", "model"],
            "--entry must come with --to keras",
        ),
        (["w.pth", "--to", "onnx"], "'onnx'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_is_one_line_and_status_2_and_leaves_nothing(
    run, checkpoint, tmp_path, arguments, message
):
    class Hostile:
        def __reduce__(self):
            return eval, ("open('ran', 'w')",)

    with zipfile.ZipFile(tmp_path / "hostile.pth", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Hostile(), protocol=2))
    data = checkpoint.read_bytes()
    (tmp_path / "truncated.pth").write_bytes(data[: len(data) // 2])
    before = set(tmp_path.iterdir())
    status, out, err = run("convert", *arguments)
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err
    assert set(tmp_path.iterdir()) == before

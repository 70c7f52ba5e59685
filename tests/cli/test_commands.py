"""The command line as a user meets it."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_qkformer import QKFormerClassifier
from keras_qkformer.cli.main import main
from keras_qkformer.models.preset import PRESETS

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

SMALL = (
    "from keras_qkformer.training.recipe import Data, Optimizer, Recipe\n"
    "recipe = Recipe(preset='qkformer_tiny', "
    "model={'embed_dim': 16, 'num_heads': 2, 'time_steps': 2},"
    "data=Data(name='digits', train='train[:64]', validation='train[64:96]', "
    "test='test[:32]', batch_size=32), "
    "optimizer=Optimizer(epochs=1, learning_rate=1e-3))\n"
)


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "keras_qkformer", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with recipe.py and, after `fit`, runs/recipe; and what fit has said."""
    folder, said = tmp_path_factory.mktemp("cli"), io.StringIO()
    (folder / "recipe.py").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["keras-qkformer", "fit", "recipe.py"])
        assert main(sys.argv[1:]) == 0
    return folder, said.getvalue()


def test_fit_reports_accuracy_and_figures(trained):
    folder, said = trained
    assert "best epoch 1" in said
    assert "test[:32]: accuracy" in said
    figures = folder / "runs" / "recipe" / "figures"
    assert {path.name for path in figures.iterdir()} == {
        "training.png",
        "confusion_matrix.png",
        "spikes.png",
    }
    assert "figures/spikes.png" in said


@pytest.mark.backend_independent
def test_tensorboard_has_the_test_scores_the_recipe_and_the_figures(trained):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workdir = trained[0] / "runs" / "recipe"
    scores = json.loads((workdir / "results.json").read_text())["test"]
    (path,) = (workdir / "logs" / "test").iterdir()
    events = EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()["tensors"]
    assert {"training", "confusion_matrix", "spikes"} <= {*tags}
    (accuracy,) = events.Tensors("test_accuracy")
    assert tf.make_ndarray(accuracy.tensor_proto) == pytest.approx(scores["accuracy"])
    assert accuracy.step == 1  # The best epoch.
    settings = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert b"optimizer.learning_rate" in settings.content


def test_evaluate_repeats_the_number_of_fit(trained, capsys, monkeypatch):
    folder, said = trained
    monkeypatch.chdir(folder)
    line = said[said.index("test[:32]:") :].split("\n")[0] + "\n"
    assert run_here(capsys, "evaluate", "runs/recipe")[:2] == (0, line)


def test_evaluate_writes_all_scores_and_its_command(trained, capsys, monkeypatch):
    folder, _ = trained
    monkeypatch.chdir(folder)
    arguments = ["evaluate", "runs/recipe", "--split", "test[:9]", "--json", "e/e.json"]
    monkeypatch.setattr(sys, "argv", ["keras-qkformer", *arguments])
    status, output, _ = run_here(capsys, *arguments)
    assert (status, output.splitlines()[-1]) == (0, "e/e.json")
    scores = json.loads((folder / "e" / "e.json").read_text())
    assert scores["command"] == f"keras-qkformer {' '.join(arguments[:3])} " + (
        "'test[:9]' --json e/e.json"
    )
    assert (scores["split"], scores["examples"]) == ("test[:9]", 9)
    assert sum(sum(row.values()) for row in scores["confusion"].values()) == 9
    assert scores["versions"]["backend"] == os.environ["KERAS_BACKEND"]
    assert {"top5_accuracy", "calibration_error", "per_class", "machine"} <= set(scores)


def test_weights_are_kept_in_half_precision_and_found_by_name(
    trained, tmp_path, capsys, monkeypatch
):
    folder, _ = trained
    monkeypatch.setenv("KERAS_QKFORMER_WEIGHTS", str(tmp_path))
    kept = tmp_path / "small"
    own = [tmp_path / "small.old" / "a.txt", kept / "notes.txt", kept / "README.md"]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    status, output, error = run_here(
        capsys, "keep", folder / "runs" / "recipe", "--out", kept
    )
    assert status == 0, error
    assert [path.read_text() for path in own] == ["mine"] * 3
    assert output.startswith("test[:32]: accuracy")
    metadata = json.loads((kept / "metadata.json").read_text())
    assert (metadata["preset"], metadata["precision"]) == ("qkformer_tiny", "float16")
    assert metadata["test"]["examples"] == 32
    assert metadata["trained"]["command"] == "keras-qkformer fit recipe.py"
    model = QKFormerClassifier.from_preset("qkformer_tiny", weights="small")
    assert model.backbone.embed_dim == 16  # As it was trained.
    best = QKFormerClassifier.from_preset(folder / "runs" / "recipe" / "best")
    for ours, theirs in zip(model.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs.astype("float16"))
    larger = QKFormerClassifier.from_preset(
        "qkformer_tiny", weights="small", image_size=16, num_classes=3
    )
    assert larger.output_shape == (None, 3)
    for arguments, message in (
        (("qkformer_tiny", "smal"), r"one of \['small'\] in .*Received: .*'smal'"),
        (("qkformer_4_384_cifar10", "small"), "are of the preset 'qkformer_tiny'"),
        ((kept, "small"), "weights belong to the name of a preset"),
    ):
        with pytest.raises(ValueError, match=message):
            QKFormerClassifier.from_preset(*arguments)
    damaged = bytearray((kept / "model.weights.h5").read_bytes())
    damaged[-1] ^= 1
    (kept / "model.weights.h5").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"SHA-256 of model\.weights\.h5 must be"):
        QKFormerClassifier.from_preset("qkformer_tiny", weights="small")


def test_weights_of_an_unfinished_training_are_not_kept(trained, tmp_path, capsys):
    run_folder = tmp_path / "run"
    shutil.copytree(trained[0] / "runs" / "recipe", run_folder)
    (run_folder / "results.json").unlink()
    status, _, error = run_here(capsys, "keep", run_folder, "--out", tmp_path / "kept")
    assert status == 2
    assert "without results.json" in error
    assert not (tmp_path / "kept").exists()


@pytest.mark.backend_independent
def test_learning_rate_is_drawn(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained[0])
    done = run_here(capsys, "lr-plot", "recipe.py", "--set", "optimizer.epochs=7")
    assert done == (0, "recipe_learning_rate.png\n", "")
    picture = trained[0] / "recipe_learning_rate.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.backend_independent
def test_table_of_recipes_is_printed(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained[0])
    status, output, _ = run_here(capsys, "recipes", ".")
    row = (
        "| `recipe` | digits | `qkformer_tiny`, `embed_dim=16`, `num_heads=2`, "
        "`time_steps=2` |"
    )
    assert (status, output.splitlines()[-1]) == (0, row)
    assert "[recipe.py](recipe.py)" in output


def test_predict_prints_a_line_per_image(trained, capsys, monkeypatch):
    image_module = pytest.importorskip("PIL.Image", reason="makes the files")
    folder, _ = trained
    for name in ("one.png", "two.png"):
        pixels = np.random.default_rng(0).integers(0, 255, (20, 30), "uint8")
        image_module.fromarray(pixels).save(folder / name)
    monkeypatch.chdir(folder)
    arguments = ["predict", "runs/recipe", "one.png", "two.png", "--top", 2]
    status, output, _ = run_here(capsys, *arguments)
    assert status == 0
    lines = [line.split("\t") for line in output.splitlines()]
    assert [line[0] for line in lines] == ["one.png", "two.png"]
    for _, *answers in lines:
        names, probabilities = zip(*(a.split(":") for a in answers), strict=True)
        assert set(names) <= set("0123456789")
        assert 1 >= float(probabilities[0]) >= float(probabilities[1]) > 0


@pytest.mark.backend_independent
def test_presets_lists_sizes(capsys):
    status, output, _ = run_here(capsys, "presets")
    assert status == 0
    assert "qkformer_10_384_imagenet" in output
    assert "16,473,688" in output
    families = [line[2:] for line in output.splitlines() if line.startswith("# ")]
    assert families == list(dict.fromkeys(p.family for p in PRESETS.values()))
    status, output, _ = run_here(capsys, "presets", "--json")
    listed = {each["name"]: each for each in map(json.loads, output.splitlines())}
    assert status == 0 and list(listed) == list(PRESETS)
    first = listed["qkformer_10_384_imagenet"]
    assert first["parameters"] == 16_473_688 and first["family"] == "qkformer"
    assert first["arguments"]["num_classes"] == 1000 and first["weights"] == []
    assert first["reported_top1_percent"] == 78.80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "none.py"], "none.py"),
        (["fit", "recipe.py", "--workdir", "w", "--set", "seeds=1"], "seeds"),
        (["fit", "recipe.py", "--workdir", "w", "--set", "model.tau=1"], "tau=1"),
        (["fit", "recipe.py", "--workdir", "w", "--set", "model.num_heads=3"], "=3"),
        (["fit", "recipe.py", "--workdir", "w", "--set", "preset=huge"], "'huge'"),
        (["fit", "recipe.py", "--set", "seed=1"], "seed=0 there, 1 here"),
        (["evaluate", "nowhere"], "'nowhere'"),
        (["evaluate", "runs/recipe", "--split", "tset"], "'tset'"),
        (["predict", "runs/recipe", "none.png"], "none.png"),
        (["predict", "runs/recipe", "recipe.py"], "recipe.py"),
        (["predict", "nowhere", "none.png"], "'nowhere'"),
        (["export", "nowhere"], "'nowhere'"),
        (["train"], "'train'"),
        (["fit"], "recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.backend_independent
def test_mistake_is_one_line_and_status_2(
    trained, arguments, message, capsys, monkeypatch
):
    monkeypatch.chdir(trained[0])
    status, output, error = run_here(capsys, *arguments)
    assert (status, output) == (2, "")
    assert len(error.splitlines()) == 1
    assert message in error
    assert not (trained[0] / "w").exists()


@pytest.mark.backend_independent
def test_libraries_add_no_line_to_that_of_a_mistake(trained):
    done = run("predict", "runs/recipe", "none.png", cwd=trained[0])
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "none.png" in done.stderr


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A folder with a recording of 34x34 pixels, a broken one and an empty one."""
    from keras_qkformer.events.aedat31 import write_aedat31
    from keras_qkformer.events.event_array import make_events, sort_by_time

    folder = tmp_path_factory.mktemp("show")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 34, (2, 3000))
    events = make_events(rng.integers(0, 300_000, 3000), x, y, rng.random(3000) < 0.5)
    write_aedat31(folder / "cup.aedat", sort_by_time(events))
    write_aedat31(folder / "empty.aedat", events[:0])
    (folder / "broken.aedat").write_bytes((folder / "cup.aedat").read_bytes()[:-3])
    return folder


def run_here(capsys, *arguments):
    """As `run`, without another process: exit status, standard output and error."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("out", "options", "start", "frames"),
    [
        ("new/cup.png", [], b"\x89PNG", 1),
        (None, [], b"GIF8", 16),
        ("cup.gif", ["--frames", 5, "--split-by", "number"], b"GIF8", 5),
        ("cloud.png", ["--kind", "cloud", "--sensor-size", "40x40"], b"\x89PNG", 1),
        ("part.pdf", ["--start-ms", 100, "--duration-ms", 50], b"%PDF", None),
    ],
)
@pytest.mark.backend_independent
def test_data_show_draws_a_recording(
    recording, out, options, start, frames, capsys, monkeypatch
):
    image_module = pytest.importorskip("PIL.Image", reason="counts the frames")
    monkeypatch.chdir(recording)
    given = [] if out is None else ["--out", out]
    done = run_here(capsys, "data", "show", "cup.aedat", *given, *options)
    out = out or "cup.gif"
    assert done == (0, f"{out}\n", "")
    assert (recording / out).read_bytes().startswith(start)
    if frames:
        with image_module.open(recording / out) as image:
            assert getattr(image, "n_frames", 1) == frames


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.aedat", "--out", "w.png"], "none.aedat"),
        (["broken.aedat", "--out", "w.png"], "expected the 8 bytes of an event"),
        (["empty.aedat", "--out", "w.png"], "events to show at that time of 'empty"),
        (["cup.aedat", "--out", "w.png", "--start-ms", "999"], "at that time of 'cup"),
        (["cup.aedat", "--out", "w.xyz"], "'xyz' is not supported"),
        (["cup.aedat", "--out", "w.png", "--kind", "gif"], "named .gif"),
        (["cup.aedat", "--out", "w.png", "--frames", "0"], "number from 1 to 1,000"),
        (["cup.aedat", "--out", "w.png", "--sensor-size", "9x9"], "9x9 pixels"),
        (["cup.aedat", "--out", "w.png", "--sensor-size", "9"], "Received: '9'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.backend_independent
def test_mistake_of_data_show_is_one_line_and_status_2(
    recording, arguments, message, capsys, monkeypatch
):
    monkeypatch.chdir(recording)
    status, output, error = run_here(capsys, "data", "show", *arguments)
    assert (status, output) == (2, "")
    assert len(error.splitlines()) == 1
    assert message in error
    assert not list(recording.glob("w.*"))


@pytest.mark.backend_independent
def test_backend_can_be_chosen(trained):
    folder, _ = trained
    # numpy is a backend of Keras, but can't train: the command must not offer it.
    done = run("presets", "--backend", "numpy", cwd=folder)
    assert done.returncode == 2
    other = "jax" if os.environ["KERAS_BACKEND"] == "torch" else "torch"
    done = run("evaluate", "runs/recipe", "--backend", other, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.backend_independent
def test_module_and_script_are_the_same(trained):
    script = Path(sys.executable).with_name("keras-qkformer")
    if not script.is_file():
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run(
        [script, "--help"],
        capture_output=True,
        text=True,
        cwd=trained[0],
        timeout=120,
    )
    assert done.stdout == run("--help", cwd=trained[0]).stdout

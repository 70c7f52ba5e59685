"""Training: results, interruption, and what a workdir refuses."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from harness import to_numpy
from saved_presets import save_preset, settled_preset, shallow_preset

from keras_qkformer.data import sources as data_sources
from keras_qkformer.data.examples import Examples
from keras_qkformer.models import QKFormerClassifier, SpikingClassifier
from keras_qkformer.trained import load_trained
from keras_qkformer.training import evaluate as evaluate_module
from keras_qkformer.training.callbacks import StopAtNonFinite, Terminated
from keras_qkformer.training.checkpoint import Checkpoint
from keras_qkformer.training.evaluate import evaluate, predict_split
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import (
    Data,
    Optimizer,
    Recipe,
    load_recipe,
    to_dict,
)
from keras_qkformer.training.setup import prepare_training
from keras_qkformer.training.weight_average import WeightAverage

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


SMALL = {"embed_dim": 16, "num_heads": 2, "time_steps": 2}


def make_recipe(epochs=3, **changes):
    """A short training of settled weights or, with another `model`, of new ones."""
    values = dict(
        preset="qkformer_tiny" if "model" in changes else settled_preset(),
        # Dropout, so that a random state that is not restored would show.
        model={"dropout": 0.3},
        data=Data(
            name="digits",
            train="train[:96]",
            validation="train[96:160]",
            test="test[:64]",
            batch_size=32,
            max_shift=0.1,
            max_rotation=10,
        ),
        optimizer=Optimizer(
            epochs=epochs, learning_rate=1e-2, warmup_epochs=1, weight_decay=0.05
        ),
        seed=7,
    )
    return Recipe(**{**values, **changes})


FEW = dataclasses.replace(
    make_recipe().data,
    train="train[:32]",
    validation="train[96:112]",
    test="test[:8]",
    batch_size=8,
)
"""For 16 bits, which are slow on processors."""


def last_state(workdir):
    """The state of the last checkpoint, without the history."""
    state = json.loads((workdir / "checkpoints" / "state.json").read_text())
    del state["sha256"]["weights"]  # They are equal to rounding only.
    return {key: value for key, value in state.items() if key != "history"}


def last_weights(workdir):
    """Everything in the last checkpoint, optimizer included: path -> array."""
    import h5py

    folder = Path(workdir) / "checkpoints"
    state = last_state(workdir)
    arrays = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[...]

    with h5py.File(folder / state["weights"]) as file:
        file.visititems(visit)
    return arrays


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    results = fit(make_recipe(), workdir, verbose=0)
    with np.load(workdir / "examples.npz") as examples:
        assert np.ptp(examples["logits"], 0).min() > 1e-3  # Its neurons fire.
    return workdir, results


def shallow_recipe(**changes):
    """As `make_recipe`, for what depends on no model: compiling one takes long."""
    return make_recipe(preset=shallow_preset(), **changes)


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """As `finished`, of a shallow model."""
    workdir, temporary = (tmp_path_factory.mktemp("shallow") / n for n in ("run", "t"))
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        results = fit(shallow_recipe(), workdir, verbose=0)
    # AutoGraph writes functions there; a process that is killed leaves them behind.
    assert not [*temporary.glob("__autograph*")]
    with np.load(workdir / "examples.npz") as examples:
        assert np.ptp(examples["logits"], 0).min() > 1e-3  # Its neurons fire.
    return workdir, results


def test_workdir_holds_what_the_readme_says(finished):
    workdir, results = finished
    assert {path.name for path in workdir.iterdir()} == {
        "recipe.json",
        "results.json",
        "checkpoints",
        "logs",
        "best",
        "examples.npz",
        "metrics.jsonl",
    }
    assert json.loads((workdir / "results.json").read_text()) == results
    assert len(results["history"]["loss"]) == 3
    assert results["test"]["examples"] == 64
    card = (workdir / "best" / "README.md").read_text()
    assert f"| {100 * results['test']['accuracy']:.2f} % | `test" in card
    assert any((workdir / "logs" / "train").iterdir())
    assert any((workdir / "logs" / "validation").iterdir())
    assert len(list((workdir / "checkpoints").glob("*.h5"))) == 1
    assert isinstance(load_trained(workdir).model, QKFormerClassifier)


def test_evaluate_gives_what_fit_has_reported(finished):
    workdir, results = finished
    assert evaluate(workdir) == results["test"]
    assert evaluate(workdir, "train[96:160]")["accuracy"] == pytest.approx(
        results["best"]["val_accuracy"]
    )


def test_evaluate_takes_either_membrane_state_and_another_recipe(finished):
    workdir, results = finished
    own = evaluate(workdir, membrane_state="sample")
    assert own == results["test"]
    with pytest.warns(UserWarning, match="a defect of the authors' code"):
        assert evaluate(workdir, membrane_state="batch")["examples"] == 64
    # A preset folder has no recipe of its own.
    assert evaluate(workdir / "best", recipe=make_recipe()) == own
    with pytest.raises(ValueError, match=r"recipe\.json"):
        evaluate(workdir / "best")


@pytest.mark.backend_independent
def test_inputs_of_a_split_are_preprocessed_as_the_model_says(tmp_path):
    """And not as the recipe that names the data."""
    model = save_preset(tmp_path, num_heads=4)
    recipe = make_recipe()
    images, labels = data_sources.load_examples("digits", recipe.data.test)
    expected = to_numpy(model((images / 255 - 0.3) / 0.1))
    assert np.ptp(expected, 0).min() > 1e-3  # Its neurons fire.
    predictions = predict_split(tmp_path, recipe=recipe)
    np.testing.assert_array_equal(predictions["labels"], labels)
    np.testing.assert_allclose(predictions["logits"], expected, atol=1e-5)


@pytest.mark.backend_independent
@pytest.mark.parametrize("split", ["tset", "train[99999:]", "train[:"])
def test_a_wrong_split_is_told_before_the_weights_are_loaded(monkeypatch, split):
    monkeypatch.setattr(evaluate_module, "load_trained", pytest.fail)
    with pytest.raises(ValueError, match=f"Received: '{re.escape(split)}'"):
        evaluate(settled_preset(), split, make_recipe())


@pytest.mark.backend_independent
def test_classes_without_names_are_those_of_any_data_of_as_many(shallow, monkeypatch):
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
    named = dataclasses.replace(
        data_sources.get_source("digits"), class_names=(*names, "nine")
    )
    monkeypatch.setitem(data_sources.SOURCES, "named", lambda: named)
    data = dataclasses.replace(make_recipe().data, name="named")
    scores = evaluate(shallow[0], recipe=make_recipe(data=data))
    assert scores["accuracy"] == shallow[1]["test"]["accuracy"]
    assert list(scores["per_class"]) == [*names, "nine"]


def test_loss_of_training_goes_down(tmp_path):
    recipe = make_recipe(
        epochs=8, model={"embed_dim": 32, "num_heads": 2, "time_steps": 2}
    )
    history = fit(recipe, tmp_path / "run", verbose=0)["history"]
    # It starts at log(10) = 2.30 and stays there if nothing is learnt.
    assert history["loss"][-1] < history["loss"][0] - 0.1


def test_resumed_training_equals_an_uninterrupted_one(shallow, tmp_path, monkeypatch):
    """To rounding: weights, optimizer and random state."""
    for method, interrupt in (
        ("on_train_batch_end", _press_ctrl_c),
        ("on_train_batch_end", _terminate_after_last_batch),
        ("_save_last", _interrupt_saving),
    ):
        stop = pytest.raises((KeyboardInterrupt, Terminated))
        with monkeypatch.context() as patch, stop:
            patch.setattr(Checkpoint, method, interrupt)
            fit(shallow_recipe(), tmp_path / "run", verbose=0)
    results = fit(shallow_recipe(), tmp_path / "run", verbose=0)
    expected_workdir, expected = shallow
    for name, values in expected["history"].items():
        np.testing.assert_allclose(results["history"][name], values, rtol=1e-5)
    ours, theirs = last_weights(tmp_path / "run"), last_weights(expected_workdir)
    assert ours.keys() == theirs.keys()
    assert any("optimizer" in name for name in ours)
    assert last_state(tmp_path / "run")["random"]
    assert last_state(tmp_path / "run") == last_state(expected_workdir)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-5, atol=1e-6)


def _press_ctrl_c(checkpoint, batch, logs=None):
    os.kill(os.getpid(), signal.SIGINT)


def _terminate_after_last_batch(checkpoint, batch, logs=None):
    if batch == 2:  # Validation and checkpoint still come.
        os.kill(os.getpid(), signal.SIGTERM)


_on_epoch_end, _save_last = Checkpoint.on_epoch_end, Checkpoint._save_last


def _interrupt_after_first_epoch(checkpoint, epoch, logs=None):
    _on_epoch_end(checkpoint, epoch, logs)
    if epoch == 0:
        raise KeyboardInterrupt


def _interrupt_saving(checkpoint):
    if checkpoint.epoch < 2:
        return _save_last(checkpoint)
    (checkpoint.folder / "partial-epoch-0002.weights.h5").write_bytes(b"half a file")
    raise KeyboardInterrupt


KILL = """
import os, signal, sys
from keras_qkformer.training.checkpoint import Checkpoint
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import from_dict
import json

recipe, workdir, step = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seen = []

def kill(checkpoint, batch, logs=None):
    seen.append(batch)
    if len(seen) == step:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.on_train_batch_end = kill
fit(from_dict(recipe), workdir, verbose=0)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
def test_training_killed_at_a_random_step_ends_as_an_uninterrupted_one(
    shallow, tmp_path
):
    step = int(np.random.default_rng(len(keras.backend.backend())).integers(2, 9))
    recipe = json.dumps(to_dict(shallow_recipe()))
    done = subprocess.run(
        [sys.executable, "-c", KILL, recipe, str(tmp_path / "run"), str(step)],
        timeout=300,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert last_state(tmp_path / "run")["epoch"] == (step - 1) // 3
    # It goes on elsewhere, and the clock has been set back.
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    for path in moved.rglob("*"):
        os.utime(path, times=(4e9, 4e9))
    with (moved / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9, "lo')
    fit(shallow_recipe(), moved, verbose=0)
    ours, theirs = last_weights(moved), last_weights(shallow[0])
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-5, atol=1e-6)
    epochs = [line["epoch"] for line in metrics_of(moved)]
    assert epochs == [1, 2, 3]


def metrics_of(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_metrics_have_losses_accuracy_rate_and_speed_of_every_epoch(finished):
    workdir, results = finished
    lines = metrics_of(workdir)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for name, values in results["history"].items():
        assert [line[name] for line in lines] == values
    assert all(line["images_per_second"] > 0 for line in lines)
    # 3 steps of warm-up, then 6 of a cosine to 0.
    rates = [line["learning_rate"] for line in lines]
    np.testing.assert_allclose(rates, [1e-2, 5e-3, 0], atol=1e-8)


def test_tensorboard_has_firing_rates_and_the_augmented_images(finished):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags, rates = set(), []
    for path in (finished[0] / "logs" / "train").iterdir():
        events = EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()
        own = set(events.Tags()["tensors"])
        tags |= own
        if "firing_rate/patch_embed1/unit0" in own:
            rates = events.Tensors("firing_rate/patch_embed1/unit0")
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate", "augmented"} <= tags
    assert "loss_of_step" in tags
    assert len([tag for tag in tags if tag.startswith("firing_rate/")]) == 19
    assert [rate.step for rate in rates] == [1, 2, 3]  # As the console counts.
    assert all(0 <= tf.make_ndarray(rate.tensor_proto) <= 1 for rate in rates)


@pytest.mark.backend_independent
def test_bar_and_lines_tell_how_it_goes(tmp_path, capsys):
    recipe = shallow_recipe(epochs=2, max_steps=1)
    rising = dataclasses.replace(recipe.optimizer, warmup_epochs=2.5)
    recipe = dataclasses.replace(recipe, optimizer=rising)
    fit(recipe, tmp_path / "run", verbose=1)
    output, error = capsys.readouterr()
    for line in (
        rf"workdir +{re.escape(str(tmp_path))}/run\n",
        rf"device +\S+, {keras.backend.backend()}\n",
        r"data +digits: 10 classes; \d+ training, \d+ validation, 32 test examples\n",
        r"model +\S+: [\d,]+ parameters, input 8 x 8 x 1, float32\n",
        r"epochs +2, of 1 steps with 32 examples\n",
        r"rate +only rises, as the warm-up has 2\.5 epochs\n",
        r"compiled in \d+\.\d s\n",
        r"epoch 1/2: .*loss 2\.\d+, .*val_loss 2\.\d+, \d+ s\n",
    ):
        assert re.search(line, output)
    assert "epoch 2/2: " in output
    assert re.search(r"epoch 2/2 100%.*images/s, accuracy=.*loss=", error)


@pytest.mark.backend_independent
def test_average_of_weights_is_what_is_judged_and_kept(tmp_path):
    optimizer = Optimizer(
        epochs=2, learning_rate=1e-2, average_decay=0.5, accumulation_steps=2
    )
    recipe = shallow_recipe(optimizer=optimizer, precision="mixed_float16", data=FEW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", _interrupt_after_first_epoch)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, tmp_path / "halves", verbose=0)
    halves = fit(recipe, tmp_path / "halves", verbose=0)
    whole = fit(recipe, tmp_path / "whole", verbose=0)
    # A spike more or less in 16 bits, which may decide one of 16 examples.
    for name, values in whole["history"].items():
        np.testing.assert_allclose(halves["history"][name], values, atol=0.07)
    assert evaluate(tmp_path / "whole", "train[96:112]")["accuracy"] == pytest.approx(
        whole["best"]["val_accuracy"], abs=0.07
    )


def test_loss_that_is_not_finite_ends_training_and_its_batch_is_kept(
    tmp_path, monkeypatch
):
    recipe = shallow_recipe()

    def spoil(images, labels, seed, epoch):
        # The second batch of the second epoch; 32 examples are before it.
        import tensorflow as tf

        wrong = tf.logical_and(tf.equal(epoch, 1), tf.equal(seed[1], 32))
        return tf.where(wrong, np.nan, 1.0) * images, labels

    monkeypatch.setattr(Examples, "augmentation", lambda examples: spoil)
    with pytest.raises(ValueError, match=r"kernel with NaN .* batch 2 of epoch 2"):
        fit(recipe, tmp_path / "run", verbose=0)
    assert last_state(tmp_path / "run")["epoch"] == 1
    for name, array in last_weights(tmp_path / "run").items():
        assert np.isfinite(array).all(), name
    with np.load(tmp_path / "run" / "not_finite.npz") as kept:
        assert (kept["epoch"], kept["batch"]) == (1, 1)
        assert kept["inputs"].shape == (2, 32, 8, 8, 1)
        assert np.isfinite(kept["inputs"]).all((1, 2, 3, 4)).tolist() == [True, False]
    assert evaluate(tmp_path / "run")["examples"] == 64
    with pytest.raises(ValueError, match="batch 2 of epoch 2"):
        fit(recipe, tmp_path / "run", verbose=0)  # It is the same every time.
    monkeypatch.undo()
    assert fit(recipe, tmp_path / "run", verbose=0)["best"]


@pytest.mark.backend_independent
def test_weights_are_checked_before_they_are_saved(tmp_path, monkeypatch):
    kinds = []

    def record(model, *arguments, callbacks, **options):
        kinds.extend(map(type, callbacks))
        raise KeyboardInterrupt

    monkeypatch.setattr(QKFormerClassifier, "fit", record)
    with pytest.raises(KeyboardInterrupt):
        fit(make_recipe(), tmp_path / "run", verbose=0)
    assert kinds.index(StopAtNonFinite) < kinds.index(Checkpoint)


@pytest.mark.backend_independent
def test_training_starts_as_the_recipe_says(tmp_path, monkeypatch):
    starts = []

    def record(model, *arguments, callbacks, **options):
        (average,) = (c for c in callbacks if isinstance(c, WeightAverage))
        starts.append((model, average))
        raise KeyboardInterrupt

    monkeypatch.setattr(QKFormerClassifier, "fit", record)
    optimizer = Optimizer(
        epochs=2, learning_rate=1e-2, average_decay=0.9, accumulation_steps=3
    )
    for number, seed in enumerate((7, 7, 8)):
        recipe = make_recipe(
            model=SMALL,
            optimizer=optimizer,
            precision="mixed_bfloat16",
            seed=seed,
            max_steps=2,
        )
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, tmp_path / str(number), verbose=0)
    kernels = [model.get_weights()[0] for model, _ in starts]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    model, average = starts[0]
    assert model.backbone.get_layer("patch_embed1").compute_dtype == "bfloat16"
    assert (average.decay, average.accumulation_steps) == (0.9, 3)
    _, examples = prepare_training(make_recipe(max_steps=2, label_smoothing=0.25))
    got = examples.seed, examples.max_steps, examples.label_smoothing
    assert got == (7, 2, 0.25)


@pytest.mark.backend_independent
@pytest.mark.skipif(os.name == "nt", reason="limits as on POSIX")
@pytest.mark.parametrize("share", [0, 0.5])
def test_full_disk_while_saving_leaves_the_checkpoint_before(shallow, tmp_path, share):
    """A limit of the size of files, which a child lowers after the first epoch."""
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(shallow[0], workdir)
    before = last_weights(workdir)
    (weights,) = (workdir / "checkpoints").glob("*.h5")
    most = int(share * weights.stat().st_size)
    limit = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from keras_qkformer.training.checkpoint import Checkpoint\n"
        "from keras_qkformer.trained import load_trained\n"
        "import json, pathlib, sys\n"
        "model = load_trained(sys.argv[1]).model\n"
        "model.compile('adamw')\n"
        "checkpoint = Checkpoint(sys.argv[1], {})\n"
        "state = pathlib.Path(sys.argv[1]) / 'checkpoints' / 'state.json'\n"
        "checkpoint.state = json.loads(state.read_text())\n"
        "checkpoint.set_model(model)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most},) * 2)\n"
        "logs = {'val_accuracy': 1.0}\n"
        "try: checkpoint.on_epoch_end(3, logs)\n"
        "except OSError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limit, str(workdir)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    message = r"0004\.weights\.h5 could not be written; any previous .* is intact: .*\n"
    # HDF5 may end the process when it can't close a file.
    if done.returncode != -signal.SIGSEGV and done.returncode != -signal.SIGABRT:
        assert re.search(message, done.stdout), done.stderr
        assert not (workdir / "best.new").exists()
    after = last_weights(workdir)
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert evaluate(workdir) == shallow[1]["test"]


@pytest.mark.backend_independent
def test_failure_while_writing_a_checkpoint_is_told_and_harmless(
    shallow, tmp_path, monkeypatch
):
    def fill_the_disk(model, path, *arguments, **options):
        Path(path).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    def after_first_epoch(checkpoint):
        if checkpoint.epoch == 1:
            monkeypatch.setattr(SpikingClassifier, "save_weights", fill_the_disk)
        return _save_last(checkpoint)

    monkeypatch.setattr(Checkpoint, "_save_last", after_first_epoch)
    with pytest.raises(OSError, match=r"epoch-0001\.weights\.h5 could not be written"):
        fit(shallow_recipe(), tmp_path / "run", verbose=0)
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {
        "state.json",
        "epoch-0000.weights.h5",
    }
    monkeypatch.undo()
    results = fit(shallow_recipe(), tmp_path / "run", verbose=0)
    for name, values in shallow[1]["history"].items():
        np.testing.assert_allclose(results["history"][name], values, rtol=1e-5)


def test_preset_folder_is_tuned_for_other_classes_and_sizes(finished, tmp_path):
    data = Data(
        name="moved",
        train="train[:96]",
        validation="train[96:160]",
        test="test[:64]",
        batch_size=32,
    )
    with pytest.MonkeyPatch.context() as patch:
        sources = {**data_sources.SOURCES, "moved": _parity}
        patch.setattr(data_sources, "SOURCES", sources)
        recipe = make_recipe(
            epochs=1,
            preset=str(finished[0] / "best"),
            model={"image_size": 16},
            data=data,
        )
        results = fit(recipe, tmp_path / "run", verbose=0)
        trained = load_trained(tmp_path / "run")
        model = trained.model
        assert (model.num_classes, model.backbone.image_size) == (2, (16, 16))
        assert trained.class_names == ["even", "odd"]
        assert set(results["test"]["per_class"]) == {"even", "odd"}
        with pytest.raises(
            ValueError, match=r"those of the model, 0, 1, 2, 3, 4, \.\."
        ):
            evaluate(finished[0], recipe=recipe)


def _parity():
    digits = data_sources.get_source("digits")

    def load(split, bounds):
        images, labels = digits.load(split, bounds)
        return images, labels % 2

    return dataclasses.replace(digits, class_names=("even", "odd"), load=load)


def test_finished_training_is_not_repeated(finished):
    workdir, results = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*.h5")}
    again = fit(make_recipe(), workdir, verbose=0)
    assert again["test"] == results["test"]
    assert before == {path: path.stat().st_mtime_ns for path in workdir.rglob("*.h5")}


def test_checkpoint_before_the_last_goes_when_a_training_was_stopped_at_its_end(
    shallow,
):
    folder = shallow[0] / "checkpoints"
    whole = {path.name for path in folder.iterdir()}
    for name in ("epoch-0002.weights.h5", "state-before.json"):
        (folder / name).write_text("{}")
    fit(shallow_recipe(), shallow[0], verbose=0)
    assert {path.name for path in folder.iterdir()} == whole


def test_workdir_of_another_recipe_is_refused(finished):
    workdir, _ = finished
    before = (workdir / "recipe.json").read_bytes()
    with pytest.raises(ValueError, match=r"seed=7 there, 8 here"):
        fit(make_recipe(seed=8), workdir)
    assert (workdir / "recipe.json").read_bytes() == before


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="which holds other files"):
        fit(make_recipe(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unreadable_checkpoint_is_refused(tmp_path, finished):
    import shutil

    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "epoch-0003.weights.h5").write_bytes(b"no")
    with pytest.raises(ValueError, match="A checkpoint must be one that fit has"):
        fit(make_recipe(), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"model": SMALL, "preset": "qkformer_huge"}, "A preset must be one of"),
        ({"model": {"tau": 1.0}}, "tau must be greater than 1"),
        ({"model": {"num_heads": 3}}, "num_heads must divide the 64 channels"),
        ({"model": {"num_clases": 3}}, r"Received: \['num_clases'\]"),
        ({"model": {"num_classes": 3}}, "must have the 10 classes"),
        # Read after hours of training.
        ({"data": dataclasses.replace(FEW, test="test[9:9]")}, "must not be empty"),
    ],
)
def test_mistake_in_a_recipe_leaves_no_workdir(tmp_path, change, rule):
    with pytest.raises(ValueError, match=rule):
        fit(make_recipe(**change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_large_batch_is_refused(tmp_path):
    data = Data(
        name="digits", train="train[:9]", validation="test", test="test", batch_size=32
    )
    with pytest.raises(ValueError, match="must not exceed the number of training"):
        fit(make_recipe(data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_and_label_smoothing_train(tmp_path, precision):
    changes = {"precision": precision, "label_smoothing": 0.1, "data": FEW}
    recipe = shallow_recipe(epochs=1, **changes)
    results = fit(recipe, tmp_path / "run", verbose=0)
    assert np.isfinite(results["history"]["loss"]).all()
    model = load_trained(tmp_path / "run").model
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert model.backbone.dtype_policy.name == "float32"  # It was for the training.


SLOW = """
import time
from keras_qkformer.training.checkpoint import Checkpoint

def wait(checkpoint, batch, logs=None):
    if checkpoint.epoch:
        time.sleep(5)

Checkpoint.on_train_batch_end = wait
import keras_qkformer.__main__
"""


@contextlib.contextmanager
def long_training(folder):
    """A process of the command line that trains into `folder / "run"`.

    The training waits at every batch after the first epoch.
    """
    state = folder / "run" / "checkpoints" / "state.json"
    command = [sys.executable, "-c", SLOW, "fit", _write_recipe(folder)]
    with subprocess.Popen(
        [*command, "--workdir", str(folder / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not (state.is_file() and json.loads(state.read_text())["epoch"]):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, "no epoch within two minutes"
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.backend_independent
@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path):
    with long_training(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on after the last whole epoch" in errors
    assert evaluate(tmp_path / "run")["examples"] == 64


@pytest.mark.backend_independent
@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
def test_sigterm_ends_the_only_training_of_a_workdir_as_schedulers_expect(tmp_path):
    with long_training(tmp_path) as process:
        with pytest.raises(ValueError, match=f"process {process.pid} on .* trains"):
            fit(load_recipe(_write_recipe(tmp_path)), tmp_path / "run", verbose=0)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.endswith(
        "keras-qkformer: terminated; the same command goes on after the last whole "
        f"epoch in {tmp_path / 'run'}\n"
    )
    assert not (tmp_path / "run" / "fit.lock").exists()


def _write_recipe(folder):
    path = folder / "long.py"
    fields = json.loads(json.dumps(to_dict(shallow_recipe())))
    path.write_text(
        "from keras_qkformer.training.recipe import from_dict\n"
        f"recipe = from_dict({fields!r})\n"
    )
    return str(path)

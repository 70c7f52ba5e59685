"""A study: what it refuses, what it computes, and that a kill changes nothing."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from saved_presets import shallow_preset

from keras_qkformer.analysis.study import (
    holm,
    markdown,
    mean_interval,
    paired_p,
    summarize,
)
from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.cli.main import main
from keras_qkformer.files import write_json
from keras_qkformer.provenance import provenance
from keras_qkformer.training import study_runs
from keras_qkformer.training.recipe import load_recipe
from keras_qkformer.training.study import load_study, recipes_of
from keras_qkformer.training.study_runs import run_study, workdir_of
from keras_qkformer.training.workdir import write_recipe

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

FILE = """
from keras_qkformer.training.study import Evaluation, Study

study = Study(
    question="Does the rate matter?",
    plan="It is a test.",
    variants={{
        "slow": ["{recipe}", "preset={preset}", *{few}],
        "fast": ["{recipe}", "preset={preset}", *{few}, "optimizer.learning_rate=0.02"],
    }},
    seeds=2,
    evaluations={{
        "by_class": Evaluation(order="by_class", batch_size=8),
        "shuffled": Evaluation(order="shuffled"),
    }},
    comparisons=[("slow", "fast"), ("fast", "fast@by_class")],
)
"""
RECIPE = Path(__file__).parents[2] / "recipes" / "digits.py"
FEW = [
    "data.train=train[:64]",
    "data.validation=train[96:112]",
    "data.test=test[:32]",
    "data.batch_size=16",
    "optimizer.epochs=3",
]


def write_study(folder):
    path = folder / "rates.py"
    preset = shallow_preset()
    path.write_text(FILE.format(recipe=RECIPE, preset=preset, few=FEW))
    return path


def once(folder, path):
    """The runs of a study, without what differs from run to run."""
    study = load_study(path)
    return list(run_study(study, recipes_of(study, path), folder, verbose=0))


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="one backend, which compiles least"
)
def test_a_killed_study_goes_on_and_repeats_nothing(tmp_path):
    path = write_study(tmp_path)
    whole = once(tmp_path / "whole", path)
    workdir = tmp_path / "killed"
    command = module_command("keras_qkformer", "study", path, "--workdir", workdir)
    child = subprocess.Popen(
        command,
        env=module_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # In the middle of the second training.
    end = time.monotonic() + 300
    while not (workdir / "fast/seed-0/metrics.jsonl").exists():
        assert child.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = {file: file.stat().st_mtime_ns for file in workdir.rglob("results.json")}
    assert len(kept) == 1
    killed = once(workdir, path)
    for file, changed in kept.items():
        assert file.stat().st_mtime_ns == changed
    for one, other in zip(whole, killed, strict=True):
        same = ("variant", "seed", "parameters", "best_epoch", "scores")
        assert {key: one[key] for key in same} == {key: other[key] for key in same}
    assert [(one["variant"], one["seed"]) for one in killed] == [
        *(("slow", 0), ("fast", 0), ("slow", 1), ("fast", 1))
    ]
    # The trainings differ, so nothing was mixed up; the order changes nothing.
    losses = [one["scores"]["test"]["loss"] for one in killed]
    assert len({*losses}) == 4
    for one in killed:
        scores = one["scores"]
        assert scores["by_class"]["loss"] == pytest.approx(scores["test"]["loss"], 1e-5)
    # No training fits into no time, and those that are there are told.
    study = load_study(path)
    recipes = recipes_of(study, path)
    assert len([*run_study(study, recipes, workdir, minutes=0)]) == 4
    assert [*run_study(study, recipes, tmp_path / "new", minutes=0)] == []
    other = recipes_of(study, path, ["optimizer.epochs=2"])
    with pytest.raises(ValueError, match=r"same recipe.*optimizer.epochs=3 there"):
        next(run_study(study, other, workdir))


@pytest.mark.backend_independent
def test_models_are_evaluated_in_the_precision_of_their_training(tmp_path, monkeypatch):
    """Also by a process that has not trained them."""
    study = load_study(write_study(tmp_path))
    recipe = load_recipe(RECIPE, ["precision=mixed_bfloat16"])
    workdir = workdir_of(tmp_path, "slow", 0)
    write_recipe(workdir, recipe)
    scores = {"accuracy": 1.0, "loss": 0.1, "examples": 2}
    best = {"epoch": 1, "val_accuracy": 1.0, "val_loss": 0.1}
    results = {"test": scores, "test_split": "test", "best": best, "history": {}}
    write_json(workdir / "results.json", {**results, "parameters": 9, **provenance()})
    policies = []

    def load(folder):
        policies.append(keras.config.dtype_policy().name)
        return SimpleNamespace(folder=folder, preprocessing=None)

    monkeypatch.setattr(study_runs, "load_trained", load)
    monkeypatch.setattr(study_runs, "input_shape_of", lambda folder: (8, 8, 1))
    found = {"labels": np.array([0, 1]), "logits": np.eye(10)[:2]}
    monkeypatch.setattr(study_runs, "predictions_of", lambda *_, **__: found)
    (run,) = run_study(study, {("slow", 0): recipe}, tmp_path)
    assert run["scores"]["shuffled"]["correct"] == 2
    assert policies == ["mixed_bfloat16"]
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.backend_independent
def test_intervals_and_tests_are_those_of_the_tables():
    # Student's t at 97.5 % with 4 degrees of freedom is 2.776445.
    values = [0.90, 0.92, 0.91, 0.95, 0.87]
    half = 2.776445 * np.std(values, ddof=1) / np.sqrt(5)
    assert mean_interval(values) == pytest.approx([0.91 - half, 0.91 + half], rel=1e-6)
    assert mean_interval([0.9]) is None
    # t = mean / (s / sqrt(n)) = 2 / (1 / sqrt(3)) = 3.4641 with 2 degrees: p = 0.0742.
    assert paired_p([1.0, 2.0, 3.0]) == pytest.approx(0.0742, abs=5e-5)
    assert paired_p([0.0, 0.0]) == 1
    assert paired_p([0.1, 0.1]) is None and paired_p([0.1]) is None
    # Equal but for rounding: p would be 1e-31.
    equal = [0.95 - 0.93, 0.92 - 0.90, 0.91 - 0.89]
    assert paired_p(equal) is None and mean_interval(equal) is None
    assert holm([0.01, 0.02, None, 0.04]) == pytest.approx([0.03, 0.04, None, 0.04])


@pytest.mark.backend_independent
def test_a_summary_pairs_seeds_and_says_what_it_can_not_tell():
    def run(variant, seed, accuracy, **more):
        scores = {"test": accuracy, **more}
        scores = {name: {"accuracy": value} for name, value in scores.items()}
        return {"variant": variant, "seed": seed, "scores": scores}

    runs = [run("a", 0, 0.5), run("b", 0, 0.75, late=0.25), run("a", 1, 0.5)]
    runs += [run("b", 2, 1.0)]
    pairs = [("a", "b"), ("b", "b@late"), ("a", "c")]
    summary = summarize(runs, pairs)
    assert summary["scores"]["b"]["values"] == [0.75, 1.0]
    first, second, third = summary["comparisons"]
    assert (first["seeds"], first["mean"], first["p"]) == ([0], 0.25, None)
    assert (second["seeds"], second["mean"]) == ([0], -0.5)
    assert (third["seeds"], third["mean"]) == ([], None)
    json.dumps(summary, allow_nan=False)
    table = markdown(summary)
    assert "| b | 2 | 87.50 | -71.33 to 246.33 | 75.0, 100.0 |" in table
    assert "| b minus a | 1 | +25.00 | - | - | - |" in table
    assert "| c minus a | 0 | - | - | - | - |" in table


WRONG = {
    "import nothing_of_that_name\n": "ModuleNotFoundError",
    "raise SystemExit(3)\n": "status 3",
    "study = 5\n": "a Study",
    "study = Study(question='', plan='', variants={})\n": "variants",
    "study = Study(question='', plan='', variants={'a': []})\n": "name a recipe",
    "study = Study(question='', plan='', variants={'A/B': ['r.py']})\n": "pattern",
    "study = Study(question='', plan='', variants={'a': ['r.py']}, seeds=0)\n": "seeds",
    "study = Study(question='', plan='', variants={'a': ['r.py']},"
    " comparisons=[('a', 'a@b')])\n": "VARIANT@EVALUATION. Received: 'a@b'",
    "from keras_qkformer.training.study import Evaluation\n"
    "study = Study(question='', plan='', variants={'a': ['r.py']},"
    " evaluations={'test': Evaluation()})\n": "the test of fit. Received: 'test'",
    "study = Study(question='', plan='', variants={'a': ['none.py']})\n": "variant 'a'",
    "study = Study(question='', plan='', variants={'a': ['r.py']},"
    " backends={'b': 'jax'})\n": "that of a variant. Received: 'b'",
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_study_is_told_in_one_line(text, tmp_path, capsys):
    path = tmp_path / "wrong.py"
    path.write_text(f"from keras_qkformer.training.study import Study\n{text}")
    assert main(["study", str(path), "--workdir", str(tmp_path / "w")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and WRONG[text] in told
    assert not (tmp_path / "w").exists()


def test_a_study_never_mixes_backends(tmp_path):
    path = write_study(tmp_path)
    study = load_study(path)
    recipes = recipes_of(study, path)
    other = "jax" if keras.backend.backend() == "torch" else "torch"
    # A variant of another backend is not trained here.
    elsewhere = replace(study, backends=dict.fromkeys(study.variants, other))
    assert [*run_study(elsewhere, recipes, tmp_path / "w")] == []
    assert not (tmp_path / "w").exists()
    # What was begun on another backend does not go on here.
    workdir = tmp_path / "w" / "fast" / "seed-1"
    write_recipe(workdir, recipes["fast", 1])
    begun = workdir / "recipe.json"
    here = f'"backend": "{keras.backend.backend()}"'
    begun.write_text(begun.read_text().replace(here, f'"backend": "{other}"'))
    with pytest.raises(ValueError, match=rf"backend.*Received.*fast/seed-1.* {other}"):
        next(run_study(study, recipes, tmp_path / "w"))
    assert [*run_study(elsewhere, recipes, tmp_path / "w")] == []

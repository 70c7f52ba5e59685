"""The files of a workdir: what is kept, and which recipe may go on in it."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from keras_qkformer.training.recipe import Data, Expected, Optimizer, Recipe
from keras_qkformer.training.workdir import (
    check_workdir,
    read_damaged,
    read_recipe,
    restore_metrics,
    write_recipe,
    write_results,
)

pytestmark = pytest.mark.backend_independent

RECIPE = Recipe(
    preset="qkformer_tiny",
    data=Data(
        name="digits", train="train", validation="test", test="test", batch_size=8
    ),
    optimizer=Optimizer(epochs=2, learning_rate=0.1),
    seed=3,
)


def test_only_examples_with_images_and_all_damage_are_kept(tmp_path):
    predictions = {
        "images": np.ones((2, 8, 8, 1), "uint8"),
        "labels": np.arange(5),
        "logits": np.arange(15.0).reshape(5, 3),
    }
    assert read_damaged(tmp_path) == {}
    write_results(tmp_path, {}, predictions, {"b.png": "too\tshort", "a.png": "empty"})
    with np.load(tmp_path / "examples.npz") as kept:
        assert {name: len(rows) for name, rows in kept.items()} == {
            "images": 2,
            "labels": 2,
            "logits": 2,
        }
        np.testing.assert_array_equal(kept["logits"], [[0, 1, 2], [3, 4, 5]])
    assert read_damaged(tmp_path) == {"a.png": "empty", "b.png": "too\tshort"}


def test_a_recipe_goes_on_with_other_expectations_and_nothing_else(tmp_path):
    write_recipe(tmp_path, RECIPE)
    assert read_recipe(tmp_path) == RECIPE
    measured = Expected(measured="97 %, on a laptop")
    check_workdir(dataclasses.replace(RECIPE, expected=measured), tmp_path)
    with pytest.raises(
        ValueError, match=r"with seed=3 there, 4 here\. To train its best model on"
    ):
        check_workdir(dataclasses.replace(RECIPE, seed=4), tmp_path)


def test_a_recipe_is_kept_without_git_and_whatever_the_command_was(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["keras-qkformer", "fit", "caf\udce9.py"])
    write_recipe(tmp_path, RECIPE)
    assert read_recipe(tmp_path) == RECIPE
    written = json.loads((tmp_path / "recipe.json").read_text())
    assert written["commit"] is None
    assert written["command"].endswith(r"caf\udce9.py'")


@pytest.mark.parametrize(
    "damage",
    [
        '{"epoch": 2, "lo',
        "\x00\x00\x00",
        "[]\nnull\n" + "[" * 20_000,
        '{"epoch": [2]}\n{"loss": 1.0}',
        '{"epoch": 3, "loss": 0.1, "seconds": 1}',
    ],
)
def test_lines_of_metrics_are_those_of_the_checkpoint(tmp_path, damage):
    path, first = tmp_path / "metrics.jsonl", {"epoch": 1, "loss": 2.5, "seconds": 9}
    path.write_text(f"{json.dumps(first)}\n{damage}")
    assert restore_metrics(tmp_path, {"loss": [2.5, 1.5]}) == 1
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [first, {"epoch": 2, "loss": 1.5}]
    assert restore_metrics(tmp_path, {"loss": [2.5, 1.5]}) == 0


def test_beginning_of_the_first_file_is_no_other_training(tmp_path):
    """A process killed at once leaves it."""
    (tmp_path / "partial-k3x_9b2a").mkdir()
    (tmp_path / "partial-k3x_9b2a" / "recipe.json").write_text("{")
    (tmp_path / "partial-hosts.json").write_text("0f")
    check_workdir(RECIPE, tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="which holds other files"):
        check_workdir(RECIPE, tmp_path)

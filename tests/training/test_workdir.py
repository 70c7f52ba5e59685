"""The files of a workdir: what is kept, and which recipe may go on in it."""

import dataclasses

import numpy as np
import pytest

from keras_qkformer.training.recipe import Data, Expected, Optimizer, Recipe
from keras_qkformer.training.workdir import (
    check_workdir,
    read_damaged,
    read_recipe,
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
    with pytest.raises(ValueError, match=r"with seed=3 there, 4 here$"):
        check_workdir(dataclasses.replace(RECIPE, seed=4), tmp_path)

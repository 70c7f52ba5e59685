"""The files of a workdir: their names, and how they are written and read."""

import json
from pathlib import Path

import numpy as np

from keras_qkformer.files import whole_file, write_json, write_text
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import EXAMPLES_FILE, RESULTS_FILE
from keras_qkformer.training.recipe import from_dict, to_dict

RECIPE_FILE = "recipe.json"
DAMAGED_FILE = "damaged_images.txt"
METRICS_FILE = "metrics.jsonl"
NOT_FINITE_FILE = "not_finite.npz"
LOGS_FOLDER = "logs"
CHECKPOINTS_FOLDER = "checkpoints"
STATE_FILE = "state.json"


def write_recipe(workdir, recipe):
    """Write the recipe of a workdir, which is made if needed."""
    write_json(workdir / RECIPE_FILE, {"recipe": to_dict(recipe), **provenance()})


def write_results(workdir, results, predictions, damaged):
    """Write what a training has come to.

    Args:
        workdir: path.
        results: dict, see `fit.fit`.
        predictions: dict of arrays, see `evaluate.predict_split`; the examples with
            images are kept, for whoever exports the model and wants the same answers.
        damaged: dict from the place of each damaged image to the reason.
    """
    count = len(predictions["images"])
    with whole_file(workdir / EXAMPLES_FILE) as place:
        np.savez_compressed(place, **{k: v[:count] for k, v in predictions.items()})
    if damaged:
        lines = [f"{name}\t{reason}\n" for name, reason in sorted(damaged.items())]
        write_text(workdir / DAMAGED_FILE, "".join(lines))
    write_json(workdir / RESULTS_FILE, results)


def write_scores(path, scores, split):
    """Write scores, the split they are of, and how they came about, as JSON.

    Args:
        path: str or path.
        scores: dict, see `scores.score`.
        split: str.

    Returns:
        The path.
    """
    path = Path(path)
    write_json(path, {"split": split, **scores, **provenance()})
    return path


def read_recipe(workdir):
    """The recipe of a workdir.

    Raises:
        ValueError: if it has none.
    """
    path = Path(workdir) / RECIPE_FILE
    try:
        return from_dict(json.loads(path.read_text())["recipe"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"A workdir must have the {RECIPE_FILE} of `fit`. "
            f"Received: {str(workdir)!r}"
        ) from error


def read_damaged(workdir):
    """Dict of the damaged images that `fit` has listed, from place to reason."""
    path = Path(workdir) / DAMAGED_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("\t", 1) for line in lines)


def check_workdir(recipe, workdir):
    """Raise `ValueError` if a folder holds something else than this recipe's run."""
    workdir = Path(workdir)
    if not workdir.exists():
        return
    if not workdir.is_dir():
        raise ValueError(f"A workdir must be a folder. Received: {str(workdir)!r}")
    if not (workdir / RECIPE_FILE).exists():
        if any(workdir.iterdir()):
            raise ValueError(
                "A workdir must be new, empty, or of the same recipe. "
                f"Received: {str(workdir)!r}, which holds other files"
            )
        return
    theirs, ours = flatten(to_dict(read_recipe(workdir))), flatten(to_dict(recipe))
    differing = [
        f"{key}={theirs.get(key)!r} there, {ours.get(key)!r} here"
        for key in sorted({*theirs, *ours})
        if theirs.get(key) != ours.get(key) and not key.startswith("expected.")
    ]
    if differing:
        raise ValueError(
            "A workdir must be new, empty, or of the same recipe. "
            f"Received: {str(workdir)!r} with {'; '.join(differing)}"
        )


def flatten(values, prefix=""):
    """Nested dictionaries as one, whose keys have dots."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat

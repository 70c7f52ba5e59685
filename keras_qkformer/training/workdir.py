"""The files of a workdir: their names, and how they are written and read."""

import contextlib
import json
from pathlib import Path

import numpy as np

from keras_qkformer.files import whole_file, write_json, write_text
from keras_qkformer.forms import MetricsLine, RecipeFile
from keras_qkformer.json_files import parse_json, read_json
from keras_qkformer.partial_folders import partial
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
LOCK_FILE = "fit.lock"


def write_recipe(workdir, recipe):
    """Write a recipe into a workdir, with command, versions and machine.

    Args:
        workdir: path of a folder, made if needed.
        recipe: a `Recipe`.
    """
    write_json(workdir / RECIPE_FILE, {"recipe": to_dict(recipe), **provenance()})


def write_results(workdir, results, predictions, damaged):
    """Write the results of a finished training.

    Args:
        workdir: path of a folder.
        results: dict, see `fit.fit`.
        predictions: dict of arrays, see `evaluate.predict_split`. Only the examples
            that have an entry in `images` are written; exported models are checked with
            them.
        damaged: dict from the place of each damaged image to the reason.
    """
    count = len(predictions["images"])
    with whole_file(workdir / EXAMPLES_FILE) as place:
        np.savez_compressed(place, **{k: v[:count] for k, v in predictions.items()})
    if damaged:
        lines = [f"{name}\t{reason}\n" for name, reason in sorted(damaged.items())]
        write_text(workdir / DAMAGED_FILE, "".join(lines))
    write_json(workdir / RESULTS_FILE, results)


def restore_metrics(workdir, history):
    """Make `metrics.jsonl` agree with the checkpoint, whatever interrupted training.

    A kill, a full disk or a loss of power may have lost or damaged lines. The
    checkpoint decides: half lines and those of later epochs are dropped, and a missing
    line is made again, without learning rate and speed.

    Args:
        workdir: path of a folder.
        history: dict from the name of a metric to its values in the finished epochs.

    Returns:
        Number of lines that had to be made again.
    """
    path, found = workdir / METRICS_FILE, {}
    text = path.read_text("utf-8", "replace") if path.exists() else ""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            record = parse_json(line, MetricsLine, path)
            found[record["epoch"]] = record
    lines, lost = "", 0
    for epoch, values in enumerate(zip(*history.values(), strict=True), 1):
        own = {"epoch": epoch, **dict(zip(history, values, strict=True))}
        lines += json.dumps({**found.get(epoch, {}), **own}) + "\n"
        lost += epoch not in found
    write_text(path, lines)
    return lost


def write_scores(path, scores, split):
    """Write scores as JSON, with their split, command, versions and machine.

    Args:
        path: str or path of the file.
        scores: dict, see `scores.score`.
        split: str such as `"test"`.

    Returns:
        `path` as a `pathlib.Path`.
    """
    path = Path(path)
    write_json(path, {"split": split, **scores, **provenance()})
    return path


def read_recipe(workdir):
    """Read the recipe of a workdir.

    Args:
        workdir: str or path of a folder.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: if the workdir has none, or it can't be read.
    """
    path = Path(workdir) / RECIPE_FILE
    try:
        return from_dict(read_json(path, RecipeFile)["recipe"])
    except (OSError, ValueError) as error:
        raise ValueError(
            f"A workdir must have the {RECIPE_FILE} of `fit`. "
            f"Received: {str(workdir)!r}: {error}"
        ) from error


def read_damaged(workdir):
    """Read the list of damaged images that `fit` has written.

    Args:
        workdir: str or path of a folder.

    Returns:
        Dict from the place of each damaged image to the reason; empty without a list.
    """
    path = Path(workdir) / DAMAGED_FILE
    text = path.read_text("utf-8", "replace") if path.exists() else ""
    parts = (line.partition("\t") for line in text.splitlines())
    return {name: reason for name, _, reason in parts}


def check_workdir(recipe, workdir):
    """Raise `ValueError` if a folder holds anything but a training of this recipe.

    Args:
        recipe: a `Recipe`. Its `expected` may differ.
        workdir: str or path. There may be no such folder yet.
    """
    workdir = Path(workdir)
    if not workdir.exists():
        return
    if not workdir.is_dir():
        raise ValueError(f"A workdir must be a folder. Received: {str(workdir)!r}")
    if not (workdir / RECIPE_FILE).exists():
        # A process killed in its first second leaves the beginning of its first file.
        if {*workdir.iterdir()} - {*partial(workdir), workdir / LOCK_FILE}:
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
            f"Received: {str(workdir)!r} with {'; '.join(differing)}. To train its "
            "best model on, start from it in another workdir: "
            f"--set preset={workdir}/best"
        )


def flatten(values, prefix=""):
    """Flatten nested dicts into one whose keys are joined by dots.

    Args:
        values: dict from str to values or to dicts like it.
        prefix: str in front of every key.

    Returns:
        Dict.

    Example:
    >>> flatten({"seed": 0, "optimizer": {"epochs": 9}})
    {'seed': 0, 'optimizer.epochs': 9}
    """
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat

"""Runs a study: trains and evaluates what is missing, whatever interrupted it."""

import dataclasses
import gc
import sys
import time
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.files import write_json
from keras_qkformer.forms import RecipeFile, StudyScores
from keras_qkformer.json_files import LARGE_LIMIT, read_json
from keras_qkformer.models.loading import input_shape_of
from keras_qkformer.partial_folders import remove_partial
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import RESULTS_FILE, load_trained, read_results
from keras_qkformer.training.evaluate import predictions_of
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import override
from keras_qkformer.training.scores import score
from keras_qkformer.training.setup import examples_for, precision_of
from keras_qkformer.training.workdir import RECIPE_FILE, check_workdir

SCORES_FILE = "study.json"
"""File of a workdir with the scores of the evaluations of a study."""


def workdir_of(folder, variant, seed):
    """Return the path of the workdir of a training in the folder of a study.

    Args:
        folder: str or path.
        variant: str. Name of the variant.
        seed: int.
    """
    return Path(folder) / variant / f"seed-{seed}"


def run_study(study, recipes, folder, minutes=None, verbose="auto"):
    """Train and evaluate what is not finished yet, and tell the scores of all.

    A finished training is never repeated, and one that was interrupted goes on after
    its last whole epoch, so a study may be killed at any moment and called again.

    Args:
        study: a `Study`.
        recipes: dict, see `recipes_of`.
        folder: str or path for the workdirs, `FOLDER/VARIANT/seed-N`.
        minutes: float > 0 or `None`. No training starts later than this.
        verbose: see `fit`.

    Yields:
        Dict for each finished training: `variant`, `seed`, `parameters`, `scores` (a
        dict from `"test"` and the names of the evaluations to `accuracy`, `loss`,
        `correct` and `examples`), `best_epoch`, and its provenance: `command`,
        `versions`, `machine`, `commit`.

    Raises:
        ValueError: if a workdir holds the training of another recipe or of another
            backend, or `fit` raises it.
    """
    here = keras.backend.backend()
    for (variant, seed), recipe in recipes.items():
        workdir = workdir_of(folder, variant, seed)
        check_workdir(recipe, workdir)
        _check_backend(workdir, study.backends.get(variant, here))
    start = time.monotonic()
    for (variant, seed), recipe in recipes.items():
        workdir = workdir_of(folder, variant, seed)
        elsewhere = study.backends.get(variant, here) != here
        if not (workdir / RESULTS_FILE).is_file():
            if elsewhere:
                continue
            if minutes is not None and time.monotonic() - start > 60 * minutes:
                continue
            print(f"{variant}, seed {seed}", file=sys.stderr, flush=True)
            fit(recipe, workdir, verbose=verbose)
            _forget()
        results = read_results(workdir)
        scores = _kept(study, workdir)
        if scores.keys() != study.evaluations.keys():
            if elsewhere:
                continue
            scores = _evaluated(study, recipe, workdir, scores)
        yield {
            "variant": variant,
            "seed": seed,
            "parameters": results["parameters"],
            "best_epoch": results["best"]["epoch"],
            "scores": {
                "test": _short(results["test"]),
                **{name: scores[name]["scores"] for name in study.evaluations},
            },
            **{key: results[key] for key in provenance()},
        }


def _check_backend(workdir, backend):
    """Raise `ValueError` if a training was begun on another backend."""
    path = workdir / RECIPE_FILE
    if not path.is_file():
        return
    versions = read_json(path, RecipeFile).get("versions", {})
    begun = versions.get("backend", backend)
    if begun != backend:
        raise ValueError(
            "A training of a study must go on with the backend that it began with, so "
            f"that what is compared differs in nothing else. Received: {backend}, and "
            f"{str(workdir)!r} of {begun}"
        )


def _kept(study, workdir):
    """The evaluations that a workdir has, as the study asks for them."""
    path = workdir / SCORES_FILE
    if not path.is_file():
        return {}
    found = read_json(path, StudyScores, LARGE_LIMIT)["scores"]
    return {
        name: found[name]
        for name, one in study.evaluations.items()
        if name in found and found[name]["evaluation"] == dataclasses.asdict(one)
    }


def _evaluated(study, recipe, workdir, kept):
    """Make the evaluations that are missing; return those and the kept ones."""
    remove_partial(workdir)  # Of a process that was killed after its training.
    missing = {n: one for n, one in study.evaluations.items() if n not in kept}
    for state in sorted({one.membrane_state for one in missing.values()}, key=str):
        own = {} if state is None else {"membrane_state": state}
        with precision_of(recipe):  # As in the training, whichever process it is.
            trained = load_trained(workdir, **own)
        for name, one in missing.items():
            if one.membrane_state == state:
                scores = _short(_evaluate(trained, recipe, one))
                asked = dataclasses.asdict(one)
                kept = {**kept, name: {"scores": scores, "evaluation": asked}}
        write_json(workdir / SCORES_FILE, {"scores": kept})
        _forget()
    return kept


def _evaluate(trained, recipe, evaluation):
    """Score a model on the test split of a recipe, as an `Evaluation` asks."""
    if evaluation.batch_size is not None:
        recipe = override(recipe, [f"data.batch_size={evaluation.batch_size}"])
    examples = examples_for(recipe, input_shape_of(trained.folder))
    examples.preprocessing = trained.preprocessing

    def arrange(labels):
        if evaluation.order == "by_class":
            return np.argsort(labels, kind="stable")
        if evaluation.order == "shuffled":
            return np.random.default_rng(recipe.seed).permutation(len(labels))
        return np.arange(len(labels))

    found = predictions_of(trained, examples, recipe.data.test, arrange=arrange)
    return score(found["labels"], found["logits"], examples.class_names)


def _short(scores):
    """What a study keeps of `scores.score`."""
    count = scores["examples"]
    return {
        "accuracy": scores["accuracy"],
        "correct": round(scores["accuracy"] * count),
        "examples": count,
        "loss": scores["loss"],
    }


def _forget():
    """Drop compiled functions and weights of the last model."""
    keras.backend.clear_session()
    gc.collect()

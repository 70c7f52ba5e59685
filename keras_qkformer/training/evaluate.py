"""Scores and logits of a trained model on a split."""

import os
from collections.abc import Callable
from typing import Any

from keras_qkformer.models.loading import input_shape_of
from keras_qkformer.trained import find_trained, load_trained
from keras_qkformer.training.distribution import data_devices
from keras_qkformer.training.hosts import ALONE
from keras_qkformer.training.recipe import Recipe
from keras_qkformer.training.scores import score
from keras_qkformer.training.setup import examples_for
from keras_qkformer.training.workdir import read_recipe

EXAMPLES = 64
"""Number of inputs that are kept together with their logits."""


def evaluate(
    workdir: str | os.PathLike,
    split: str | None = None,
    recipe: Recipe | None = None,
    membrane_state: str | None = None,
    report_damaged: Callable[[dict], None] | None = None,
) -> dict[str, Any]:
    """Scores of the best epoch of a workdir, or of a preset folder.

    Args:
        workdir: str or path of the workdir of a training, finished or not; or of a
            preset folder, which needs a `recipe`.
        split: str such as `"test"`, or `None` for the test split of the recipe.
        recipe: the `Recipe` that names the data, or `None` for that of the workdir.
        membrane_state: `"sample"`, `"batch"` to check published numbers (see
            `SpikingSelfAttention`), or `None` for that of the model.
        report_damaged: function that is called if images could not be decoded, with a
            dict from the place of each to the reason.

    Returns:
        Dict, see `scores.score`. Every example counts, those of an incomplete last
        batch too.

    Raises:
        ValueError: if `workdir` is neither of these folders, the split does not exist,
            or the classes of the data are not those of the model.
    """
    predictions, names = _predict_split(
        workdir, split, recipe, membrane_state, report_damaged
    )
    return score(predictions["labels"], predictions["logits"], names)


def predict_split(workdir, split=None, recipe=None, membrane_state=None):
    """Logits of the best epoch of a workdir for every example of a split.

    Args:
        workdir: see `evaluate`.
        split: see `evaluate`.
        recipe: see `evaluate`.
        membrane_state: see `evaluate`.

    Returns:
        Dict of arrays: `labels` `(examples,)` and `logits` `(examples, classes)`, for
        every example that could be decoded; and `images`, the first `EXAMPLES` inputs
        before normalization, see `Examples.pictures`.
    """
    return _predict_split(workdir, split, recipe, membrane_state)[0]


def _predict_split(workdir, split, recipe, membrane_state, report_damaged=None):
    recipe = read_recipe(workdir) if recipe is None else recipe
    split = recipe.data.test if split is None else split
    state = {} if membrane_state is None else {"membrane_state": membrane_state}
    examples = examples_for(recipe, input_shape_of(find_trained(workdir)))
    examples.load(split, on_demand=True)  # A wrong split costs no loading of weights.
    trained = load_trained(workdir, **state)
    examples.preprocessing = trained.preprocessing
    predictions = predictions_of(trained, examples, split)
    if examples.damaged and report_damaged is not None:
        report_damaged(examples.damaged)
    return predictions, examples.class_names


def predictions_of(trained, examples, split, hosts=ALONE, arrange=None):
    """Logits of a model for a split, with the labels and the first inputs.

    Args:
        trained: a `TrainedModel`.
        examples: the `Examples` of its data.
        split: str such as `"test"`.
        hosts: `Hosts`. Each predicts a part of the split and gets the logits of all.
        arrange: function from the labels to the order of the examples, an int array, or
            `None` for that of the split. It matters to models with
            `membrane_state="batch"` alone.

    Returns:
        Dict, see `predict_split`; `images` are those of this host's part.

    Raises:
        ValueError: if the classes of the data are not those of the model.
    """
    check_classes(trained, examples)
    inputs, labels = examples.held_out(split, hosts.shard)
    if arrange is not None:
        order = arrange(labels)
        inputs, labels = inputs[order], labels[order]
    dataset = examples.evaluation(inputs, labels, multiple_of=data_devices())
    with examples.plain_errors():
        logits = trained.model.predict(dataset, verbose=0)
    return {
        "images": examples.pictures(inputs[:EXAMPLES]),
        "labels": hosts.gather_rows(labels),
        "logits": hosts.gather_rows(logits[: len(labels)].astype("float64")),
    }


def check_classes(trained, examples):
    """Raise `ValueError` unless the classes of the data are those of the model.

    Args:
        trained: a `TrainedModel`.
        examples: the `Examples` of its data.
    """
    theirs, ours = list(examples.class_names), list(trained.class_names)
    # Converted weights may have numbers instead of names.
    numbers = [str(i) for i in range(len(theirs))]
    if ours not in (theirs, numbers):
        raise ValueError(
            f"The classes of the data must be those of the model, {_short(ours)}. "
            f"Received: {_short(theirs)} from {examples.settings.name!r}"
        )


def _short(names):
    more = f", ... ({len(names)} in all)" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"

"""Scores and logits of a trained model on a split."""

from keras_qkformer.trained import load_trained
from keras_qkformer.training.distribution import data_devices
from keras_qkformer.training.hosts import ALONE
from keras_qkformer.training.scores import score
from keras_qkformer.training.setup import examples_for
from keras_qkformer.training.workdir import read_recipe

EXAMPLES = 64
"""How many inputs are kept with what the model says to them."""


def evaluate(
    workdir, split=None, recipe=None, membrane_state=None, report_damaged=None
):
    """Scores of the best epoch of a workdir, or of a preset folder.

    Args:
        workdir: str or path of a folder that `fit` has made, perhaps not to the end, or
            of a preset folder together with a recipe.
        split: str such as `"test"`, or `None` for the test split of the recipe.
        recipe: a `Recipe` whose data to use, or `None` for that of the workdir.
        membrane_state: `"sample"`, `"batch"` to check published numbers (see
            `SpikingSelfAttention`), or `None` for that of the model.
        report_damaged: function that is called with a dict, from the place of each
            image that could not be decoded to the reason, if there are any.

    Returns:
        Dict, see `scores.score`. Every example counts, also of a last batch that is
        not full.

    Raises:
        ValueError: if it is no such folder, the split does not exist, or the data has
            other classes than the model.
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
        Dict of arrays: `labels` and `logits` with one row per example that could be
        decoded, and `images` (or frames) of the first `EXAMPLES`, as the source has
        them, or if they differ in size, at that of the model.
    """
    return _predict_split(workdir, split, recipe, membrane_state)[0]


def _predict_split(workdir, split, recipe, membrane_state, report_damaged=None):
    recipe = read_recipe(workdir) if recipe is None else recipe
    split = recipe.data.test if split is None else split
    state = {} if membrane_state is None else {"membrane_state": membrane_state}
    trained = load_trained(workdir, **state)
    examples = examples_for(recipe, trained.model, trained.preprocessing)
    predictions = predictions_of(trained, examples, split)
    if examples.damaged and report_damaged is not None:
        report_damaged(examples.damaged)
    return predictions, examples.class_names


def predictions_of(trained, examples, split, hosts=ALONE):
    """Logits of a `TrainedModel` for a split, its labels and first inputs."""
    theirs, ours = list(examples.class_names), list(trained.class_names)
    # The names in weights from elsewhere are but numbers.
    numbers = [str(i) for i in range(len(theirs))]
    if ours not in (theirs, numbers):
        raise ValueError(
            f"The classes of the data must be those of the model, {_short(ours)}. "
            f"Received: {_short(theirs)} from {examples.settings.name!r}"
        )
    inputs, labels = examples.held_out(split, hosts.shard)
    dataset = examples.evaluation(inputs, labels, multiple_of=data_devices())
    with examples.plain_errors():
        logits = trained.model.predict(dataset, verbose=0)
    return {
        "images": examples.pictures(inputs[:EXAMPLES]),
        "labels": hosts.gather_rows(labels),
        "logits": hosts.gather_rows(logits[: len(labels)].astype("float64")),
    }


def _short(names):
    more = f", ... ({len(names)} in all)" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"

"""Trained weights to keep: in half precision, tested, with their provenance."""

import shutil
from pathlib import Path

from keras_qkformer.files import beside, write_json
from keras_qkformer.forms import PresetMetadata
from keras_qkformer.json_files import read_json
from keras_qkformer.manifest import write_manifest
from keras_qkformer.presets.card import is_edited, write_card
from keras_qkformer.presets.folders import (
    CONFIG_FILE,
    METADATA_FILE,
    NEW_FOLDER,
    WEIGHTS_FILE,
    check_preset,
    replace_preset,
)
from keras_qkformer.trained import BEST_FOLDER, RESULTS_FILE, read_results
from keras_qkformer.training.evaluate import evaluate
from keras_qkformer.training.workdir import read_recipe

_NOT_KEPT = ("per_class", "confusion")


def keep_weights(workdir, folder):
    """Write the best weights of a finished training as a preset folder in float16.

    The metadata of the folder holds the scores of the rounded weights on the test
    split, and the recipe, the command and the machine that trained them.

    Args:
        workdir: str or path of the workdir of a finished training.
        folder: str or path of the preset folder. A preset in it is replaced when the
            new one is complete; other files, and a card edited by hand, stay.

    Returns:
        Dict of the scores of the rounded weights, see `scores.score`, and their
        `split`.

    Raises:
        ValueError: if the training is not finished, a file of its best epoch is
            damaged, or a weight does not fit into 16 bits.
    """
    workdir, folder = Path(workdir), Path(folder)
    recipe = read_recipe(workdir)
    if not (workdir / RESULTS_FILE).is_file():
        raise ValueError(
            "Weights to keep must come from a finished training. "
            f"Received: {str(workdir)!r} without {RESULTS_FILE}"
        )
    results = read_results(workdir)
    best = workdir / BEST_FOLDER
    check_preset(best)
    trained = ("command", "versions", "machine", "commit")
    with beside(folder / NEW_FOLDER) as new:
        new.mkdir()
        shutil.copyfile(best / CONFIG_FILE, new / CONFIG_FILE)
        _halve(best / WEIGHTS_FILE, new / WEIGHTS_FILE)
        metadata = {
            **read_json(best / METADATA_FILE, PresetMetadata),
            "preset": recipe.preset,
            "precision": "float16",
            "trained": {key: results[key] for key in trained},
            "manifest": True,
        }
        metadata.pop("sha256", None)  # Of the folder of an older version.
        write_json(new / METADATA_FILE, metadata)
        write_manifest(new)
        scores = {"split": recipe.data.test, **evaluate(new, recipe=recipe)}
        kept = {key: value for key, value in scores.items() if key not in _NOT_KEPT}
        write_json(new / METADATA_FILE, {**metadata, "test": kept})
        if not is_edited(folder):
            write_card(new)
        replace_preset(new, folder)
    return scores


def _halve(source, target):
    """Copy a weights file, rounded to float16 and compressed."""
    import h5py
    import numpy as np

    def copy(name, item):
        if isinstance(item, h5py.Group):
            into = out.require_group(name)
        else:
            values = item[()]
            rounded = values.astype("float16")
            if not np.array_equal(np.isfinite(rounded), np.isfinite(values)):
                raise ValueError(
                    "Weights to keep must fit into 16 bits, below 65520. "
                    f"Received: {np.abs(values).max()} in {name!r}"
                )
            packing = {"compression": "gzip"} if rounded.ndim else {}
            into = out.create_dataset(name, data=rounded, **packing)
        into.attrs.update(item.attrs)

    with h5py.File(source) as file, h5py.File(target, "w") as out:
        out.attrs.update(file.attrs)
        file.visititems(copy)

"""Examples to look at a trained model with: a split of its data, or files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_qkformer.data.examples import Examples
from keras_qkformer.data.images.folder import EXTENSIONS as IMAGES
from keras_qkformer.data.settings import Data
from keras_qkformer.events.recording import EXTENSIONS as RECORDINGS
from keras_qkformer.training.evaluate import check_classes
from keras_qkformer.training.recipe import from_dict, load_recipe, to_dict
from keras_qkformer.training.workdir import RECIPE_FILE, flatten, read_recipe

BATCH_SIZE = 32
"""Files without a recipe that pass the model together."""


@dataclasses.dataclass(frozen=True)
class ModelData:
    """Examples for a model, in order.

    Attributes:
        source: str. Name of the data.
        split: str, or empty for files without labels.
        labels: int array `(examples,)`, or `None` if they are not known.
        batches: function without arguments that returns an iterator of batches of the
            model's inputs, normalized, as arrays.
        damaged: dict from the place of each image that could not be decoded to the
            reason; of batches that have been read.
        settings: flat dict of the recipe that trained the model, empty without one.
    """

    source: str
    split: str
    labels: np.ndarray | None
    batches: Callable
    damaged: dict
    settings: dict


def model_data(trained, workdir, source=None, split=None, overrides=()):
    """Find the examples of a model.

    Args:
        trained: `TrainedModel`.
        workdir: str or path that it was loaded from.
        source: str or path: a recipe file, optionally with `:VARIANT`; a folder or zip
            of images, or a folder of recordings, in a layout of the sources `"folder"`
            or `"recordings"`; or a folder with nothing but image files or recordings,
            which then have no labels. `None` for the data that the model was trained
            on.
        split: str such as `"test[:100]"`, or `None` for the recipe's test split, or
            `"test"`.
        overrides: list of `FIELD=VALUE`, for a recipe file.

    Returns:
        `ModelData`.

    Raises:
        ValueError: if the data are not known, don't exist or don't suit the model.
    """
    own = _own_recipe(trained, Path(workdir))
    settings = {} if own is None else flatten(to_dict(own))
    if source is None:
        if own is None:
            raise ValueError(
                "--data must name the examples for a model that has no recipe of its "
                "own: a recipe file, or a folder of images or recordings. "
                f"Received: {str(workdir)!r} alone"
            )
        name, data = own.data.name, own.data
    elif Path(source).exists() and Path(source).suffix != ".py":
        name, files = Path(source).name, _files(trained, Path(source))
        if files:
            return _without_labels(trained, files, name, split, settings)
        data = _data_in(trained, own, str(source))
    else:
        data = load_recipe(source, overrides).data
        name = data.name
    split = split or data.test
    shape = trained.model.input_shape[1:]
    examples = Examples(data, shape, preprocessing=trained.preprocessing)
    check_classes(trained, examples)
    inputs, labels = examples.held_out(split)

    def batches():
        with examples.plain_errors():
            for batch, _ in examples.evaluation(inputs, labels):
                yield batch.numpy()

    return ModelData(name, split, labels, batches, examples.damaged, settings)


def _own_recipe(trained, workdir):
    """The recipe that trained a model, or `None`."""
    if (workdir / RECIPE_FILE).is_file():
        return read_recipe(workdir)
    values = trained.metadata.get("recipe")
    return None if values is None else from_dict(values)


def _data_in(trained, own, folder):
    """The settings of examples in a folder or zip.

    Recordings become frames as in the model's own recipe.
    """
    is_static = trained.model.backbone.static
    kind = "folder" if is_static else "recordings"
    if own is not None and own.data.name == kind:
        return dataclasses.replace(own.data, data_dir=folder, test="test")
    options = {} if is_static else trained.frame_options
    splits = {"train": "train", "validation": "test", "test": "test"}
    return Data(name=kind, data_dir=folder, batch_size=BATCH_SIZE, **splits, **options)


def _files(trained, folder):
    """The image files or recordings right in a folder without folders, sorted."""
    if not folder.is_dir() or any(path.is_dir() for path in folder.iterdir()):
        return []
    endings = IMAGES if trained.model.backbone.static else RECORDINGS
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in endings
    )


def _without_labels(trained, files, name, split, settings):
    if split is not None:
        raise ValueError(
            "--split must come with data in splits; a folder of nothing but files has "
            f"none. Received: --split {split} with {len(files)} files in {name!r}"
        )

    def batches():
        for start in range(0, len(files), BATCH_SIZE):
            inputs = map(trained.read, files[start : start + BATCH_SIZE])
            yield np.stack([trained.prepared(x) for x in inputs])

    return ModelData(name, "", None, batches, {}, settings)

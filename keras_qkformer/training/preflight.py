"""What a training needs until its end, checked before its first step."""

import math
import shutil

import numpy as np

from keras_qkformer.data.images.encoded_images import EncodedImages
from keras_qkformer.data.source import OnDemand
from keras_qkformer.files import check_writable
from keras_qkformer.trained import BEST_FOLDER
from keras_qkformer.training.workdir import CHECKPOINTS_FOLDER, LOGS_FOLDER

CHECKPOINTS = 3
"""The one being written, the last one and, where it is kept, that before the last."""
LOGS_BYTES = 20_000_000
"""Room for everything but weights: TensorBoard's logs, examples, results."""


def check_needs(recipe, model, examples, workdir=None):
    """Raise an error if a training would fail for want of something after hours.

    The validation split is not checked here: its examples are all loaded before the
    first step.

    Args:
        recipe: a `Recipe`.
        model: its compiled `SpikingClassifier`, whose optimizer is built.
        examples: the `Examples` of its data.
        workdir: path of the workdir, or `None` on a host that doesn't write.

    Returns:
        int. Number of test examples.

    Raises:
        ValueError: if a split does not exist or is empty, its labels are out of range,
            or no example of it can be read; or if `accumulation_steps` exceeds the
            batches of the whole training.
        OSError: if a folder of the workdir can't be written, or its disk is too full.
    """
    if recipe.max_steps is None:  # Not of a quick check.
        _check_steps(recipe.optimizer, examples.steps)
    _check_readable(*examples.train)
    inputs, labels = examples.load(recipe.data.test, on_demand=True)
    _check_readable(inputs, labels)
    if workdir is not None:
        for name in (CHECKPOINTS_FOLDER, BEST_FOLDER, LOGS_FOLDER):
            check_writable(workdir / name)
        _check_room(model, workdir)
    return len(labels)


def _check_steps(settings, batches_per_epoch):
    """Raise `ValueError` unless a training makes a step of its optimizer."""
    batches = (settings.epochs + settings.cooldown_epochs) * batches_per_epoch
    if settings.accumulation_steps > max(batches, 1):
        raise ValueError(
            "optimizer.accumulation_steps must not exceed the batches of the whole "
            "training, which would change no weight. "
            f"Received: {settings.accumulation_steps:,} with {batches:,} batches"
        )


def _check_readable(inputs, labels):
    """Read the first example, or the first whole image."""
    if isinstance(inputs, EncodedImages):
        inputs.decode_next(0)
    elif isinstance(inputs, OnDemand):
        inputs[0]


def _check_room(model, workdir):
    weights = _size(model.weights)
    # While a file is written, those before it are still there.
    checkpoint = weights + _size(model.optimizer.variables)
    needed = CHECKPOINTS * checkpoint + 2 * weights + LOGS_BYTES
    there = sum(
        path.stat().st_size
        for name in (CHECKPOINTS_FOLDER, BEST_FOLDER)
        for path in (workdir / name).rglob("*")
    )
    free = shutil.disk_usage(workdir).free
    if free < needed - there:
        raise OSError(
            f"The disk of a workdir must have room for {CHECKPOINTS} checkpoints of "
            "this model and two copies of its weights, "
            f"{(needed - there) / 1e6:,.0f} MB more. "
            f"Received: {free / 1e6:,.0f} MB free at {str(workdir)!r}"
        )


def _size(variables):
    """Bytes of variables in a file."""
    return sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables)

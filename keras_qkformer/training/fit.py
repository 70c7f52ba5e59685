"""The one place that trains and evaluates: a recipe and a workdir."""

import dataclasses
import functools
import json
import platform
import subprocess
import time
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.data import event_augment, pipelines
from keras_qkformer.models import QKFormerClassifier, count_parameters
from keras_qkformer.training.callbacks import (
    BEST_FOLDER,
    Checkpoint,
    StopBetweenSteps,
    write_json,
)
from keras_qkformer.training.distribution import (
    check_model,
    choose_devices,
    data_devices,
    prepare_backend,
)
from keras_qkformer.training.optimizer import make_optimizer
from keras_qkformer.training.recipe import from_dict, to_dict

RECIPE_FILE = "recipe.json"
RESULTS_FILE = "results.json"
EXAMPLES_FILE = "examples.npz"
EXAMPLES = 64
"""How many inputs are kept with what the model says to them."""


def fit(recipe, workdir, verbose="auto", devices="auto", mesh=None):
    """Train a recipe, or go on where an interrupted training of it stopped.

    Args:
        recipe: a `Recipe`.
        workdir: str or path of a folder, made if needed. It will hold `recipe.json`,
            `checkpoints/`, TensorBoard logs in `logs/`, the preset folder `best/`,
            `results.json`, and the first test examples with their logits in
            `examples.npz`.
        verbose: as in `keras.Model.fit`.
        devices: how many devices share the batches, see `choose_devices`. What comes
            out does not depend on it, but for rounding.
        mesh: str or `None`, see `choose_devices`.

    Returns:
        The results, as in `results.json`: accuracy and loss on the test split of the
        epoch with the best validation accuracy, and how they came about.

    Raises:
        ValueError: if the workdir belongs to another recipe, or a value of the recipe
            does not fit.
        KeyboardInterrupt: after Ctrl-C, between two steps.
    """
    prepare_backend()
    chosen = choose_devices(devices, mesh, recipe.data.batch_size)
    with chosen.scope():
        return _fit(recipe, workdir, verbose, chosen)


def _fit(recipe, workdir, verbose, devices):
    workdir = Path(workdir)
    check_workdir(recipe, workdir)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    data = recipe.data
    epochs = recipe.optimizer.epochs + recipe.optimizer.cooldown_epochs
    model = QKFormerClassifier.from_preset(recipe.preset, **recipe.model)
    check_model(devices, model)
    source = pipelines.get_source(data.name, **_source_options(recipe, model))
    if model.num_classes != len(source.class_names):
        raise ValueError(
            f"The model must have the {len(source.class_names)} classes of "
            f"{data.name!r}. Received: num_classes={model.num_classes}"
        )
    inputs, labels = _load(recipe, model, data.train)
    preprocessing = {
        "image_size": list(model.backbone.image_size),
        "mean": list(source.mean),
        "std": list(source.std),
        "max_value": source.max_value,
    }
    transform = functools.partial(pipelines.preprocess, **preprocessing)
    steps = min(len(labels) // data.batch_size, recipe.max_steps or len(labels))
    optimizer = make_optimizer(recipe.optimizer, model, max(steps, 1))
    model.compile(
        optimizer=optimizer,
        loss=_loss(recipe.label_smoothing, model.num_classes),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(_accuracy, name="accuracy")],
    )
    checkpoint = Checkpoint(
        workdir,
        metadata={
            "recipe": to_dict(recipe),
            "class_names": list(source.class_names),
            "preprocessing": preprocessing,
            "orientation": source.orientation,
        },
    )
    checkpoint.restore(model)
    first_epoch = checkpoint.epoch
    training = pipelines.training_dataset(
        inputs,
        labels,
        transform=transform,
        batch_size=data.batch_size,
        seed=recipe.seed,
        first_epoch=first_epoch,
        epochs=epochs,
        steps=steps,
        augment=_augmentation(recipe, model),
    )
    validation = _evaluation(recipe, model, data.validation, transform)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / RECIPE_FILE, {"recipe": to_dict(recipe), **_versions()})
    start = time.monotonic()
    if verbose and devices.count > 1:
        print(
            f"{devices.count} devices: batches of {data.batch_size}, "
            f"{data.batch_size // devices.data} on each of {devices.data}, {steps} "
            "per epoch"
        )
    if first_epoch < epochs:
        with StopBetweenSteps() as stop:
            model.fit(
                training,
                initial_epoch=first_epoch,
                epochs=epochs,
                steps_per_epoch=steps,
                validation_data=validation,
                shuffle=False,  # The pipeline does; Keras would warn that it can't.
                verbose=verbose,
                callbacks=[
                    keras.callbacks.TensorBoard(workdir / "logs", write_graph=False),
                    checkpoint,
                    stop,
                ],
            )
    predictions = predict_split(workdir, data.test)
    # For whoever exports the model and wants to see the same answers.
    np.savez_compressed(
        workdir / EXAMPLES_FILE, **{k: v[:EXAMPLES] for k, v in predictions.items()}
    )
    results = {
        "test": _score(predictions["labels"], predictions["logits"]),
        "test_split": data.test,
        "best": checkpoint.best,
        "history": checkpoint.history,
        "parameters": count_parameters(model),
        "seconds_of_last_run": round(time.monotonic() - start, 1),
        **_versions(),
    }
    write_json(workdir / RESULTS_FILE, results)
    return results


def evaluate(workdir, split=None, recipe=None, membrane_state=None):
    """Accuracy and loss of the best epoch of a workdir, or of a preset folder.

    Args:
        workdir: str or path of a folder that `fit` has made, perhaps not to the end, or
            of a preset folder together with a recipe.
        split: str such as `"test"`, or `None` for the test split of the recipe.
        recipe: a `Recipe` whose data to use, or `None` for that of the workdir.
        membrane_state: `"sample"`, `"batch"` to check published numbers (see
            `SpikingSelfAttention`), or `None` for that of the model.

    Returns:
        Dict with `accuracy`, `loss` and `examples`.

    Raises:
        ValueError: if it is no such folder, or the split does not exist.
    """
    predictions = predict_split(workdir, split, recipe, membrane_state)
    return _score(predictions["labels"], predictions["logits"])


def log_softmax(logits):
    """Logarithms of the class probabilities, over the last axis."""
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _score(labels, logits):
    log_probabilities = log_softmax(logits)
    return {
        "accuracy": float(np.mean(logits.argmax(-1) == labels)),
        "loss": float(-np.mean(log_probabilities[np.arange(len(labels)), labels])),
        "examples": len(labels),
    }


def predict_split(workdir, split=None, recipe=None, membrane_state=None):
    """Logits of the best epoch of a workdir for every example of a split.

    Args:
        workdir: see `evaluate`.
        split: see `evaluate`.
        recipe: see `evaluate`.
        membrane_state: see `evaluate`.

    Returns:
        Dict of arrays: `labels` and `logits` with one row per example, and `images` (or
        frames) of the first `EXAMPLES`, as the source has them.
    """
    prepare_backend()
    recipe = read_recipe(workdir) if recipe is None else recipe
    split = recipe.data.test if split is None else split
    state = {} if membrane_state is None else {"membrane_state": membrane_state}
    model, metadata = load_best(workdir, **state)
    transform = functools.partial(pipelines.preprocess, **metadata["preprocessing"])
    inputs, labels = _limited(recipe, model, split)
    logits = model.predict(
        pipelines.evaluation_dataset(
            inputs,
            labels,
            transform=transform,
            batch_size=recipe.data.batch_size,
            multiple_of=data_devices(),
        ),
        verbose=0,
    )
    return {
        "images": np.asarray(inputs[:EXAMPLES]),
        "labels": labels,
        "logits": logits[: len(labels)].astype("float64"),
    }


def predict_images(folder, paths):
    """Class probabilities for image files.

    Args:
        folder: str or path of a workdir or of a preset folder.
        paths: image files, see `keras_qkformer.data.pipelines.read_image`.

    Returns:
        `(class_names, probabilities)`, the second an array `(files, classes)`.

    Raises:
        ValueError: if there is no trained model, it wants event frames, or a file is
            not an image.
    """
    prepare_backend()
    model, metadata = load_best(folder)
    backbone = model.backbone
    if not backbone.static or backbone.in_channels not in (1, 3):
        raise ValueError(
            "Image files need a model of images with 1 or 3 channels. Received: "
            f"{str(folder)!r} with static={backbone.static}, "
            f"in_channels={backbone.in_channels}"
        )
    images = [
        pipelines.preprocess(
            pipelines.read_image(path, backbone.in_channels),
            **metadata["preprocessing"],
        ).numpy()
        for path in paths
    ]
    logits = model.predict(np.stack(images), verbose=0).astype("float64")
    return metadata["class_names"], np.exp(log_softmax(logits))


def load_best(folder, **overrides):
    """The model of a workdir's best epoch, or of a preset folder, and its metadata.

    Args:
        folder: str or path.
        **overrides: see `QKFormerClassifier.from_preset`.

    Returns:
        `(QKFormerClassifier, dict)`. The dict has `class_names` and `preprocessing`.

    Raises:
        ValueError: if there is no trained model.
    """
    folder = Path(folder)
    if (folder / BEST_FOLDER).is_dir():
        folder = folder / BEST_FOLDER
    try:
        metadata = json.loads((folder / "metadata.json").read_text())
        metadata["class_names"], metadata["preprocessing"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            "A trained model must be a workdir of `fit` with at least one finished "
            f"epoch, or its folder {BEST_FOLDER!r}. Received: {str(folder)!r}"
        ) from error
    return QKFormerClassifier.from_preset(folder, **overrides), metadata


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
    theirs, ours = _flatten(to_dict(read_recipe(workdir))), _flatten(to_dict(recipe))
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


def _flatten(values, prefix=""):
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _source_options(recipe, model):
    """What the source must know of a recipe and its model."""
    data, backbone = recipe.data, model.backbone
    options = {
        "data_dir": data.data_dir,
        "sensor_size": data.sensor_size,
        "frames_by": data.frames_by,
        "window_us": data.window_us,
    }
    return {**options, "time_steps": None if backbone.static else backbone.time_steps}


def _load(recipe, model, split):
    options = _source_options(recipe, model)
    inputs, labels = pipelines.load_examples(recipe.data.name, split, **options)
    wanted = model.input_shape[1:]
    if len(inputs.shape) != 1 + len(wanted) or inputs.shape[-1] != wanted[-1]:
        raise ValueError(
            f"The model takes inputs {wanted} of any size in pixels. "
            f"Received: {inputs.shape[1:]} from {recipe.data.name!r}"
        )
    return inputs, labels


def _limited(recipe, model, split):
    inputs, labels = _load(recipe, model, split)
    if recipe.max_steps is None:
        return inputs, labels
    count = recipe.max_steps * recipe.data.batch_size
    return inputs[:count], labels[:count]


def _evaluation(recipe, model, split, transform):
    return pipelines.evaluation_dataset(
        *_limited(recipe, model, split),
        transform=transform,
        batch_size=recipe.data.batch_size,
        multiple_of=data_devices(),
    )


def _augmentation(recipe, model):
    """The `augment` of a recipe for `pipelines.training_dataset`, or `None`."""
    data, static = recipe.data, model.backbone.static
    amounts = {
        "max_shift": data.max_shift,
        "max_rotation": data.max_rotation,
        "max_zoom": data.max_zoom,
    }
    if any(amounts.values()) and not static:
        raise ValueError(
            "max_shift, max_rotation and max_zoom are for images, not for event "
            f"frames. Received: {amounts}"
        )
    if data.event_augmentation and static:
        raise ValueError(
            "data.event_augmentation is for event frames, not for images. "
            f"Received: {data.event_augmentation}"
        )
    if any(amounts.values()):
        return functools.partial(pipelines.augment_images, **amounts)
    if data.event_augmentation is None:
        return None
    event_augment.check_flip(data.event_augmentation.flip, model.num_classes)
    return functools.partial(
        event_augment.augment,
        num_classes=model.num_classes,
        label_smoothing=recipe.label_smoothing,
        **dataclasses.asdict(data.event_augmentation),
    )


def _loss(label_smoothing, num_classes):
    """Cross-entropy with labels `(batch,)` or probabilities `(batch, classes)`.

    Probabilities come from an augmentation, which smooths them itself.
    """
    # Of every example, which may have a weight.
    each = {"from_logits": True, "reduction": None}
    sparse = keras.losses.SparseCategoricalCrossentropy(**each)
    soft = keras.losses.CategoricalCrossentropy(**each)
    smooth = keras.losses.CategoricalCrossentropy(
        **each, label_smoothing=label_smoothing
    )

    def loss(labels, logits):
        if _are_probabilities(labels, logits):
            return soft(labels, logits)
        if not label_smoothing:
            return sparse(labels, logits)
        labels = keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32")
        labels = keras.ops.one_hot(labels, num_classes)
        return smooth(labels, logits)

    return loss


def _accuracy(labels, logits):
    """1 where the largest logit is at the label, or at the largest probability."""
    if _are_probabilities(labels, logits):
        return keras.metrics.categorical_accuracy(labels, logits)
    return keras.metrics.sparse_categorical_accuracy(labels, logits)


def _are_probabilities(labels, logits):
    # Keras may give labels (batch,) a second axis of size 1.
    return len(labels.shape) == 2 and labels.shape[-1] == logits.shape[-1] > 1


def _versions():
    """What ran: versions, machine, commit (or `None` outside a checkout)."""
    from keras_qkformer import __version__

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    return {
        "versions": {
            "keras_qkformer": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "machine": platform.platform(),
        "commit": commit.stdout.strip() if commit.returncode == 0 else None,
    }

"""The one place that trains and evaluates: a recipe and a workdir."""

import dataclasses
import functools
import json
import math
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qkformer.data import event_augment, image_augment, pipelines
from keras_qkformer.data.data_service import distribute
from keras_qkformer.data.image_sources import DAMAGED, EncodedImages, plain_errors
from keras_qkformer.data.preprocess import preprocess, to_pixels
from keras_qkformer.data.source import Source
from keras_qkformer.models import QKFormerClassifier, count_parameters
from keras_qkformer.training.callbacks import (
    BEST_FOLDER,
    Checkpoint,
    Pictures,
    Report,
    StopAtNonFinite,
    StopBetweenSteps,
    Together,
    write_json,
)
from keras_qkformer.training.distribution import (
    check_model,
    choose_devices,
    data_devices,
    prepare_backend,
)
from keras_qkformer.training.hosts import Hosts, digest, joined
from keras_qkformer.training.optimizer import WeightAverage, make_optimizer
from keras_qkformer.training.recipe import Recipe, from_dict, to_dict
from keras_qkformer.training.scores import log_softmax, score

RECIPE_FILE = "recipe.json"
RESULTS_FILE = "results.json"
EXAMPLES_FILE = "examples.npz"
DAMAGED_FILE = "damaged_images.txt"
ALONE = Hosts()
EXAMPLES = 64
"""How many inputs are kept with what the model says to them."""
FIRING_EXAMPLES = 16
"""How many validation inputs show TensorBoard how often neurons fire."""


def fit(
    recipe,
    workdir,
    verbose="auto",
    devices="auto",
    mesh=None,
    hosts=None,
    data_service=None,
):
    """Train a recipe, or go on where an interrupted training of it stopped.

    Args:
        recipe: a `Recipe`. Where it does not say `num_classes`, the model gets as many
            as the data has; a preset folder with another number then gets a new head.
        workdir: str or path of a folder, made if needed. It will hold `recipe.json`,
            `checkpoints/`, `metrics.jsonl`, TensorBoard logs in `logs/`, the preset
            folder `best/`, `results.json`, the first test examples with their logits in
            `examples.npz`, and a list of damaged images, if there are any, in
            `damaged_images.txt`.
        verbose: 0 for silence, 2 for a line per epoch, 1 for a bar too, `"auto"` for
            the bar where standard error is a terminal.
        devices: how many devices share the batches, see `choose_devices`. What comes
            out does not depend on it, but for rounding.
        mesh: str or `None`, see `choose_devices`.
        hosts: str or `None`, see `hosts.joined`: this process trains together with
            others that call the same. The workdir must be one folder that all see.
        data_service: address of a tf.data service, such as `"grpc://10.0.0.1:5050"`,
            that makes the training batches, or `None`.

    Returns:
        The results, as in `results.json`: the scores on the test split (see
        `scores.score`) of the epoch with the best validation accuracy, and how they
        came about.

    Raises:
        ValueError: if the workdir belongs to another recipe, or a value of the recipe
            does not fit; if loss or weights are no longer finite.
        OSError: if a file can't be written, as on a full disk. What was there before is
            whole, and the same call goes on from it.
        KeyboardInterrupt: after Ctrl-C, between two steps.
    """
    prepare_backend()
    DAMAGED.clear()
    with joined(hosts) as hosts:
        chosen = choose_devices(devices, mesh, recipe.data.batch_size, hosts.count)
        with chosen.scope():
            return _fit(recipe, workdir, verbose, chosen, hosts, data_service)


def _fit(recipe, workdir, verbose, devices, hosts, data_service):
    workdir = Path(workdir)
    check_workdir(recipe, workdir)
    hosts.share_workdir(workdir)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    data, settings = recipe.data, recipe.optimizer
    epochs = settings.epochs + settings.cooldown_epochs
    training_data = prepare_training_data(recipe)
    model, labels = training_data.model, training_data.labels
    check_model(devices, model, settings.accumulation_steps)
    source, preprocessing = training_data.source, training_data.preprocessing
    steps = min(len(labels) // data.batch_size, recipe.max_steps or len(labels))
    model.compile(
        optimizer=make_optimizer(settings, model, max(steps, 1)),
        loss=_loss(recipe.label_smoothing, model.num_classes),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(_accuracy, name="accuracy")],
    )
    # A LossScaleOptimizer, which compile puts around it in float16, is not built yet.
    model.optimizer.build(model.trainable_variables)
    average = None
    if settings.average_decay is not None:
        average = WeightAverage(
            model, settings.average_decay, settings.accumulation_steps
        )
    checkpoint = Checkpoint(
        workdir,
        metadata={
            "recipe": to_dict(recipe),
            "class_names": list(training_data.class_names),
            "preprocessing": preprocessing,
            "orientation": training_data.source.orientation,
        },
        average=average,
        writes=hosts.writes,
    )
    checkpoint.restore(model)
    first_epoch = checkpoint.epoch

    def batches(start, stop=None, splittable=False):
        return training_data.dataset(
            first_epoch=start,
            epochs=start + 1 if stop is None else stop,
            steps=steps,
            share=hosts.share,
            splittable=splittable,
        )

    held_out = _limited(source, recipe, model, data.validation)
    if hosts.count > 1:
        _check_hosts(hosts, training_data, held_out, first_epoch)
    if data_service is None:
        training = batches(first_epoch, epochs)
    else:
        training = distribute(batches(first_epoch, splittable=True), data_service)
    validation = _evaluation(recipe, *held_out, preprocessing, hosts.share)
    if hosts.writes:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / RECIPE_FILE, {"recipe": to_dict(recipe), **provenance()})
    start = time.monotonic()
    if verbose and (devices.count > 1 or hosts.count > 1):
        of_hosts = f" of {hosts.count} hosts" if hosts.count > 1 else ""
        print(
            f"{devices.count} devices{of_hosts}: batches of {data.batch_size}, "
            f"{data.batch_size // devices.data} on each of {devices.data}, {steps} "
            "per epoch",
            flush=True,
        )
    if first_epoch < epochs:
        if verbose == "auto":
            verbose = 1 if sys.stderr.isatty() else 2
        images = steps * data.batch_size
        logs = workdir / "logs"
        with StopBetweenSteps() as stop, plain_errors():
            board = pictures = report = None
            if hosts.writes:
                board = keras.callbacks.TensorBoard(logs, write_graph=False)
                report = Report(workdir, first_epoch, epochs, images, verbose)
            if hosts.count == 1:  # Others would have to predict as well.
                examples = next(validation.as_numpy_iterator())[0][:FIRING_EXAMPLES]
                statistics = preprocessing["mean"], preprocessing["std"]
                # Not from a data service, where a look takes batches away.
                seen = training if data_service is None else batches(first_epoch)
                pictures = Pictures(logs / "train", examples, seen, *statistics)
            callbacks = [
                StopAtNonFinite(
                    workdir, batches, settings.accumulation_steps, hosts.index
                ),
                average,
                board,
                pictures,
                checkpoint,
                report,
                Together(hosts),
                stop,
            ]
            model.fit(
                training,
                initial_epoch=first_epoch,
                epochs=epochs,
                steps_per_epoch=steps,
                validation_data=validation,
                shuffle=False,  # The pipeline does; Keras would warn that it can't.
                verbose=0,
                callbacks=[callback for callback in callbacks if callback is not None],
            )
    with devices.local_scope():
        predictions = _predictions(
            *load_best(workdir), source, recipe, data.test, hosts
        )
    for damaged in hosts.gather("the list of damaged images", DAMAGED):
        DAMAGED.update(damaged)
    if hosts.writes:
        # For whoever exports the model and wants to see the same answers.
        count = len(predictions["images"])
        np.savez_compressed(
            workdir / EXAMPLES_FILE, **{k: v[:count] for k, v in predictions.items()}
        )
    if DAMAGED and hosts.writes:
        lines = [f"{name}\t{reason}\n" for name, reason in sorted(DAMAGED.items())]
        (workdir / DAMAGED_FILE).write_text("".join(lines))
    results = {
        "test": score(predictions["labels"], predictions["logits"], source.class_names),
        "test_split": data.test,
        "best": checkpoint.best,
        "history": checkpoint.history,
        "parameters": count_parameters(model),
        "damaged_images": len(DAMAGED),
        "seconds_of_last_run": round(time.monotonic() - start, 1),
        **provenance(),
    }
    if hosts.writes:
        write_json(workdir / RESULTS_FILE, results)
    return results


def _check_hosts(hosts, training_data, held_out, first_epoch):
    """Raise `ValueError` unless all hosts have enough of the same data."""
    recipe, source = training_data.recipe, training_data.source
    trained = training_data.inputs, training_data.labels
    tested = _load(source, recipe, training_data.model, recipe.data.test)
    for split, labels in (("validation", held_out[1]), ("test", tested[1])):
        if len(labels) < hosts.count:
            raise ValueError(
                f"data.{split} must have an example for each of {hosts.count} hosts. "
                f"Received: {len(labels)}"
            )
    hosts.agree(
        {
            **_flatten(to_dict(recipe)),
            "the classes": list(source.class_names),
            "the examples of data.train": digest(*trained),
            "the examples of data.validation": digest(*held_out),
            "the examples of data.test": digest(*tested),
            "the finished epochs": first_epoch,
            "the versions": provenance()["versions"],
        }
    )


def evaluate(workdir, split=None, recipe=None, membrane_state=None):
    """Scores of the best epoch of a workdir, or of a preset folder.

    Args:
        workdir: str or path of a folder that `fit` has made, perhaps not to the end, or
            of a preset folder together with a recipe.
        split: str such as `"test"`, or `None` for the test split of the recipe.
        recipe: a `Recipe` whose data to use, or `None` for that of the workdir.
        membrane_state: `"sample"`, `"batch"` to check published numbers (see
            `SpikingSelfAttention`), or `None` for that of the model.

    Returns:
        Dict, see `scores.score`. Every example counts, also of a last batch that is
        not full.

    Raises:
        ValueError: if it is no such folder, the split does not exist, or the data has
            other classes than the model.
    """
    predictions, names = _predict_split(workdir, split, recipe, membrane_state)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"split": split, **scores, **provenance()})
    return path


def _predict_split(workdir, split, recipe, membrane_state):
    prepare_backend()
    recipe = read_recipe(workdir) if recipe is None else recipe
    split = recipe.data.test if split is None else split
    state = {} if membrane_state is None else {"membrane_state": membrane_state}
    model, metadata = load_best(workdir, **state)
    source = pipelines.get_source(recipe.data.name, **_source_options(recipe, model))
    predictions = _predictions(model, metadata, source, recipe, split)
    return predictions, source.class_names


def _predictions(model, metadata, source, recipe, split, hosts=ALONE):
    theirs, ours = list(source.class_names), list(metadata["class_names"])
    # The names in weights from elsewhere are but numbers.
    numbers = [str(i) for i in range(len(theirs))]
    if ours not in (theirs, numbers):
        raise ValueError(
            f"The classes of the data must be those of the model, {_short(ours)}. "
            f"Received: {_short(theirs)} from {recipe.data.name!r}"
        )
    inputs, labels = _limited(source, recipe, model, split, hosts.share)
    dataset = _evaluation(recipe, inputs, labels, metadata["preprocessing"])
    with plain_errors():
        logits = model.predict(dataset, verbose=0)
    return {
        "images": _pictures(inputs[:EXAMPLES], metadata["preprocessing"]),
        "labels": hosts.gather_rows(labels),
        "logits": hosts.gather_rows(logits[: len(labels)].astype("float64")),
    }


def _short(names):
    more = f", ... ({len(names)} in all)" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def _pictures(inputs, preprocessing):
    """Inputs as an array; of images of any size, what their preprocessing leaves.

    A crop is not taken yet, so that they can be preprocessed as the others are.
    """
    if not isinstance(inputs, EncodedImages):
        return np.asarray(inputs)
    size, crop = preprocessing["image_size"], preprocessing.get("crop")
    size = [math.floor(side / (crop or 1)) for side in size]
    crop = crop and 1.0
    way = {
        "crop": crop,
        "interpolation": preprocessing.get("interpolation", "bilinear"),
    }
    pictures = [inputs.decode(place) for place in range(len(inputs))]
    return np.stack([to_pixels(p, size, **way).numpy() for p in pictures])


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
        preprocess(
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
    except (OSError, ValueError) as error:
        raise ValueError(
            "A trained model must be a workdir of `fit` with at least one finished "
            f"epoch, or its folder {BEST_FOLDER!r}. Received: {str(folder)!r}"
        ) from error
    missing = {"class_names", "preprocessing"} - {*metadata}
    if missing:
        raise ValueError(
            "The metadata of a preset folder must have class_names and preprocessing: "
            "save_to_preset(folder, metadata) takes them. "
            f"Received: {str(folder)!r} without {', '.join(sorted(missing))}"
        )
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


def _preprocessing(recipe, model, source):
    """How an example becomes an input: arguments of `preprocess`."""
    data, channels = recipe.data, model.backbone.in_channels
    values = {
        "image_size": list(model.backbone.image_size),
        "mean": list(data.mean or source.mean),
        "std": list(data.std or source.std),
        "max_value": source.max_value,
    }
    for name in ("mean", "std"):
        if len(values[name]) != channels:
            raise ValueError(
                f"data.{name} must have {channels} values, one per channel of the "
                f"model. Received: {values[name]}"
            )
    if model.backbone.static:
        augmentation = data.image_augmentation
        values["crop"] = data.evaluation_crop
        values["interpolation"] = (
            augmentation.interpolation if augmentation else "bilinear"
        )
    return values


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a recipe trains on.

    Attributes:
        recipe: the `Recipe`.
        model: its model, with weights from its seed.
        source: the `Source` of its data.
        inputs: see `Source.load`.
        labels: see `Source.load`.
        preprocessing: arguments of `preprocess` for evaluation.
        options: `transform`, `augment` and perhaps `window` of
            `pipelines.training_dataset`.
    """

    recipe: Recipe
    model: QKFormerClassifier
    source: Source
    inputs: Any
    labels: np.ndarray
    preprocessing: dict
    options: dict

    @property
    def class_names(self):
        """Names of the classes, in the order of their labels."""
        return self.source.class_names

    def dataset(self, *, first_epoch, epochs, steps=None, options=None, **way):
        """The `pipelines.training_dataset`, perhaps with other options."""
        return pipelines.training_dataset(
            self.inputs,
            self.labels,
            batch_size=self.recipe.data.batch_size,
            seed=self.recipe.seed,
            first_epoch=first_epoch,
            epochs=epochs,
            steps=steps,
            **(self.options if options is None else options),
            **way,
        )


def prepare_training_data(recipe):
    """The model of a recipe and the data to train it on.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    data = recipe.data
    model = QKFormerClassifier.from_preset(recipe.preset, **recipe.model)
    source = pipelines.get_source(data.name, **_source_options(recipe, model))
    classes = len(source.class_names)
    if model.num_classes != classes and "num_classes" not in recipe.model:
        model = QKFormerClassifier.from_preset(
            recipe.preset, **recipe.model, num_classes=classes
        )
    if model.num_classes != classes:
        raise ValueError(
            f"The model must have the {classes} classes of {data.name!r}. "
            f"Received: num_classes={model.num_classes}"
        )
    inputs, labels = _load(source, recipe, model, data.train)
    preprocessing = _preprocessing(recipe, model, source)
    options = _training_options(recipe, model, preprocessing)
    return TrainingData(recipe, model, source, inputs, labels, preprocessing, options)


def _training_options(recipe, model, preprocessing):
    """The `transform`, `augment` and `window` of `pipelines.training_dataset`."""
    augment = _augmentation(recipe, model, preprocessing)
    augmentation = recipe.data.image_augmentation
    if augmentation is None:
        transform = functools.partial(preprocess, **preprocessing)
        return {"transform": transform, "augment": augment}
    resize = {key: preprocessing[key] for key in ("image_size", "interpolation")}
    scale = augmentation.random_resized_crop
    if scale is None:
        pixels = functools.partial(to_pixels, crop=preprocessing["crop"], **resize)
        return {"transform": pixels, "augment": augment}
    return {
        "transform": functools.partial(to_pixels, **resize),
        "augment": augment,
        "window": functools.partial(
            image_augment.random_window, scale=scale, ratio=augmentation.crop_ratio
        ),
    }


def _source_options(recipe, model):
    """What the source must know of a recipe and its model."""
    data, backbone = recipe.data, model.backbone
    options = {
        "data_dir": data.data_dir,
        "sensor_size": data.sensor_size,
        "frames_by": data.frames_by,
        "window_us": data.window_us,
        "strict": data.strict or None,
        "channels": backbone.in_channels,
    }
    return {**options, "time_steps": None if backbone.static else backbone.time_steps}


def _load(source, recipe, model, split):
    inputs, labels = pipelines.load_split(source, split)
    wanted = model.input_shape[1:]
    if len(inputs.shape) != 1 + len(wanted) or inputs.shape[-1] != wanted[-1]:
        raise ValueError(
            f"The model takes inputs {wanted} of any size in pixels. "
            f"Received: {inputs.shape[1:]} from {recipe.data.name!r}"
        )
    return inputs, labels


def _limited(source, recipe, model, split, share=ALONE.share):
    """Inputs and labels of a split to evaluate on; no image of it is damaged.

    Of a share, one of equal parts, one behind the other.
    """
    inputs, labels = _load(source, recipe, model, split)
    if recipe.max_steps is not None:
        count = recipe.max_steps * recipe.data.batch_size
        inputs, labels = inputs[:count], labels[:count]
    part, parts = share
    own = slice(part * len(labels) // parts, (part + 1) * len(labels) // parts)
    inputs, labels = inputs[own], labels[own]
    if isinstance(inputs, EncodedImages):
        inputs, labels = inputs.without_damaged(labels)
    return inputs, labels


def _evaluation(recipe, inputs, labels, preprocessing, share=ALONE.share):
    return pipelines.evaluation_dataset(
        inputs,
        labels,
        transform=functools.partial(preprocess, **preprocessing),
        batch_size=recipe.data.batch_size,
        multiple_of=data_devices(),
        share=share,
    )


def _augmentation(recipe, model, preprocessing):
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
    if data.image_augmentation:
        if any(amounts.values()) or not static:
            raise ValueError(
                "data.image_augmentation is for images, and instead of max_shift, "
                f"max_rotation and max_zoom. Received: {amounts} and a model of "
                f"{'images' if static else 'event frames'}"
            )
        options = dataclasses.asdict(data.image_augmentation)
        del options["random_resized_crop"], options["crop_ratio"]
        return functools.partial(
            image_augment.augment,
            num_classes=model.num_classes,
            label_smoothing=recipe.label_smoothing,
            mean=preprocessing["mean"],
            std=preprocessing["std"],
            **options,
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


def provenance():
    """What ran: command, versions, machine, commit (or `None` outside a checkout)."""
    from keras_qkformer import __version__

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    program = Path(sys.argv[0]).name
    if program in ("__main__.py", "keras_qkformer_cli.py"):
        program = "keras-qkformer"
    return {
        "command": shlex.join([program, *sys.argv[1:]]),
        "versions": {
            "keras_qkformer": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "machine": platform.platform(),
        "commit": commit.stdout.strip() if commit.returncode == 0 else None,
    }

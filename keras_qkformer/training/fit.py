"""The one place that trains and evaluates: a recipe and a workdir."""

import sys
import time
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.backend import prepare_backend
from keras_qkformer.data.service import distribute
from keras_qkformer.files import write_json
from keras_qkformer.models import count_parameters
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import EXAMPLES_FILE, RESULTS_FILE, load_trained
from keras_qkformer.training.callbacks import (
    Pictures,
    Report,
    StopAtNonFinite,
    StopBetweenSteps,
    Together,
)
from keras_qkformer.training.checkpoint import Checkpoint
from keras_qkformer.training.distribution import (
    check_model,
    choose_devices,
    data_devices,
)
from keras_qkformer.training.evaluate import predictions_of
from keras_qkformer.training.hosts import digest, joined
from keras_qkformer.training.losses import accuracy, make_loss
from keras_qkformer.training.optimizer import make_optimizer
from keras_qkformer.training.recipe import to_dict
from keras_qkformer.training.scores import score
from keras_qkformer.training.setup import prepare_training
from keras_qkformer.training.weight_average import WeightAverage
from keras_qkformer.training.workdir import (
    DAMAGED_FILE,
    RECIPE_FILE,
    check_workdir,
    flatten,
)

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
    model, examples = prepare_training(recipe)
    check_model(devices, model, settings.accumulation_steps)
    preprocessing, steps = examples.preprocessing, examples.steps
    model.compile(
        optimizer=make_optimizer(settings, model, max(steps, 1)),
        loss=make_loss(recipe.label_smoothing, model.num_classes),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
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
            "class_names": list(examples.class_names),
            "preprocessing": preprocessing.to_dict(),
            "orientation": examples.source.orientation,
        },
        average=average,
        writes=hosts.writes,
    )
    checkpoint.restore(model)
    first_epoch = checkpoint.epoch

    def batches(start, stop=None, splittable=False):
        return examples.training(
            first_epoch=start,
            epochs=start + 1 if stop is None else stop,
            steps=steps,
            shard=hosts.shard,
            splittable=splittable,
        )

    held_out = examples.held_out(data.validation)
    if hosts.count > 1:
        _check_hosts(hosts, recipe, examples, held_out, first_epoch)
    if data_service is None:
        training = batches(first_epoch, epochs)
    else:
        training = distribute(batches(first_epoch, splittable=True), data_service)
    validation = examples.evaluation(
        *held_out, multiple_of=data_devices(), shard=hosts.shard
    )
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
        with StopBetweenSteps() as stop, examples.plain_errors():
            board = pictures = report = None
            if hosts.writes:
                board = keras.callbacks.TensorBoard(logs, write_graph=False)
                report = Report(workdir, first_epoch, epochs, images, verbose)
            if hosts.count == 1:  # Others would have to predict as well.
                shown = next(validation.as_numpy_iterator())[0][:FIRING_EXAMPLES]
                statistics = preprocessing.mean, preprocessing.std
                # Not from a data service, where a look takes batches away.
                seen = training if data_service is None else batches(first_epoch)
                pictures = Pictures(logs / "train", shown, seen, *statistics)
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
        trained = load_trained(workdir)
        predictions = predictions_of(trained, examples, data.test, hosts)
    damaged = {}
    for found in hosts.gather("the list of damaged images", examples.damaged):
        damaged.update(found)
    if hosts.writes:
        # For whoever exports the model and wants to see the same answers.
        count = len(predictions["images"])
        np.savez_compressed(
            workdir / EXAMPLES_FILE, **{k: v[:count] for k, v in predictions.items()}
        )
    if damaged and hosts.writes:
        lines = [f"{name}\t{reason}\n" for name, reason in sorted(damaged.items())]
        (workdir / DAMAGED_FILE).write_text("".join(lines))
    results = {
        "test": score(
            predictions["labels"], predictions["logits"], examples.class_names
        ),
        "test_split": data.test,
        "best": checkpoint.best,
        "history": checkpoint.history,
        "parameters": count_parameters(model),
        "damaged_images": len(damaged),
        "seconds_of_last_run": round(time.monotonic() - start, 1),
        **provenance(),
    }
    if hosts.writes:
        write_json(workdir / RESULTS_FILE, results)
    return results


def _check_hosts(hosts, recipe, examples, held_out, first_epoch):
    """Raise `ValueError` unless all hosts have enough of the same data."""
    tested = examples.load(recipe.data.test)
    for split, labels in (("validation", held_out[1]), ("test", tested[1])):
        if len(labels) < hosts.count:
            raise ValueError(
                f"data.{split} must have an example for each of {hosts.count} hosts. "
                f"Received: {len(labels)}"
            )
    hosts.agree(
        {
            **flatten(to_dict(recipe)),
            "the classes": list(examples.class_names),
            "the examples of data.train": digest(*examples.train),
            "the examples of data.validation": digest(*held_out),
            "the examples of data.test": digest(*tested),
            "the finished epochs": first_epoch,
            "the versions": provenance()["versions"],
        }
    )

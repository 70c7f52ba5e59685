"""The one place that trains: a recipe and a workdir."""

import functools
import sys
import time
from pathlib import Path

import keras

from keras_qkformer.backend import prepare_backend
from keras_qkformer.data.service import distribute
from keras_qkformer.models import count_parameters, resolve_preset
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import load_trained
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
from keras_qkformer.training.hosts import agree_on_data, joined
from keras_qkformer.training.losses import accuracy, make_loss
from keras_qkformer.training.optimizer import make_optimizer
from keras_qkformer.training.recipe import to_dict
from keras_qkformer.training.scores import score
from keras_qkformer.training.setup import prepare_training
from keras_qkformer.training.weight_average import WeightAverage
from keras_qkformer.training.workdir import (
    LOGS_FOLDER,
    check_workdir,
    write_recipe,
    write_results,
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
    workdir, data, settings = Path(workdir), recipe.data, recipe.optimizer
    epochs = settings.epochs + settings.cooldown_epochs
    with (
        joined(hosts) as hosts,
        choose_devices(devices, mesh, data.batch_size, hosts.count).scope(
            resolve_preset(recipe.preset).family.backbone.layout
        ) as devices,
    ):
        check_workdir(recipe, workdir)
        hosts.share_workdir(workdir)
        keras.utils.set_random_seed(recipe.seed)
        keras.config.set_dtype_policy(recipe.precision)
        model, examples = prepare_training(recipe)
        check_model(devices, model, settings.accumulation_steps)
        average = _compile(model, recipe, examples.steps)
        checkpoint = Checkpoint(
            workdir, _metadata(recipe, examples), average, hosts.writes
        )
        checkpoint.restore(model)
        first_epoch = checkpoint.epoch
        held_out = examples.held_out(data.validation)
        if hosts.count > 1:
            agree_on_data(hosts, recipe, examples, held_out, first_epoch)
        batches = functools.partial(
            examples.training, steps=examples.steps, shard=hosts.shard
        )
        if data_service is None:
            training = seen = batches(first_epoch=first_epoch, epochs=epochs)
        else:  # A look at its batches would take them away.
            way = {"first_epoch": first_epoch, "epochs": first_epoch + 1}
            training = distribute(batches(**way, splittable=True), data_service)
            seen = batches(**way)
        validation = examples.evaluation(
            *held_out, multiple_of=data_devices(), shard=hosts.shard
        )
        if hosts.writes:
            write_recipe(workdir, recipe)
        if verbose:
            _announce(devices, hosts, data.batch_size, examples.steps)
        start = time.monotonic()
        if first_epoch < epochs:
            with StopBetweenSteps() as stop, examples.plain_errors():
                callbacks = _callbacks(
                    recipe,
                    checkpoint,
                    examples,
                    hosts,
                    batches,
                    seen,
                    validation,
                    verbose,
                )
                model.fit(
                    training,
                    initial_epoch=first_epoch,
                    epochs=epochs,
                    steps_per_epoch=examples.steps,
                    validation_data=validation,
                    shuffle=False,  # The pipeline does; Keras would warn that it can't.
                    verbose=0,
                    callbacks=[*callbacks, stop],
                )
        with devices.local_scope():
            trained = load_trained(workdir)
            predictions = predictions_of(trained, examples, data.test, hosts)
        damaged = {}
        for found in hosts.gather("the list of damaged images", examples.damaged):
            damaged.update(found)
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
            write_results(workdir, results, predictions, damaged)
        return results


def _compile(model, recipe, steps):
    """Compile the model of a recipe; gives its `WeightAverage`, or `None`."""
    settings = recipe.optimizer
    model.compile(
        optimizer=make_optimizer(settings, model, max(steps, 1)),
        loss=make_loss(recipe.label_smoothing, model.num_classes),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
    )
    # A LossScaleOptimizer, which compile puts around it in float16, is not built yet.
    model.optimizer.build(model.trainable_variables)
    if settings.average_decay is None:
        return None
    return WeightAverage(model, settings.average_decay, settings.accumulation_steps)


def _callbacks(recipe, checkpoint, examples, hosts, batches, seen, validation, verbose):
    """The callbacks of a training, in the order in which they act.

    Args:
        recipe: the `Recipe`.
        checkpoint: its `Checkpoint`, restored.
        examples: its `Examples`.
        hosts: `Hosts`.
        batches: function `(first_epoch, epochs)` that gives training batches.
        seen: `tf.data.Dataset` of the first of them.
        validation: `tf.data.Dataset`.
        verbose: see `fit`.
    """
    settings, workdir = recipe.optimizer, checkpoint.workdir
    logs = workdir / LOGS_FOLDER
    callbacks = [
        StopAtNonFinite(
            workdir,
            lambda epoch: batches(first_epoch=epoch, epochs=epoch + 1),
            settings.accumulation_steps,
            hosts.index,
        )
    ]
    if checkpoint.average is not None:
        callbacks.append(checkpoint.average)
    if hosts.writes:
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    if hosts.count == 1:  # Others would have to predict as well.
        shown = next(validation.as_numpy_iterator())[0][:FIRING_EXAMPLES]
        callbacks.append(Pictures(logs / "train", shown, seen, examples.preprocessing))
    callbacks.append(checkpoint)
    if hosts.writes:
        if verbose == "auto":
            verbose = 1 if sys.stderr.isatty() else 2
        epochs = settings.epochs + settings.cooldown_epochs
        images = examples.steps * recipe.data.batch_size
        callbacks.append(Report(workdir, checkpoint.epoch, epochs, images, verbose))
    return [*callbacks, Together(hosts)]


def _announce(devices, hosts, batch_size, steps):
    """Say how the work is shared, if it is."""
    if devices.count == 1 and hosts.count == 1:
        return
    of_hosts = f" of {hosts.count} hosts" if hosts.count > 1 else ""
    print(
        f"{devices.count} devices{of_hosts}: batches of {batch_size}, "
        f"{batch_size // devices.data} on each of {devices.data}, {steps} per epoch",
        flush=True,
    )


def _metadata(recipe, examples):
    """What the preset folder of the best epoch says about its training."""
    return {
        "recipe": to_dict(recipe),
        "class_names": list(examples.class_names),
        "preprocessing": examples.preprocessing.to_dict(),
        "orientation": examples.source.orientation,
    }

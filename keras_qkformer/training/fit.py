"""The one place that calls `model.fit`: it trains a recipe into a workdir."""

import contextlib
import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

import keras

from keras_qkformer.backend import prepare_backend
from keras_qkformer.data.service import distribute
from keras_qkformer.models import count_parameters, resolve_preset
from keras_qkformer.ops.expected_calls import expecting
from keras_qkformer.presets.card import write_card
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import BEST_FOLDER, load_trained
from keras_qkformer.training.callbacks import (
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
from keras_qkformer.training.lock import only_training
from keras_qkformer.training.preflight import check_needs
from keras_qkformer.training.recipe import Recipe, to_dict
from keras_qkformer.training.report import (
    Report,
    announce_machine,
    announce_training,
)
from keras_qkformer.training.scores import score
from keras_qkformer.training.setup import (
    compile_model,
    precision_of,
    prepare_training,
)
from keras_qkformer.training.tensorboard import Logs, Pictures
from keras_qkformer.training.workdir import (
    LOGS_FOLDER,
    METRICS_FILE,
    check_workdir,
    read_damaged,
    restore_metrics,
    write_recipe,
    write_results,
)

FIRING_EXAMPLES = 16
"""Number of validation inputs that the firing rates in TensorBoard come from."""


def fit(
    recipe: Recipe,
    workdir: str | os.PathLike,
    verbose: int | str = "auto",
    devices: int | str = "auto",
    mesh: str | None = None,
    hosts: str | None = None,
    data_service: str | None = None,
) -> dict[str, Any]:
    """Train a recipe, or resume its interrupted training.

    Args:
        recipe: a `Recipe`. If it does not set `num_classes`, the model gets the number
            of classes of the data; if that is not the number of a preset folder, the
            model gets a new head.
        workdir: str or path of a folder, made if needed. It will hold `recipe.json`,
            `checkpoints/`, `metrics.jsonl`, TensorBoard logs in `logs/`, the preset
            folder `best/`, `results.json`, the first test examples with their logits in
            `examples.npz`, and a list of damaged images, if there are any, in
            `damaged_images.txt`.
        verbose: 0 for silence, 2 for a line per epoch and at least every 30 seconds, 1
            for a line per epoch and a bar, `"auto"` for 1 if standard error is a
            terminal, or in a notebook, else 2.
        devices: int > 0 or `"auto"`. Number of devices that share the batches, see
            `choose_devices`. It changes the result by rounding only.
        mesh: str or `None`, see `choose_devices`.
        hosts: str or `None`, see `hosts.joined`. This process trains together with
            others that make the same call. All must see the same workdir.
        data_service: str, address of a tf.data service that makes the training batches,
            such as `"grpc://10.0.0.1:5050"`, or `None`.

    Returns:
        Dict, as in `results.json`: `test`, the scores (see `scores.score`) of the epoch
        with the best validation accuracy on the test split, and how they were obtained.

    Raises:
        ValueError: if the workdir belongs to another recipe, or another process is
            training into it (on this machine, and over NFS on any; see
            `lock.only_training`), a value of the recipe does
            not fit, or loss or weights are no longer finite.
        OSError: if a file can't be written, as on a full disk. Files written before are
            intact, and the same call resumes from them. What can be known beforehand is
            checked before the first step, see `preflight.check_needs`.
        KeyboardInterrupt: after Ctrl-C, between two batches.
        Terminated: a `SystemExit` with status 143, after SIGTERM, see
            `StopBetweenSteps`.
    """
    return fit_and_load(recipe, workdir, verbose, devices, mesh, hosts, data_service)[0]


def fit_and_load(
    recipe,
    workdir,
    verbose="auto",
    devices="auto",
    mesh=None,
    hosts=None,
    data_service=None,
):
    """Train as `fit`, for those who then use the model: it is not loaded twice.

    Args:
        recipe: see `fit`.
        workdir: see `fit`.
        verbose: see `fit`.
        devices: see `fit`.
        mesh: see `fit`.
        hosts: see `fit`.
        data_service: see `fit`.

    Returns:
        `(results, trained)`: what `fit` returns, and the `TrainedModel` of the best
        epoch.
    """
    prepare_backend()
    workdir, data, settings = Path(workdir), recipe.data, recipe.optimizer
    epochs = settings.epochs + settings.cooldown_epochs
    with (
        joined(hosts) as hosts,
        only_training(recipe, workdir) if hosts.writes else contextlib.nullcontext(),
        choose_devices(devices, mesh, data.batch_size, hosts.count).scope(
            resolve_preset(recipe.preset).family.backbone.layout
        ) as devices,
        contextlib.ExitStack() as scopes,
    ):
        if not hosts.writes:
            check_workdir(recipe, workdir)
        hosts.share_workdir(workdir)
        speaks = bool(verbose) and hosts.writes
        scopes.enter_context(precision_of(recipe))
        keras.utils.set_random_seed(recipe.seed)
        model, examples = prepare_training(recipe)
        scopes.enter_context(expecting(epochs * examples.steps))
        check_model(devices, model, settings.accumulation_steps)
        average = compile_model(model, recipe, examples.steps)
        writes_to = workdir if hosts.writes else None
        test_count = check_needs(recipe, model, examples, writes_to)
        if speaks:  # Mistakes, which are told so far, are one line alone.
            announce_machine(recipe, workdir, devices, hosts)
        checkpoint = Checkpoint(
            workdir, _metadata(recipe, examples), average, hosts.writes
        )
        checkpoint.restore(model)
        if hosts.gather("the look at best/", checkpoint.lacks_best())[0]:
            checkpoint.save_best()  # Interrupted before, and its epoch is the last one.
        first_epoch = checkpoint.epoch
        held_out = examples.held_out(data.validation)
        if hosts.count > 1:
            agree_on_data(hosts, recipe, examples, held_out, first_epoch)
        batches = functools.partial(
            examples.training, steps=examples.steps, shard=hosts.shard
        )
        if data_service is None:
            training = seen = batches(first_epoch=first_epoch, epochs=epochs)
        else:
            one_epoch = {"first_epoch": first_epoch, "epochs": first_epoch + 1}
            training = distribute(batches(**one_epoch, splittable=True), data_service)
            # Made locally: a batch of the service that is shown can't be trained on.
            seen = batches(**one_epoch)
        validation = examples.evaluation(
            *held_out, multiple_of=data_devices(), shard=hosts.shard
        )
        if hosts.writes:
            write_recipe(workdir, recipe)
            lost = restore_metrics(workdir, checkpoint.history)
            if lost and speaks:
                print(
                    f"{workdir / METRICS_FILE}: {lost} of {first_epoch} lines were "
                    "damaged or missing; the checkpoint has their metrics",
                    file=sys.stderr,
                )
        if speaks:
            held = len(held_out[1]), test_count
            announce_training(recipe, model, examples, held, first_epoch, epochs)
        start = time.monotonic()
        if first_epoch < epochs:
            images = examples.steps * data.batch_size
            report = Report(workdir, first_epoch, epochs, images, verbose)
            with StopBetweenSteps() as stop, examples.plain_errors(), report:
                callbacks = _callbacks(
                    recipe,
                    checkpoint,
                    examples,
                    hosts,
                    batches,
                    seen,
                    validation,
                    report,
                )
                model.fit(
                    training,
                    initial_epoch=first_epoch,
                    epochs=epochs,
                    steps_per_epoch=examples.steps,
                    validation_data=validation,
                    shuffle=False,  # The pipeline shuffles; Keras can't, and warns.
                    verbose=0,
                    callbacks=[*callbacks, stop],
                )
        else:  # Perhaps interrupted between its last epoch and its end.
            checkpoint.on_train_end()
        if speaks:
            print(f"testing the best epoch on {data.test}", flush=True)
        with devices.local_scope():
            trained = load_trained(workdir)
            predictions = predictions_of(trained, examples, data.test, hosts)
        damaged = read_damaged(workdir)  # Of an earlier call, which trained.
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
            write_card(workdir / BEST_FOLDER, results=results)
            write_results(workdir, results, predictions, damaged)  # All is there.
        return results, trained


def _callbacks(recipe, checkpoint, examples, hosts, batches, seen, validation, report):
    """The callbacks of a training, in the order in which they act.

    Args:
        recipe: the `Recipe`.
        checkpoint: its `Checkpoint`, restored.
        examples: its `Examples`.
        hosts: `Hosts`.
        batches: function `(first_epoch, epochs)` that makes training batches.
        seen: `tf.data.Dataset` of training batches, to show the first of.
        validation: `tf.data.Dataset` of validation batches.
        report: its `Report`.
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
        callbacks.append(Logs(logs, write_graph=False))
    if hosts.count == 1:  # With several, all would have to predict together.
        shown = next(validation.as_numpy_iterator())[0][:FIRING_EXAMPLES]
        callbacks.append(Pictures(logs / "train", shown, seen, examples.preprocessing))
    callbacks.append(checkpoint)
    if hosts.writes:
        callbacks.append(report)
    return [*callbacks, Together(hosts)]


def _metadata(recipe, examples):
    """Metadata for the preset folder of the best epoch."""
    size = examples.source.sensor_size
    return {
        **({"sensor_size": list(size)} if size else {}),
        "recipe": to_dict(recipe),
        "class_names": list(examples.class_names),
        "preprocessing": examples.preprocessing.to_dict(),
        "orientation": examples.source.orientation,
    }

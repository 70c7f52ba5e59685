"""What a training says: a header, then a bar or lines; and its `metrics.jsonl`."""

import json
import sys
import time
import warnings
from pathlib import Path

import keras
import tqdm

from keras_qkformer.files import append_text
from keras_qkformer.models import count_parameters
from keras_qkformer.printable import printable
from keras_qkformer.training.workdir import METRICS_FILE

with warnings.catch_warnings():
    # A notebook without ipywidgets gets a bar of text, which needs no warning.
    warnings.simplefilter("ignore", tqdm.TqdmWarning)
    import tqdm.auto

SILENCE_S = 30.0
"""Without a bar, a line comes at least this often, in seconds."""


def announce_machine(recipe, workdir, devices, hosts):
    """Print the first lines of the header: workdir and devices.

    Args:
        recipe: the `Recipe`.
        workdir: path of a folder.
        devices: `Devices`.
        hosts: `Hosts`.
    """
    text = f"{_device_name()}, {keras.backend.backend()}"
    if devices.count > 1 or hosts.count > 1:
        of_hosts = f" of {hosts.count} hosts" if hosts.count > 1 else ""
        size = recipe.data.batch_size
        text = (
            f"{devices.count}{of_hosts}, {text}: batches of {size}, "
            f"{size // devices.data} on each of {devices.data}"
        )
    _say("workdir", workdir)
    _say("device", text)


def announce_training(recipe, model, examples, held_out, first_epoch, epochs):
    """Print the other lines of the header: data, model and steps.

    Args:
        recipe: the `Recipe`.
        model: its `SpikingClassifier`.
        examples: its `Examples`.
        held_out: pair of int. Numbers of validation examples, on all hosts together,
            and of test examples.
        first_epoch: int. First epoch to train, from 0.
        epochs: int. Exclusive end epoch.
    """
    data = recipe.data
    place = f" in {data.data_dir}" if data.data_dir else ""
    validation, test = held_out
    if recipe.max_steps is not None:
        test = min(test, recipe.max_steps * data.batch_size)
    _say(
        "data",
        f"{data.name}{place}: {len(examples.class_names):,} classes; "
        f"{len(examples.train[1]):,} training, {validation:,} validation, "
        f"{test:,} test examples",
    )
    size = " x ".join(map(str, model.input_shape[1:]))
    _say(
        "model",
        f"{recipe.preset}: {count_parameters(model):,} parameters, input {size}, "
        f"{recipe.precision}",
    )
    if first_epoch >= epochs:
        _say("epochs", f"all {epochs} are trained already")
    else:
        again = f"{first_epoch + 1} to " if first_epoch else ""
        _say(
            "epochs",
            f"{again}{epochs}, of {examples.steps:,} steps with {data.batch_size} "
            "examples",
        )
    settings = recipe.optimizer
    if settings.warmup_epochs > settings.epochs:
        _say(
            "rate",
            f"only rises, as the warm-up has {settings.warmup_epochs:g} epochs",
        )


def _say(title, text):
    # Paths and names come from outside.
    print(f"{title:<9}{printable(str(text), 4096)}", flush=True)


def _device_name():
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.local_devices()[0].device_kind
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        return details.get("device_name", "gpu")
    return "cpu"


class Report(keras.callbacks.Callback):
    """Shows progress as a bar or in lines; adds lines to `metrics.jsonl`.

    The first step and the first validation batch compile. Speed and remaining time are
    those of all others. Use it as a context around `fit`, too, which closes the bar.

    Args:
        workdir: path of a folder.
        first_epoch: int. First epoch to train, from 0.
        epochs: int. Exclusive end epoch.
        images_per_epoch: int. Training examples per epoch, on all hosts together.
        verbose: 0 for the file alone, 2 for lines, 1 for lines and a bar, `"auto"` for
            1 in a terminal or notebook, else 2.
    """

    def __init__(self, workdir, first_epoch, epochs, images_per_epoch, verbose):
        super().__init__()
        if verbose == "auto":
            verbose = 1 if sys.stderr.isatty() or "ipykernel" in sys.modules else 2
        self.path = Path(workdir) / METRICS_FILE
        self.epoch = first_epoch
        self.epochs = epochs
        self.images_per_epoch = images_per_epoch
        self.verbose = verbose
        self.bar = None
        self.has_validated = False
        # Images trained on, and when: last, and where measuring the speed of this run
        # and of this epoch starts.
        self.images = self.first_images = self.epoch_images = 0
        self.time = self.first_time = self.epoch_time = 0.0
        self.start = self.epoch_start = self.test_start = 0.0
        self.said = self.shown = 0.0  # When a line was printed, and the bar's numbers.

    def __enter__(self):
        return self

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()
        self._print("compiling: the first step takes longer")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.images = epoch, epoch * self.images_per_epoch
        self.epoch_start = time.monotonic()
        self.epoch_images, self.epoch_time = self.images, self.epoch_start
        if self.bar is not None:
            self.bar.set_description_str(self._place(), refresh=False)

    def on_train_batch_end(self, batch, logs=None):
        self.time, steps = time.monotonic(), self.params["steps"]
        before = self.images
        # All batches add up to the epoch, however each is rounded.
        self.images = self.epoch * self.images_per_epoch + (
            self.images_per_epoch * (batch + 1) // steps
        )
        if self.bar is None:
            self._start_bar(steps)
        else:
            self.bar.update(self.images - before)
        if self.bar.disable:
            self._say_if_silent(f"step {batch + 1}/{steps}", logs)
        elif self.time - self.shown > 0.5:
            self.shown = self.time
            self.bar.set_postfix(_rounded(logs, 3), refresh=False)

    def _start_bar(self, steps):
        """Begin to measure, after the first step."""
        self._print(f"compiled in {self.time - self.start:.1f} s")
        self.first_images, self.first_time = self.images, self.time
        if steps > 1:
            self.epoch_images, self.epoch_time = self.images, self.time
        self.bar = tqdm.auto.tqdm(
            desc=self._place(),
            total=self.epochs * self.images_per_epoch,
            initial=self.images,
            unit=" images",
            unit_scale=True,
            smoothing=0,  # The mean speed: validation takes its part of every epoch.
            disable=self.verbose != 1,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {remaining} left, "
            "{rate_fmt}{postfix}",
        )

    def on_test_begin(self, logs=None):
        self.test_start = time.monotonic()

    def on_test_batch_end(self, batch, logs=None):
        if not self.has_validated:
            self.has_validated = True
            compiling = time.monotonic() - self.test_start
            self.first_time += compiling
            if not self.bar.disable:
                self.bar.start_t += compiling
        if self.bar.disable:
            self._say_if_silent(f"validation step {batch + 1}", logs)

    def _say_if_silent(self, step, logs):
        now = time.monotonic()
        if now - self.said < SILENCE_S:
            return
        values = ", ".join(f"{k} {v}" for k, v in _rounded(logs, 3).items())
        trained, left = self.images - self.first_images, ""
        if trained:
            speed = trained / (now - self.first_time)
            seconds = (self.epochs * self.images_per_epoch - self.images) / speed
            left = f", {tqdm.tqdm.format_interval(seconds)} left"
        self._print(f"{self._place()}, {step}: {values}{left}")

    def on_epoch_end(self, epoch, logs=None):
        of_epoch = (epoch + 1) * self.images_per_epoch - self.epoch_images
        record = {
            "epoch": epoch + 1,
            **{name: float(value) for name, value in logs.items()},
            "learning_rate": float(self.model.optimizer.learning_rate),
            "images_per_second": round(of_epoch / (self.time - self.epoch_time), 2),
            "seconds": round(time.monotonic() - self.epoch_start, 2),
        }
        append_text(self.path, json.dumps(record) + "\n")
        values = ", ".join(f"{k} {v}" for k, v in _rounded(logs, 3).items())
        self._print(f"{self._place()}: {values}, {record['seconds']:.0f} s")

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()

    def _place(self):
        return f"epoch {self.epoch + 1}/{self.epochs}"

    def _print(self, text):
        self.said = time.monotonic()
        if self.verbose:
            tqdm.tqdm.write(text)
            sys.stdout.flush()


def _rounded(values, digits):
    return {k: float(f"{v:.{digits}g}") if v % 1 else int(v) for k, v in values.items()}

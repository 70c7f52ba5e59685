"""Callbacks that end a training, or hold its hosts together."""

import math
import signal
import threading
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.files import whole_file
from keras_qkformer.training.workdir import NOT_FINITE_FILE


class Terminated(SystemExit):
    """Ends the process with the status that schedulers expect after SIGTERM, 143."""

    def __init__(self):
        super().__init__(128 + signal.SIGTERM)

    def __str__(self):
        return "SIGTERM"


class StopBetweenSteps(keras.callbacks.Callback):
    """Stops training between two batches after Ctrl-C or SIGTERM.

    An exception raised within a batch may hit code that swallows it, and training would
    go on. The first Ctrl-C becomes a `KeyboardInterrupt` after the batch, the second
    one at once. SIGTERM becomes `Terminated` after the batch or, if it was the last one
    of its epoch, after the epoch's validation and checkpoint; schedulers may send it
    several times. Use it as a context around `fit`, and as the last callback.
    """

    def __init__(self):
        super().__init__()
        self.received = None
        self.previous = {}

    def __enter__(self):
        # Python lets only the main thread set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error):
        for number in [*self.previous]:
            self._restore(number)

    def _restore(self, number):
        # A handler that Python did not set can't be set again.
        signal.signal(number, self.previous.pop(number) or signal.SIG_DFL)

    def _note(self, number, frame):
        self.received = self.received or number
        if signal.SIGINT in self.previous:
            self._restore(signal.SIGINT)

    def on_train_batch_end(self, batch, logs=None):
        is_last = batch + 1 == self.params["steps"]
        if self.received == signal.SIGINT or not is_last:
            self._stop()

    def on_test_batch_end(self, batch, logs=None):
        if self.received == signal.SIGINT:
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._stop()

    def _stop(self):
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise Terminated


class StopAtNonFinite(keras.callbacks.Callback):
    """Ends training when loss or weights are not finite, before a checkpoint has them.

    The loss alone does not show it: a NaN potential compares false and so never fires.
    But gradients carry NaN to the first layer, whose kernel is checked after every
    batch. All weights, with the moving statistics of BatchNorm, are checked at the end
    of every epoch.

    `not_finite.npz` in the workdir then holds `inputs` and `labels` of that batch and
    of the `accumulation_steps` batches before it, one of which may be the cause, and
    the numbers `epoch` and `batch`, from 0.

    Args:
        workdir: path of a folder.
        batches: function that maps the number of an epoch, from 0, to the batches it
            trains on, a `tf.data.Dataset` of `(inputs, labels)`.
        accumulation_steps: int > 0. Batches per optimizer step.
        host: int >= 0. Number of this host. Each host saves its own part of the batch:
            host 1 writes `not_finite-1.npz`.

    Raises:
        ValueError: when loss or weights are not finite.
    """

    def __init__(self, workdir, batches, accumulation_steps=1, host=0):
        super().__init__()
        path = Path(workdir) / NOT_FINITE_FILE
        self.path = path.with_stem(f"{path.stem}-{host}") if host else path
        self.batches = batches
        self.kept = accumulation_steps + 1
        self.epoch = self.batch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.batch = batch
        if not math.isfinite(logs["loss"]):
            self._stop("loss")
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self._check(self.model.trainable_variables[:1])

    def on_epoch_end(self, epoch, logs=None):
        self._check(self.model.weights)

    def _check(self, variables):
        for variable in variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                self._stop(variable.path)

    def _stop(self, what):
        first = max(self.batch + 1 - self.kept, 0)
        batches = self.batches(self.epoch).skip(first).take(self.batch + 1 - first)
        inputs, labels = zip(*batches.as_numpy_iterator(), strict=True)
        with whole_file(self.path) as place:
            np.savez_compressed(
                place,
                inputs=inputs,
                labels=labels,
                epoch=self.epoch,
                batch=self.batch,
            )
        raise ValueError(
            f"Loss and weights must be finite. Received: {what} with NaN or infinity "
            f"after batch {self.batch + 1} of epoch {self.epoch + 1}. The batch is in "
            f"{self.path}; the checkpoint of the previous epoch is intact. A lower "
            "optimizer.learning_rate or an optimizer.clip_norm may help"
        )


class Together(keras.callbacks.Callback):
    """Makes every host wait at the end of an epoch until all have reached it.

    Args:
        hosts: `Hosts`.
    """

    def __init__(self, hosts):
        super().__init__()
        self.hosts = hosts

    def on_epoch_end(self, epoch, logs=None):
        self.hosts.gather(f"the end of epoch {epoch + 1}")

"""Checkpoints that survive an interruption at any moment, and news of a training."""

import contextlib
import io
import json
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import keras
import numpy as np
import tqdm

from keras_qkformer.analysis.firing_rate import firing_rate_model
from keras_qkformer.models.preset_files import WEIGHTS_FILE

STATE_FILE = "state.json"
BEST_FOLDER = "best"
METRICS_FILE = "metrics.jsonl"
NOT_FINITE_FILE = "not_finite.npz"


class Checkpoint(keras.callbacks.Callback):
    """Keeps the last epoch, to go on from, and the best one, to use.

    A workdir holds `checkpoints/epoch-0007.weights.h5` with weights and optimizer,
    `checkpoints/state.json` that names it, and the preset folder `best/`. Each is
    written beside its place and then renamed, so that whatever is there is whole.

    Args:
        workdir: path of a folder.
        metadata: dict that JSON can hold, for the metadata of the best preset.
        average: the `WeightAverage` whose weights the best preset gets, or `None` for
            those of the model.
        writes: bool. Whether it writes: of several hosts, one does.
    """

    def __init__(self, workdir, metadata, average=None, writes=True):
        super().__init__()
        self.average = average
        self.writes = writes
        self.workdir = Path(workdir)
        self.folder = self.workdir / "checkpoints"
        self.metadata = metadata
        self.state = {
            "epoch": 0,
            "weights": None,
            "random": [],
            "best": None,
            "history": {},
        }

    @property
    def epoch(self):
        """Number of finished epochs."""
        return self.state["epoch"]

    @property
    def history(self):
        """Dict from the name of a metric to its values, one per finished epoch."""
        return self.state["history"]

    @property
    def best(self):
        """Epoch (from 1), validation accuracy and loss of the best one, or `None`."""
        return self.state["best"]

    def restore(self, model):
        """Load the last checkpoint into a compiled model whose optimizer is built.

        Raises:
            ValueError: if there is a checkpoint that can't be read.
        """
        if not (self.folder / STATE_FILE).is_file():
            return
        if self.writes:
            self._finish_replacing_best()
        try:
            self.state = json.loads((self.folder / STATE_FILE).read_text())
            model.load_weights(self.folder / self.state["weights"])
            for variable, value in zip(
                _random_states(model), self.state["random"], strict=True
            ):
                variable.assign(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"A checkpoint must be one that fit has written. "
                f"Received: {str(self.folder)!r}: {error}"
            ) from error

    def on_train_begin(self, logs=None):
        # Something to go on from, should the first epoch be interrupted.
        if self.state["weights"] is None:
            self._save_last()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.state["epoch"] = epoch + 1
        names = ("val_accuracy", "val_loss")
        accuracy, loss = (self.history[name][-1] for name in names)
        best = self.best
        # Of equally accurate epochs, the one with the lower loss.
        if best is None or (accuracy, -loss) > (best[names[0]], -best[names[1]]):
            self.state["best"] = {
                "epoch": epoch + 1,
                "val_accuracy": accuracy,
                "val_loss": loss,
            }
            self._save_best()
        self._save_last()

    def _save_last(self):
        old, new = self.state["weights"], f"epoch-{self.epoch:04d}.weights.h5"
        partial = self.folder / f"partial-{new}"
        if not self.writes:
            return
        with _writing(self.folder / new, partial), _by_one_host():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.model.save_weights(partial)
            written = self.model.weights + self.model.optimizer.variables
            _check_whole(partial, written)
            os.replace(partial, self.folder / new)
        self.state["weights"] = new
        self.state["random"] = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in _random_states(self.model)
        ]
        write_json(self.folder / STATE_FILE, self.state)
        if old not in (None, new):
            (self.folder / old).unlink(missing_ok=True)

    def _save_best(self):
        applied = self.average.applied() if self.average else contextlib.nullcontext()
        with applied:  # By all hosts: it is a computation that they share.
            if self.writes:
                self._write_best()

    def _write_best(self):
        best, new, old = (
            self.workdir / f"{BEST_FOLDER}{suffix}" for suffix in ("", ".new", ".old")
        )
        shutil.rmtree(new, ignore_errors=True)
        with _writing(best, new), _by_one_host():
            self.model.save_to_preset(new, {**self.metadata, **self.state["best"]})
            _check_whole(new / WEIGHTS_FILE, self.model.weights)
        shutil.rmtree(old, ignore_errors=True)
        if best.exists():
            os.replace(best, old)
        os.replace(new, best)
        shutil.rmtree(old, ignore_errors=True)

    def _finish_replacing_best(self):
        best, old = self.workdir / BEST_FOLDER, self.workdir / f"{BEST_FOLDER}.old"
        if old.exists() and not best.exists():
            os.replace(old, best)


class StopBetweenSteps(keras.callbacks.Callback):
    """Turns the first Ctrl-C into a `KeyboardInterrupt` between two steps.

    Raised anywhere, it may hit code that swallows it, and training would go on. The
    second Ctrl-C is raised where it hits. Use it as a context around `fit`.
    """

    def __init__(self):
        super().__init__()
        self.interrupted = False
        self.previous = None

    def __enter__(self):
        # Python lets only the main thread set handlers.
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error):
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
            self.previous = None

    def _note(self, signum, frame):
        self.interrupted = True
        self.__exit__()

    def on_train_batch_end(self, batch, logs=None):
        if self.interrupted:
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch, logs=None):
        self.on_train_batch_end(batch)


class StopAtNonFinite(keras.callbacks.Callback):
    """Ends training when loss or weights are not finite, before they could be saved.

    The loss alone would not tell: a neuron takes NaN for no spike. But gradients carry
    it to the first layer, whose kernel is looked at after every batch. At the end of an
    epoch all weights are, with the moving statistics of BatchNorm.

    `not_finite.npz` in the workdir then has `inputs` and `labels` of the batch, and of
    those before it that may have done it: one, or as many as make an optimizer step;
    `epoch` and `batch` from 0.

    Args:
        workdir: path of a folder.
        batches: function of the number of an epoch that gives its batches, a
            `tf.data.Dataset` of `(inputs, labels)`, as they were.
        accumulation_steps: int > 0. Batches per optimizer step.
        host: int. Of several hosts, each keeps its part of the batch: that of host 1 is
            `not_finite-1.npz`.

    Raises:
        ValueError: when they are not finite.
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
        with _writing(self.path, self.path):
            np.savez_compressed(
                self.path,
                inputs=inputs,
                labels=labels,
                epoch=self.epoch,
                batch=self.batch,
            )
        raise ValueError(
            f"Loss and weights must be finite. Received: {what} with NaN or infinity "
            f"after batch {self.batch + 1} of epoch {self.epoch + 1}, which is kept in "
            f"{self.path}; the checkpoint of the epoch before is whole. A lower "
            "optimizer.learning_rate or an optimizer.clip_norm may help"
        )


class Report(keras.callbacks.Callback):
    """Tells how training goes: a bar, a line per epoch, a line of `metrics.jsonl`.

    Args:
        workdir: path of a folder.
        first_epoch: int. Number of the first epoch, from 0: lines of later ones, of an
            epoch that was interrupted, are removed.
        epochs: int. Number of the epoch that is no longer there.
        images_per_epoch: int.
        verbose: 0 for the file alone, 2 for lines, 1 for lines and a bar.
    """

    def __init__(self, workdir, first_epoch, epochs, images_per_epoch, verbose):
        super().__init__()
        self.path = Path(workdir) / METRICS_FILE
        self.first_epoch = first_epoch
        self.epochs = epochs
        self.images_per_epoch = images_per_epoch
        self.verbose = verbose
        self.bar = None
        self.shown = self.start = self.seconds = 0.0

    def on_train_begin(self, logs=None):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if json.loads(line)["epoch"] <= self.first_epoch]
        _write_text(self.path, "".join(f"{line}\n" for line in kept))
        self.bar = tqdm.tqdm(
            desc="training",
            total=self.epochs * self.images_per_epoch,
            initial=self.first_epoch * self.images_per_epoch,
            unit=" images",
            unit_scale=True,
            disable=self.verbose != 1,
            dynamic_ncols=True,
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        images = self.images_per_epoch * (batch + 1) // self.params["steps"]
        now = time.monotonic()
        if now - self.shown > 0.5:
            self.shown = now
            self.bar.set_postfix(_rounded(logs), refresh=False)
        # By its end, so that the parts of all batches make a whole epoch.
        self.bar.update(images - self.images_per_epoch * batch // self.params["steps"])
        self.seconds = now - self.start

    def on_epoch_end(self, epoch, logs=None):
        record = {
            "epoch": epoch + 1,
            **{name: float(value) for name, value in logs.items()},
            "learning_rate": float(self.model.optimizer.learning_rate),
            "images_per_second": round(self.images_per_epoch / self.seconds, 2),
            "seconds": round(time.monotonic() - self.start, 2),
        }
        with _writing(self.path), open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
        if self.verbose:
            del record["epoch"]
            values = ", ".join(f"{k} {v}" for k, v in _rounded(record).items())
            self.bar.write(f"epoch {epoch + 1}/{self.epochs}: {values}")

    def on_train_end(self, logs=None):
        self.bar.close()


class Together(keras.callbacks.Callback):
    """No host begins an epoch before all have ended the one before.

    Args:
        hosts: `Hosts`.
    """

    def __init__(self, hosts):
        super().__init__()
        self.hosts = hosts

    def on_epoch_end(self, epoch, logs=None):
        self.hosts.gather(f"the end of epoch {epoch + 1}")


class Pictures(keras.callbacks.Callback):
    """For TensorBoard: firing rates of every layer, and images as the model sees them.

    Args:
        folder: path of the log folder of training.
        examples: array of validation inputs, as the model takes them.
        training: `tf.data.Dataset` of the batches that are trained on.
        mean: of the values in [0, 1], one per channel, which was taken away.
        std: of the values in [0, 1], one per channel, by which they were divided.
    """

    def __init__(self, folder, examples, training, mean, std):
        super().__init__()
        self.folder = Path(folder)
        self.examples = examples
        self.training = training
        self.mean = np.asarray(mean, "float32")
        self.std = np.asarray(std, "float32")
        self.writer = self.rates = None

    def on_epoch_begin(self, epoch, logs=None):
        import tensorflow as tf

        if self.writer is not None:
            return
        self.rates = firing_rate_model(self.model)
        self.writer = tf.summary.create_file_writer(str(self.folder))
        if self.examples.ndim == 4:
            (images, _), *_ = self.training.take(1).as_numpy_iterator()
            images = np.clip(images[:16] * self.std + self.mean, 0, 1)
            with self.writer.as_default():
                tf.summary.image("augmented", images, step=epoch, max_outputs=16)

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        rates = self.rates.predict(self.examples, verbose=0)
        with self.writer.as_default():
            for path, rate in rates.items():
                tf.summary.scalar(f"firing_rate/{path}", rate.mean(), step=epoch)

    def on_train_end(self, logs=None):
        self.writer.close()


def _rounded(values):
    return {k: float(f"{v:.4g}") if v % 1 else int(v) for k, v in values.items()}


def _random_states(model):
    """The variables of a model's random generators: its weights file has none."""
    weights = {id(variable) for variable in model.weights}
    return [v for v in model.non_trainable_variables if id(v) not in weights]


def write_json(path, value):
    """Write a JSON file so that it is whole at any moment."""
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path, text):
    partial = path.with_name(f"partial-{path.name}")
    with _writing(path, partial):
        partial.write_text(text)
        os.replace(partial, path)


def _check_whole(path, variables):
    """Raise `OSError` unless a weights file has all that was to be written.

    HDF5 swallows the error of a disk that fills up while a file is closed.
    """
    import h5py

    sizes = []

    def read(name, item):
        if isinstance(item, h5py.Dataset):
            sizes.append(item[()].size)

    try:
        # Not by its path: HDF5 would show what it wanted to write.
        with h5py.File(io.BytesIO(Path(path).read_bytes())) as file:
            file.visititems(read)
    except KeyError as error:  # Where an entry leads nowhere.
        raise OSError(f"it can't be read back: {error}") from error
    wanted = sum(math.prod(variable.shape) for variable in variables)
    if sum(sizes) < wanted:
        raise OSError(f"only {sum(sizes)} of {wanted} numbers arrived")


@contextlib.contextmanager
def _by_one_host():
    """Context in which no variable is shared: Keras makes some while it saves."""
    kept = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(kept)


@contextlib.contextmanager
def _writing(path, partial=None):
    """Turns a failure inside into an `OSError` that says what could not be written.

    What was written of it, at `partial`, is removed: it may have filled the disk.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # The latter from HDF5 at its end.
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written; what was there before is whole: {error}"
        ) from error

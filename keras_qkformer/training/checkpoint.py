"""Checkpoints that survive an interruption at any moment."""

import contextlib
import io
import json
import math
from pathlib import Path

import keras

from keras_qkformer.files import (
    beside,
    finish_replacing,
    remove_partial,
    replace_folder,
    whole_file,
    write_json,
    writing,
)
from keras_qkformer.models.preset_files import METADATA_FILE, WEIGHTS_FILE
from keras_qkformer.trained import BEST_FOLDER
from keras_qkformer.training.workdir import CHECKPOINTS_FOLDER, STATE_FILE


class Checkpoint(keras.callbacks.Callback):
    """Keeps the last epoch, to resume from, and the best one, to use.

    A workdir holds `checkpoints/epoch-0007.weights.h5` with the weights and the state
    of the optimizer, `checkpoints/state.json`, which names it, and the preset folder
    `best/`. Each is written under another name and then renamed, so none is ever half
    written.

    Args:
        workdir: path of a folder.
        metadata: dict that JSON can hold, for the metadata of `best/`.
        average: the `WeightAverage` whose weights `best/` gets, or `None` for those of
            the model.
        writes: bool. Whether this host writes the files; exactly one host does.
    """

    def __init__(self, workdir, metadata, average=None, writes=True):
        super().__init__()
        self.average = average
        self.writes = writes
        self.workdir = Path(workdir)
        self.folder = self.workdir / CHECKPOINTS_FOLDER
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
        """Load the last checkpoint into a model; do nothing if there is none.

        Args:
            model: a compiled model whose optimizer is built.

        Raises:
            ValueError: if there is a checkpoint that can't be read.
        """
        self.set_model(model)
        if self.writes:
            finish_replacing(self.workdir / BEST_FOLDER)
            for folder in (self.workdir, self.folder):
                remove_partial(folder)
        if not (self.folder / STATE_FILE).is_file():
            return
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
        if self.writes:  # A killed process could not remove the checkpoint before.
            for path in self.folder.glob("epoch-*"):
                if path.name != self.state["weights"]:
                    path.unlink()

    def lacks_best(self):
        """Return whether `best/` is still to be written, see `save_best`.

        Raises:
            ValueError: if it is missing and can't be made from the last checkpoint.
        """
        if self.best is None:
            return False
        wanted, path = self.best["epoch"], self.workdir / BEST_FOLDER / METADATA_FILE
        try:
            found = json.loads(path.read_text())["epoch"]
        except (OSError, ValueError, KeyError, TypeError):
            found = None
        if found != wanted and wanted != self.epoch:
            raise ValueError(
                f"{path.parent} must hold the weights of epoch {wanted}, the best so "
                f"far. Received: {'nothing' if found is None else f'epoch {found}'}"
            )
        return found != wanted

    def on_train_begin(self, logs=None):
        # Training interrupted in its first epoch resumes from the initial weights.
        if self.state["weights"] is None:
            self._save_last()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.state["epoch"] = epoch + 1
        names = ("val_accuracy", "val_loss")
        accuracy, loss = (self.history[name][-1] for name in names)
        best = self.best
        # The lower loss decides between equally accurate epochs.
        better = best is None or (accuracy, -loss) > (best[names[0]], -best[names[1]])
        if better:
            self.state["best"] = {
                "epoch": epoch + 1,
                "val_accuracy": accuracy,
                "val_loss": loss,
            }
        # The checkpoint first: `best/` can be made from it, but not the other way.
        self._save_last()
        if better:
            self.save_best()

    def _save_last(self):
        old, new = self.state["weights"], f"epoch-{self.epoch:04d}.weights.h5"
        if not self.writes:
            return
        with whole_file(self.folder / new) as place, _by_one_host():
            self.model.save_weights(place)
            _check_whole(place, self.model.weights + self.model.optimizer.variables)
        self.state["weights"] = new
        self.state["random"] = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in _random_states(self.model)
        ]
        write_json(self.folder / STATE_FILE, self.state)
        if old not in (None, new):
            (self.folder / old).unlink(missing_ok=True)

    def save_best(self):
        """Write the model, whose epoch is the best so far, into `best/`."""
        applied = self.average.applied() if self.average else contextlib.nullcontext()
        with applied:  # On all hosts: they compute it together.
            if self.writes:
                self._write_best(self.workdir / BEST_FOLDER)

    def _write_best(self, best):
        with writing(best), beside(best) as new, _by_one_host():
            self.model.save_to_preset(new, {**self.metadata, **self.state["best"]})
            _check_whole(new / WEIGHTS_FILE, self.model.weights)
            replace_folder(new, best)


def _random_states(model):
    """The variables of a model's random generators: its weights file has none."""
    weights = {id(variable) for variable in model.weights}
    return [v for v in model.non_trainable_variables if id(v) not in weights]


def _check_whole(path, variables):
    """Raise `OSError` unless a weights file holds every value of the variables.

    HDF5 swallows the error of a disk that fills up while the file is being closed.
    """
    import h5py

    sizes = []

    def read(name, item):
        if isinstance(item, h5py.Dataset):
            sizes.append(item[()].size)

    try:
        # Read the bytes ourselves: HDF5 would answer from what it meant to write.
        with h5py.File(io.BytesIO(Path(path).read_bytes())) as file:
            file.visititems(read)
    except KeyError as error:  # An entry points to nothing.
        raise OSError(f"it can't be read back: {error}") from error
    wanted = sum(math.prod(variable.shape) for variable in variables)
    if sum(sizes) < wanted:
        raise OSError(f"only {sum(sizes)} of {wanted} numbers arrived")


@contextlib.contextmanager
def _by_one_host():
    """Context without a distribution: saving creates variables on this host alone."""
    kept = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(kept)

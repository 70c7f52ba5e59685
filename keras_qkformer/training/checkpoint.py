"""Checkpoints that survive an interruption at any moment."""

import contextlib
import hashlib
import io
import json
import math
import warnings
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.files import (
    beside,
    file_digest,
    finish_replacing,
    replace_folder,
    whole_file,
    write_text,
    writing,
)
from keras_qkformer.forms import PresetMetadata, State
from keras_qkformer.json_files import LARGE_LIMIT, read_json
from keras_qkformer.manifest import Contents, IntegrityWarning, forgiven
from keras_qkformer.models.loading import load_finite_weights
from keras_qkformer.partial_folders import remove_partial
from keras_qkformer.presets.folders import (
    METADATA_FILE,
    WEIGHTS_FILE,
    check_preset,
)
from keras_qkformer.trained import BEST_FOLDER
from keras_qkformer.training.workdir import CHECKPOINTS_FOLDER, STATE_FILE

STATE_BEFORE_FILE = "state-before.json"


class Checkpoint(keras.callbacks.Callback):
    """Keeps the last epoch, to resume from, and the best one, to use.

    A workdir holds `checkpoints/epoch-0007.weights.h5` with the weights and the state
    of the optimizer, `checkpoints/state.json`, which names it and holds its SHA-256,
    and the preset folder `best/`. Each is written under another name and then renamed,
    so none is ever half written. Until training ends, the checkpoint of the epoch
    before stays too, with its state in `state-before.json`, in case the last one is
    damaged.

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
        self.written = None  # The text of the state file.

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
            ValueError: if there are checkpoints and none of them can be read.
        """
        self.set_model(model)
        if self.writes:
            finish_replacing(self.workdir / BEST_FOLDER)
            for folder in (self.workdir, self.folder, self.workdir / BEST_FOLDER):
                remove_partial(folder)
        if not any(self.folder.glob("state*.json")):
            if {path.name for path in self.folder.glob("epoch-*")} - {_name(0)}:
                raise ValueError(
                    f"A checkpoint must have its {STATE_FILE}. "
                    f"Received: {str(self.folder)!r} without"
                )
            return
        before = self.folder / STATE_BEFORE_FILE
        try:
            self.state = self._load(model, self.folder / STATE_FILE)
        except (OSError, ValueError) as error:
            if not before.is_file():
                raise
            self.state = self._load(model, before)
            warnings.warn(
                f"{error}. Training goes on from the checkpoint before, of epoch "
                f"{self.epoch}",
                IntegrityWarning,
                stacklevel=2,
            )
        if self.writes:  # A killed process could not remove older checkpoints.
            self._remove_all_but({_name(self.epoch), _name(self.epoch - 1)})

    def _load(self, model, path):
        """Load the checkpoint of a state file into a model and return its state."""
        rule = "A checkpoint must be one that fit has written."
        state = read_json(path, State, LARGE_LIMIT)
        digests, weights = state.pop("sha256", None), self.folder / state["weights"]
        if digests is None:
            warnings.warn(
                f"{path} was written by an older version, without SHA-256: damage to "
                "its numbers would not show",
                IntegrityWarning,
                stacklevel=3,
            )
        _check_digest(path, _digest_of(state), (digests or {}).get("state"))
        if not weights.is_file():
            raise ValueError(f"{rule} Received: {str(weights)!r}, which is missing")
        contents = Contents(weights)
        _check_digest(weights, contents.digest, (digests or {}).get("weights"))
        lengths = {name: len(values) for name, values in state["history"].items()}
        if {*lengths.values()} - {state["epoch"]}:
            raise ValueError(
                f"{path} must have a value of each metric for each of the "
                f"{state['epoch']} epochs. Received: {lengths}"
            )
        variables = _random_states(model)
        shapes = [list(variable.shape) for variable in variables]
        if shapes != [[len(values)] for values in state["random"]]:
            raise ValueError(
                f"{rule} Received: {path} with other random states than {shapes}"
            )
        load_finite_weights(model, contents, rule)
        try:
            for variable, values in zip(variables, state["random"], strict=True):
                variable.assign(np.array(values, variable.dtype))
        except OverflowError as error:
            raise ValueError(f"{rule} Received: {path}: {error}") from error
        self.written = _text_of(state, digests)
        return state

    def lacks_best(self):
        """Return whether `best/` is still to be written, see `save_best`.

        Raises:
            ValueError: if it is missing or damaged, and can't be made from the last
                checkpoint.
        """
        if self.best is None:
            return False
        wanted, folder = self.best["epoch"], self.workdir / BEST_FOLDER
        try:
            found = read_json(folder / METADATA_FILE, PresetMetadata)["epoch"]
            check_preset(folder)
        except (OSError, ValueError, KeyError) as error:
            found, received = None, str(error)
        else:
            received = f"epoch {found}"
        # After a damaged checkpoint, its epoch is trained again, into `best/` again.
        if found in (wanted, self.epoch + 1):
            return False
        if wanted != self.epoch:
            raise ValueError(
                f"{folder} must hold the weights of epoch {wanted}, the best so far. "
                f"Received: {received}"
            )
        return True

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
        new = _name(self.epoch)
        if not self.writes:
            return
        with whole_file(self.folder / new) as place, _by_one_host():
            self.model.save_weights(place)
            _check_whole(place, self.model.weights + self.model.optimizer.variables)
            digest = file_digest(place)
        if self.written is not None:
            write_text(self.folder / STATE_BEFORE_FILE, self.written)
        self.state["weights"] = new
        self.state["random"] = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in _random_states(self.model)
        ]
        digests = {"weights": digest, "state": _digest_of(self.state)}
        self.written = _text_of(self.state, digests)
        write_text(self.folder / STATE_FILE, self.written)
        self._remove_all_but({new, _name(self.epoch - 1)})

    def on_train_end(self, logs=None):
        if self.writes:
            (self.folder / STATE_BEFORE_FILE).unlink(missing_ok=True)
            self._remove_all_but({self.state["weights"]})

    def _remove_all_but(self, kept):
        for path in self.folder.glob("epoch-*.weights.h5"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

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


def _name(epoch):
    return f"epoch-{epoch:04d}.weights.h5"


def _text_of(state, digests):
    """The text of a state file."""
    if digests is not None:
        state = {**state, "sha256": digests}
    return json.dumps(state, indent=2) + "\n"


def _digest_of(state):
    """The SHA-256 of a state, however its file is laid out."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _check_digest(path, digest, wanted):
    """Raise `ValueError` if a file has another SHA-256 than one that is known."""
    with forgiven():
        if wanted not in (None, digest):
            raise ValueError(
                "A checkpoint must be one that fit has written. "
                f"Received: {str(path)!r} with another SHA-256"
            )


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

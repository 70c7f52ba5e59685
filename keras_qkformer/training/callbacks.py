"""Checkpoints that survive an interruption at any moment."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import keras

STATE_FILE = "state.json"
BEST_FOLDER = "best"


class Checkpoint(keras.callbacks.Callback):
    """Keeps the last epoch, to go on from, and the best one, to use.

    A workdir holds `checkpoints/epoch-0007.weights.h5` with weights and optimizer,
    `checkpoints/state.json` that names it, and the preset folder `best/`. Each is
    written beside its place and then renamed, so that whatever is there is whole.

    Args:
        workdir: path of a folder.
        metadata: dict that JSON can hold, for the metadata of the best preset.
    """

    def __init__(self, workdir, metadata):
        super().__init__()
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
        self.folder.mkdir(parents=True, exist_ok=True)
        old, new = self.state["weights"], f"epoch-{self.epoch:04d}.weights.h5"
        partial = self.folder / f"partial-{new}"
        self.model.save_weights(partial)
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
        best, new, old = (
            self.workdir / f"{BEST_FOLDER}{suffix}" for suffix in ("", ".new", ".old")
        )
        shutil.rmtree(new, ignore_errors=True)
        self.model.save_to_preset(new, {**self.metadata, **self.state["best"]})
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


def _random_states(model):
    """The variables of a model's random generators: its weights file has none."""
    weights = {id(variable) for variable in model.weights}
    return [v for v in model.non_trainable_variables if id(v) not in weights]


def write_json(path, value):
    """Write a JSON file so that it is whole at any moment."""
    partial = path.with_name(f"partial-{path.name}")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, path)

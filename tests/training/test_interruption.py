"""A training struck at each of its operations on files goes on as if nothing had been.

The model is a stand-in of three numbers; what writes and reads files is ours.
"""

import builtins
import errno
import io
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from keras_qkformer.manifest import write_manifest
from keras_qkformer.training import workdir as workdir_files
from keras_qkformer.training.checkpoint import Checkpoint
from keras_qkformer.training.recipe import Data, Optimizer, Recipe
from keras_qkformer.training.report import Report
from keras_qkformer.training.workdir import (
    check_workdir,
    restore_metrics,
    write_recipe,
    write_results,
)

pytestmark = pytest.mark.backend_independent

RECIPE = Recipe(
    preset="qkformer_tiny",
    data=Data(name="digits", train="a", validation="b", test="c", batch_size=8),
    optimizer=Optimizer(epochs=3, learning_rate=0.1),
)
ACCURACIES = (0.25, 0.75, 0.5)
"""By epoch: the best one is neither the first nor the last."""


class Numbers:
    """What a checkpoint asks of a model; its epochs are arithmetic."""

    def __init__(self):
        self.weights = [np.ones(3)]
        self.non_trainable_variables = []
        self.optimizer = SimpleNamespace(variables=[], learning_rate=0.1)

    def train(self, epoch):
        self.weights[0] = self.weights[0] * 3 + epoch
        loss = float(self.weights[0].sum())
        return {"loss": loss, "val_accuracy": ACCURACIES[epoch], "val_loss": loss}

    def save_weights(self, path):
        file = io.BytesIO()
        with h5py.File(file, "w") as content:
            content["numbers"] = self.weights[0]
        Path(path).write_bytes(file.getvalue())

    def load_weights(self, path):
        with h5py.File(path) as content:
            self.weights[0] = content["numbers"][()]

    def save_to_preset(self, folder, metadata):
        folder.mkdir()
        self.save_weights(folder / "model.weights.h5")
        (folder / "metadata.json").write_text(json.dumps(metadata))
        write_manifest(folder)


def train(workdir):
    """The stages of `fit` that touch files, in its order."""
    check_workdir(RECIPE, workdir)
    model, checkpoint = Numbers(), Checkpoint(workdir, {})
    checkpoint.restore(model)
    if checkpoint.lacks_best():
        checkpoint.save_best()
    first = checkpoint.epoch
    write_recipe(workdir, RECIPE)
    restore_metrics(workdir, checkpoint.history)
    if first < len(ACCURACIES):
        report = Report(workdir, first, len(ACCURACIES), 8, verbose=0)
        for callback in (checkpoint, report):
            callback.set_model(model)
            callback.set_params({"steps": 1})
            callback.on_train_begin()
        for epoch in range(first, len(ACCURACIES)):
            report.on_epoch_begin(epoch)
            logs = model.train(epoch)
            report.on_train_batch_end(0, logs)
            checkpoint.on_epoch_end(epoch, logs)
            report.on_epoch_end(epoch, logs)
        report.__exit__()
    predictions = {"images": np.ones(1), "logits": np.ones((2, 3))}
    results = {"best": checkpoint.best, "history": checkpoint.history}
    write_results(workdir, results, predictions, {"a.png": "empty"})


class Killed(BaseException):
    """Nothing more of the process happens: neither `finally` nor a file."""


class Disk:
    """Counts the operations on files, and strikes at one of them.

    Args:
        patch: `pytest.MonkeyPatch`.
        number: int. The operation to strike at, from 0.
        blow: `"kill"`, `"full"` (then nothing more can be written) or `"ctrl-c"`.
    """

    def __init__(self, patch, number, blow):
        self.number, self.blow = number, blow
        self.count, self.struck, self.synced = 0, False, {}
        for name in ("mkdir", "replace", "rename", "unlink", "rmdir", "fsync"):
            patch.setattr(os, name, self._counted(getattr(os, name), name))
        opened = self._opened(io.open)
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)

    def strikes(self, fills=True):
        """Raise if it is time; `fills` if the operation needs room on the disk."""
        now = self.count == self.number and not self.struck
        self.count += 1
        self.struck |= now
        if self.struck and self.blow == "kill":
            raise Killed
        if now and self.blow == "ctrl-c":
            raise KeyboardInterrupt
        if self.struck and self.blow == "full" and fills:
            raise OSError(errno.ENOSPC, "No space left on device")

    def _counted(self, function, name):
        def counted(*arguments, **options):
            self.strikes(fills=name in ("mkdir", "fsync"))
            result = function(*arguments, **options)
            if name == "fsync":
                self.sync(arguments[0])
            return result

        return counted

    def _opened(self, function):
        def opened(file, mode="r", *arguments, **options):
            if mode.strip("bt") == "r":
                return function(file, mode, *arguments, **options)
            self.strikes()
            return Written(function(file, mode, *arguments, **options), self)

        return opened

    def sync(self, descriptor):
        seen = os.fstat(descriptor)
        self.synced[seen.st_ino] = seen.st_size, seen.st_mtime_ns

    def lose_power(self, folder):
        """Keep half of every file that was not synced since it was last written."""
        for path in folder.rglob("*"):
            seen = path.stat()
            state = seen.st_size, seen.st_mtime_ns
            if path.is_file() and self.synced.get(seen.st_ino) != state:
                os.truncate(path, seen.st_size // 2)


class Written:
    """A file of which a struck write leaves half."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        try:
            self.disk.strikes()
        except BaseException:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise
        return self.file.write(data)


def contents(workdir):
    """Every file and what is in it; of the lines, what does not depend on the time."""
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = str(path.relative_to(workdir))
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                found[name] = file["numbers"][()].tolist()
        elif path.suffix == ".npz":
            with np.load(path) as file:
                found[name] = {key: file[key].tolist() for key in file}
        elif name == "metrics.jsonl":
            timed = ("learning_rate", "images_per_second", "seconds")
            found[name] = [
                {k: v for k, v in json.loads(line).items() if k not in timed}
                for line in path.read_text().splitlines()
            ]
        else:
            found[name] = path.read_text() if path.is_file() else None
    return found


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where there is one: disks take their time."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("blow", "every"), [("power", 1), ("kill", 3), ("full", 3), ("ctrl-c", 3)]
)
def test_training_struck_at_any_operation_goes_on_to_the_same_files(
    memory, monkeypatch, blow, every
):
    monkeypatch.setattr(workdir_files, "provenance", dict)
    # A real one takes 10 ms; `Disk` keeps account of what is synced.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    train(memory / "whole")
    wanted = contents(memory / "whole")
    assert [line["epoch"] for line in wanted["metrics.jsonl"]] == [1, 2, 3]
    assert json.loads(wanted["best/metadata.json"])["epoch"] == 2
    for number in itertools.count(step=every):
        workdir = memory / str(number)
        with monkeypatch.context() as patch:
            disk = Disk(patch, number, "kill" if blow == "power" else blow)
            try:
                train(workdir)
            except (Killed, KeyboardInterrupt) as error:
                assert blow != "full", error
            except OSError as error:
                assert blow == "full" and "could not be written" in str(error)
        if not disk.struck:
            break
        if blow == "power":
            disk.lose_power(workdir)
        train(workdir)
        assert contents(workdir) == wanted, number
        shutil.rmtree(workdir)
    assert number > 90, "the operations that were struck"


def test_best_weights_that_are_gone_are_told_before_training(tmp_path):
    train(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "best")
    with pytest.raises(ValueError, match="best must hold the weights of epoch 2"):
        train(tmp_path / "run")

"""What a training says while it runs, by a clock of the test's own."""

import contextlib
import json
import os
import re
import runpy
import struct
import sys
import warnings
from types import SimpleNamespace

import pytest
import tqdm
import tqdm.notebook

from keras_qkformer.training import report
from keras_qkformer.training.report import Report

pytestmark = pytest.mark.backend_independent

LOGS = {"accuracy": 0.51239, "loss": 1.23456}
VALIDATED = {**LOGS, "val_accuracy": 0.25, "val_loss": 2.0}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until its `now` is set."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(report, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_notebook_without_widgets_gives_no_warning(monkeypatch):
    ipython = SimpleNamespace(get_ipython=SimpleNamespace)
    for name in ("IPython", "ipykernel.zmqshell"):
        monkeypatch.setitem(sys.modules, name, ipython)
    for name in ("QT_API", *(n for n in os.environ if n.startswith("SPYDER"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tqdm.notebook, "IProgress", None)
    for name in ("tqdm.auto", "tqdm.autonotebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runpy.run_path(report.__file__)
    assert "tqdm.autonotebook" in sys.modules
    assert not caught


def train(callback, clock, epochs, first_step=100.0, first_test=50.0):
    """Epochs of 4 steps of 10 s and 2 of validation; the first of each compile."""
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1)))
    callback.set_params({"steps": 4})
    callback.on_train_begin()
    for epoch in epochs:
        callback.on_epoch_begin(epoch)
        for batch in range(4):
            clock.now += 10.0 if batch or epoch != epochs[0] else first_step
            callback.on_train_batch_end(batch, LOGS)
        callback.on_test_begin()
        for batch in range(2):
            clock.now += 1.0 if batch or epoch != epochs[0] else first_test
            callback.on_test_batch_end(batch, LOGS)
        callback.on_epoch_end(epoch, VALIDATED)


def test_without_a_terminal_no_silence_is_longer_than_half_a_minute(
    tmp_path, clock, capsys
):
    """16 images in 10 s, measured without what compiles: 1.6 a second."""
    with Report(tmp_path, 1, 3, 64, verbose=2) as callback:
        train(callback, clock, (1, 2))
    values = "accuracy 0.512, loss 1.23"
    validation = "val_accuracy 0.25, val_loss 2"
    output, errors = capsys.readouterr()
    assert output.splitlines() == [
        "compiling: the first step takes longer",
        "compiled in 100.0 s",
        # 48 images in 30 s; 64 are left.
        f"epoch 2/3, step 4/4: {values}, 00:40 left",
        f"epoch 2/3, validation step 1: {values}, 00:40 left",
        f"epoch 2/3: {values}, {validation}, 181 s",
        # 96 images in 61 s, one of which was validation; 16 are left.
        f"epoch 3/3, step 3/4: {values}, 00:10 left",
        f"epoch 3/3: {values}, {validation}, 42 s",
    ]
    assert errors == ""
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["images_per_second"] for r in records] == [1.6, 1.6]
    assert [r["seconds"] for r in records] == [181.0, 42.0]


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo terminals")
def test_bar_fits_into_a_terminal(tmp_path, clock, capsys, monkeypatch):
    import fcntl
    import termios

    monkeypatch.setattr(tqdm.std, "time", lambda: clock.now)
    written, (ours, theirs) = b"", os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with Report(tmp_path, 0, 300, 1_281_167, verbose="auto") as callback:
            train(callback, clock, range(11, 14))
    with contextlib.suppress(OSError):  # That is how a terminal ends.
        while part := os.read(ours, 1 << 16):
            written += part
    os.close(ours)
    shown = re.split(r"[\r\n]+", written.decode())
    assert max(map(len, shown + capsys.readouterr().out.splitlines())) <= 80
    # 11 steps of 320,292 images and 5 validation steps in 115 s; 286 epochs are left.
    last = [part for part in shown if "14/300" in part][-1]
    assert re.match(r"epoch 14/300 +5%\|.*\| 3:19:19 left, 30.6k images/s, acc", last)

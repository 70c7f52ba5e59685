"""What is told as a mistake of the user's, and what as a bug of ours."""

import argparse
import importlib
import io
import json
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from keras_qkformer.cli import main as cli_main
from keras_qkformer.cli.main import main
from keras_qkformer.cli.process import (
    NOBODY_READS,
    backend_to_come,
    hidden_modules,
    run_command,
)
from keras_qkformer.manifest import IntegrityWarning
from keras_qkformer.mistakes import PACKAGE, is_mistake
from keras_qkformer.training import fit as training_fit
from keras_qkformer.training import recipe_table
from keras_qkformer.training.callbacks import Terminated

pytestmark = pytest.mark.backend_independent


def raised(source, file):
    """The exception of a piece of code that stands in a file of that name."""
    with pytest.raises(Exception) as caught:
        exec(compile(source, str(file), "exec"), {"np": np})
    return caught.value


@pytest.mark.parametrize(
    ("source", "place", "expected"),
    [
        ("raise ValueError('tau must be above 1')", PACKAGE / "ops" / "lif.py", True),
        ("raise ValueError('a rule of another library')", "/other/lib.py", False),
        ("int('seven')", PACKAGE / "ops" / "lif.py", False),
        ("np.zeros(2).reshape(3)", PACKAGE / "ops" / "lif.py", False),
        ("{}['key']", PACKAGE / "ops" / "lif.py", False),
        ("raise TypeError('unexpected argument')", PACKAGE / "fit.py", False),
        (
            "try:\n    int('x')\n"
            "except ValueError as error:\n    raise ValueError('a rule') from error",
            PACKAGE / "fit.py",
            True,
        ),
        ("open('/no/such/file')", "/other/lib.py", True),
        ("import no_such_package", PACKAGE / "fit.py", True),
    ],
)
def test_only_rules_that_we_state_are_mistakes(source, place, expected):
    assert is_mistake(raised(source, place)) is expected


def test_a_command_that_a_notebook_starts_draws_without_it(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    seen = []
    monkeypatch.setattr(
        cli_main, "main", lambda: seen.append(os.environ["MPLBACKEND"]) or 0
    )
    with pytest.raises(SystemExit):
        cli_main.run_script()
    assert seen == ["agg"]


def test_hidden_modules_are_absent_until_the_end_but_for_those_that_are_loaded(
    monkeypatch,
):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with hidden_modules(["colorsys", "json"]):
        with pytest.raises(ImportError):
            importlib.import_module("colorsys")
        assert importlib.import_module("json") is json
    assert importlib.import_module("colorsys").rgb_to_hsv


@pytest.mark.parametrize(
    ("variable", "file", "expected"),
    [
        ("torch", '{"backend": "jax"}', "torch"),
        (None, '{"backend": "jax"}', "jax"),
        (None, "no JSON", "tensorflow"),
        (None, None, "tensorflow"),
    ],
)
def test_backend_is_known_before_keras_chooses_it(
    tmp_path, monkeypatch, variable, file, expected
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if file is not None:
        (tmp_path / "keras.json").write_text(file)
    assert backend_to_come() == expected


@pytest.mark.skipif(os.name == "nt", reason="users as on POSIX")
def test_a_user_without_a_home_has_the_default_backend(monkeypatch):
    import pwd

    for name in ("HOME", "KERAS_HOME", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert backend_to_come() == "tensorflow"


def test_a_bug_is_one_line_with_the_place_of_its_traceback(monkeypatch, capsys):
    def fail(folder):
        return np.zeros(2).reshape(3)

    monkeypatch.setattr(recipe_table, "recipe_table", fail)
    assert main(["recipes"]) == 1
    output, error = capsys.readouterr()
    assert (output, len(error.splitlines())) == ("", 1)
    assert error.startswith("keras-qkformer: bug: ValueError: cannot reshape")
    log = Path(re.search(r"the traceback is in (\S+\.log)", error)[1])
    assert "np.zeros(2).reshape(3)" in log.read_text()
    log.unlink()


@pytest.mark.parametrize(
    "line",
    [
        "predict m a.png --top 0",
        "predict --url http://h/v1/models/m a.png --retries -1",
        "export m --top 0",
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_runs(line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    error = capsys.readouterr().err
    assert (stop.value.code, len(error.splitlines())) == (2, 1)
    assert "must be a whole number" in error


def test_debug_raises_whatever_it_is(monkeypatch):
    def fail(folder):
        raise ValueError("a rule. Received: nothing")

    monkeypatch.setattr(recipe_table, "recipe_table", fail)
    with pytest.raises(ValueError, match="a rule"):
        main(["recipes", "--debug"])


@pytest.mark.parametrize(
    ("error", "how", "status"),
    [(KeyboardInterrupt, "interrupted", 130), (Terminated, "terminated", 143)],
)
def test_interrupted_fit_says_how_to_go_on(monkeypatch, capsys, error, how, status):
    def interrupt(recipe, workdir, **options):
        raise error

    monkeypatch.setattr(training_fit, "fit_and_load", interrupt)
    recipe = Path(__file__).parents[2] / "recipes" / "digits.py"
    assert main(["fit", str(recipe), "--workdir", "elsewhere"]) == status
    assert capsys.readouterr().err.strip() == (
        f"keras-qkformer: {how}; the same command goes on after the last whole epoch "
        "in elsewhere"
    )


def test_missing_matplotlib_is_told_before_training(monkeypatch, capsys):
    def train(recipe, workdir, **options):
        print("training")
        raise KeyboardInterrupt

    monkeypatch.setattr(training_fit, "fit_and_load", train)
    monkeypatch.setitem(sys.modules, "keras_qkformer.analysis.figures.training", None)
    recipe = Path(__file__).parents[2] / "recipes" / "digits.py"
    monkeypatch.setattr(sys, "stderr", sys.stdout)  # In one order.
    assert main(["fit", str(recipe), "--workdir", "elsewhere"]) == 130
    assert re.match(r"no figures: .*\ntraining\n", capsys.readouterr().out)


def test_a_warning_of_a_command_is_one_line(monkeypatch, capsys):
    """A place in the code helps who wrote the code, not who types the command."""
    told = []

    def recipe_table_of(_):
        for category in (IntegrityWarning, DeprecationWarning):
            told.append(warnings.formatwarning("a\n  b\x1b", category, "file.py", 3))
        return ""

    monkeypatch.setattr(recipe_table, "recipe_table", recipe_table_of)
    before = warnings.formatwarning
    assert main(["recipes"]) == 0
    ours, theirs = told
    assert ours == "keras-qkformer: warning: a b\\x1b\n"
    assert theirs.startswith("file.py:3: DeprecationWarning: a")
    assert warnings.formatwarning is before


def test_letters_that_a_terminal_lacks_end_no_command(monkeypatch):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, "iso-8859-1", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(cli_main, "main", lambda: print("caf\xe9 \u732b") or 0)
    monkeypatch.setenv("MPLBACKEND", "agg")
    with pytest.raises(SystemExit, match="0"):
        cli_main.run_script()
    assert written.getvalue() == b"caf\xe9 \\u732b\n"


def test_a_reader_that_has_enough_ends_a_command_without_a_word(monkeypatch, capfd):
    def run(arguments):
        for _ in range(100_000):
            print("qkformer_tiny")

    reading, writing = os.pipe()
    os.close(reading)  # As `head` does.
    with open(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        status = run_command(argparse.Namespace(run=run, debug=False))
    assert status == NOBODY_READS
    assert capfd.readouterr().err == ""


def test_a_pipe_of_ours_that_breaks_is_told(monkeypatch, capsys):
    def run(arguments):
        raise BrokenPipeError(32, "Broken pipe")

    assert run_command(argparse.Namespace(run=run, debug=False)) in (1, 2)
    assert "Broken pipe" in capsys.readouterr().err

"""Our own processes run no file of the current folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from write_aedat4 import aedat4_bytes

import keras_qkformer
from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.recording import read_recording

pytestmark = pytest.mark.backend_independent
EVENTS = make_events([1, 2], [3, 4], [5, 6], [True, False])
TRAPS = (
    *("aedat", "numpy", "json", "struct", "runpy", "keras", "tensorflow"),
    *("keras_qkformer", "sitecustomize", "usercustomize"),
)


@pytest.fixture
def trapped(tmp_path, monkeypatch):
    """The current folder, with files that a process must not run.

    PYTHONPATH has entries that stand for the current folder.
    """
    for name in TRAPS:
        trap = f"open({str(tmp_path / 'RAN')!r}, 'a').write('{name} ')\n"
        (tmp_path / f"{name}.py").write_text(trap)
    monkeypatch.chdir(tmp_path)
    path = ["", ".", os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    return tmp_path


def test_reading_aedat4_runs_no_file_of_the_current_folder(trapped):
    pytest.importorskip("aedat", reason="AEDAT 4 needs the extra events")
    (trapped / "a.aedat4").write_bytes(aedat4_bytes(EVENTS))
    assert read_recording("a.aedat4").tolist() == EVENTS.tolist()
    assert not (trapped / "RAN").exists()


@pytest.mark.parametrize(
    ("module", "options", "answer"),
    [
        ("keras_qkformer", ["--help"], "usage: keras-qkformer"),
        ("keras_qkformer.serving.check", [], "missing 3 required"),
    ],
)
def test_no_module_runs_a_file_of_the_current_folder(trapped, module, options, answer):
    """The process of the export has its test with the others of the export."""
    command, environment = module_command(module, *options), module_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer in done.stdout + done.stderr
    assert not (trapped / "RAN").exists()


def test_the_package_is_the_one_that_starts_the_process(trapped):
    """Also where it is not installed and no variable names its place."""
    code = "import keras_qkformer; print(keras_qkformer.__file__)"
    command = module_command("keras_qkformer", "--version")
    place = command.index(keras_qkformer.__file__)
    command[place - 1] = command[place - 1].partition("del sys.argv")[0] + code
    environment = module_environment()
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == keras_qkformer.__file__, done.stderr


def test_environment_keeps_what_names_a_place(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "here", str(tmp_path), "."]))
    environment = module_environment(ONE="1")
    assert (environment["PYTHONPATH"], environment["ONE"]) == (str(tmp_path), "1")
    monkeypatch.setenv("PYTHONPATH", ".")
    assert "PYTHONPATH" not in module_environment()


def test_every_process_of_python_is_started_this_way():
    package = Path(keras_qkformer.__file__).parent
    starts = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for word in ("executable", "multiprocessing", "os.system", "ProcessPool")
        if word in path.read_text()
    }
    assert starts == {"child_process.py"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_process_ends_when_it_takes_too_long():
    loop = (
        "from keras_qkformer import child_process as c; c.limit_seconds(1)\nwhile 1: 1"
    )
    done = subprocess.run([sys.executable, "-c", loop], timeout=60)
    assert done.returncode == -signal.SIGXCPU

"""The process of an export: killed, or left by a parent that was.

The processes here do nothing but wait, so the tests are quick.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_qkformer.serving.export_process import ask_process
from keras_qkformer.stages import heard_by

pytestmark = pytest.mark.backend_independent

# Writes as an export does, says so, and would then go on for a minute.
CHILD = """
import os, pathlib, sys, time
sys.modules["keras"] = sys.modules["tensorflow"] = None
from keras_qkformer.files import beside
from keras_qkformer.serving.export_process import answer_parent
from keras_qkformer.stages import stage

def respond(request):
    stage("writing")
    out = pathlib.Path(request["out"])
    with beside(out / "version") as new:
        new.mkdir()
        (new / "saved_model.pb").write_text("half")
        (out.parent / "pid").write_text(str(os.getpid()))
        for _ in range(600 * request["slow"]):
            time.sleep(0.1)
        new.rename(out / "1")
    print("noise")
    return {"result": str(out / "1")}

answer_parent(respond)
"""
PARENT = f"""
import os, sys
from keras_qkformer.serving.export_process import ask_process
command = [sys.executable, "-c", {CHILD!r}]
ask_process(command, dict(os.environ), {{"out": sys.argv[1], "slow": 1}})
"""


def child_of(folder):
    """The number of the child, once it has begun to write."""
    for _ in range(600):
        time.sleep(0.05)
        if (folder / "pid").exists() and (folder / "pid").read_text():
            return int((folder / "pid").read_text())
    raise AssertionError("the child does not begin")


def is_alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{number}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for_the_end(number):
    for _ in range(200):
        if not is_alive(number):
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")


def ask(folder, slow=0):
    command = [sys.executable, "-c", CHILD]
    request = {"out": str(folder / "out"), "slow": slow}
    return ask_process(command, dict(os.environ), request)


def test_an_answer_and_its_stages_come_back_whatever_is_printed(tmp_path):
    stages = []
    with heard_by(stages.append):
        assert ask(tmp_path) == {"result": str(tmp_path / "out" / "1")}
    assert stages == ["writing"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_parent_leaves_neither_a_process_nor_half_a_model(tmp_path, number):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "out")])
    child = child_of(tmp_path)
    parent.send_signal(number)
    parent.wait(timeout=30)
    wait_for_the_end(child)
    if number == signal.SIGKILL:
        assert list((tmp_path / "out").iterdir()) == []
    assert not list((tmp_path / "out").glob("[0-9]*"))
    assert ask(tmp_path)["result"].endswith("1")


def test_a_killed_child_is_an_error_that_says_so(tmp_path):
    killer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, pathlib, sys, time\n"
            f"pid = pathlib.Path({str(tmp_path / 'pid')!r})\n"
            "while not (pid.exists() and pid.read_text()): time.sleep(0.05)\n"
            "os.kill(int(pid.read_text()), 9)",
        ]
    )
    with pytest.raises(OSError, match="killed by signal 9"):
        ask(tmp_path, slow=1)
    killer.wait(timeout=30)
    assert not list((tmp_path / "out").glob("[0-9]*"))
    assert ask(tmp_path)["result"].endswith("1")


def test_a_child_that_is_killed_while_it_writes_is_told_as_killed():
    script = 'import os; os.write(1, b\'{"stage": "wri\'); os.kill(os.getpid(), 9)'
    with pytest.raises(OSError, match="killed by signal 9"):
        ask_process([sys.executable, "-c", script], dict(os.environ), {})


@pytest.mark.parametrize(
    "script", ["raise LookupError(3)", "import os; os._exit(3)", "pass"]
)
def test_a_failing_child_is_an_error_with_what_it_said(script):
    with pytest.raises(RuntimeError, match="ended with status"):
        ask_process([sys.executable, "-c", script], dict(os.environ), json.dumps({}))

"""Training on several hosts: processes of this machine, on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from device_results import assert_same, check_collectives
from fake_recordings import make_classes
from harness import free_port
from saved_presets import shallow_preset

from keras_qkformer.training import distribution
from keras_qkformer.training.distribution import Devices, choose_devices
from keras_qkformer.training.hosts import Hosts, agree_on_data, joined, lost_host

ON_JAX = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs JAX")
ROOT = Path(__file__).parents[2]
LIMIT_S = 600


def start(arguments, *, devices=1, **variables):
    """A process of Python whose output is kept, ended by its own id at the latest."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes):
    """Exit status and output of each."""
    end = time.monotonic() + LIMIT_S
    try:
        return [
            (p.communicate(timeout=end - time.monotonic())[0], p.returncode)[::-1]
            for p in processes
        ]
    finally:
        for process in processes:
            process.kill()


def free_address():
    return f"127.0.0.1:{free_port()}"


def start_hosts(arguments, **options):
    """Two hosts that run the same, or each its own list of arguments."""
    address = free_address()
    own = arguments if isinstance(arguments[0], list) else [arguments] * 2
    return [
        start([*own[i], "--hosts", f"{address},2,{i}"], **options) for i in range(2)
    ]


def fit_command(workdir, *overrides):
    settings = (
        f"preset={shallow_preset()}",
        "data.batch_size=8",
        "max_steps=4",
        "optimizer.warmup_epochs=0",
        *overrides,
    )
    options = [item for value in settings for item in ("--set", value)]
    recipe = ROOT / "recipes" / "digits.py"
    return ["-m", "keras_qkformer", "fit", recipe, "--workdir", workdir, *options]


@ON_JAX
def test_four_devices_of_one_host_or_two_train_as_one_does(tmp_path):
    for split, count in (("train", 90), ("test", 9)):
        folder = tmp_path / "recordings" / split
        make_classes(folder, ["left", "right"], count=count, sensor=16)
    script, address = ROOT / "tests" / "train_on_devices.py", free_address()
    arguments = [script, tmp_path, "events", "float64"]
    processes = [start([*arguments, 1, 4], devices=4)]
    processes += [
        start([*arguments, 4], devices=2, HOSTS=f"{address},2,{i}") for i in range(2)
    ]
    for status, output in finish(processes):
        assert status == 0, output
    names = ["1", "4", "4-0", "4-1"]
    one, *others = (dict(np.load(tmp_path / f"{name}.npz")) for name in names)
    assert check_collectives(one) == 0
    for name, other in zip(names[1:], others, strict=True):
        # Hosts leave no lines.
        assert (check_collectives(other) > 0) == (name == "4")
        assert_same(other, one, 1e-10)
    assert one["test"][2] == 18


@ON_JAX
def test_a_lost_host_ends_the_other_and_training_goes_on(tmp_path):
    command = fit_command(tmp_path / "lost", "optimizer.epochs=6")
    whole = fit_command(tmp_path / "whole", "optimizer.epochs=6")
    processes = start_hosts(command, KERAS_QKFORMER_HEARTBEAT_S="10")
    state = tmp_path / "lost" / "checkpoints" / "state.json"
    end = time.monotonic() + LIMIT_S / 2
    while time.monotonic() < end:
        if state.is_file() and json.loads(state.read_text())["epoch"] >= 1:
            break
        assert [p.poll() for p in processes] == [None, None], finish(processes)
        time.sleep(0.1)
    pid = processes[1].pid  # The one that trains is its child.
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    lost = time.monotonic()
    (status, output), _ = finish(processes)
    assert time.monotonic() - lost < 60
    assert status == 2
    assert output.rstrip().splitlines()[-1] == (
        "keras-qkformer: error: host 1 is lost; the same command on all hosts goes on "
        "from the last epoch"
    )
    for status, output in finish([*start_hosts(command), *start_hosts(whole)]):
        assert status == 0, output
    again, uninterrupted = (
        json.loads((tmp_path / name / "results.json").read_text())
        for name in ("lost", "whole")
    )
    assert again["history"] == uninterrupted["history"]
    assert again["test"] == uninterrupted["test"]


@ON_JAX
def test_hosts_with_other_data_or_another_recipe_are_an_error(tmp_path):
    own = [
        fit_command(tmp_path / "run", f"data.train=train[{first}:]") for first in (0, 1)
    ]
    for status, output in finish(start_hosts(own)):
        assert status == 2
        assert "host 1: data.train train[1:], host 0: train[0:]" in output
        assert "Traceback" not in output


@ON_JAX
def test_hosts_that_do_not_find_each_other_end(tmp_path):
    command = [*fit_command(tmp_path / "run"), "--hosts", f"{free_address()},2,1"]
    ((status, output),) = finish([start(command, KERAS_QKFORMER_WAIT_S="3")])
    assert status == 2
    assert "the hosts did not find each other within 3 s" in output.splitlines()[-1]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX can")
def test_another_backend_is_an_error():
    with pytest.raises(ValueError, match=r"KERAS_BACKEND=jax.* Received: hosts='auto'"):
        with joined("auto"):
            pass


@ON_JAX
def test_hosts_of_another_form_are_an_error(monkeypatch):
    for where in ("me", "10.0.0.1,2,0", "10.0.0.1:1,0,0"):
        with pytest.raises(ValueError, match=f"ADDRESS:PORT.*: hosts='{where}'"):
            with joined(where):
                pass


@ON_JAX
@pytest.mark.parametrize(
    ("devices", "mesh", "batch_size", "message"),
    [
        (3, None, 12, "a multiple of 2"),
        ("auto", "data=2,model=2", 8, "no axis model"),
        ("auto", None, 7, "divisible .*: batch_size=7, 2 devices on 2 hosts"),
    ],
)
def test_devices_that_hosts_can_not_share_are_an_error(
    monkeypatch, devices, mesh, batch_size, message
):
    monkeypatch.setattr(distribution, "_devices_by_host", lambda: [range(4), range(3)])
    with pytest.raises(ValueError, match=message):
        choose_devices(devices, mesh, batch_size, hosts=2)
    assert choose_devices("auto", None, 8, hosts=2) == Devices(4, 1, 2)


def test_what_jax_says_at_its_end_names_the_host():
    unhealthy = (
        "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n"
        "3\nThe tasks have crashed. Check the task logs of 0"
    )
    assert lost_host(unhealthy).startswith("host 3 is lost")
    leader = "UNAVAILABLE: Failed to send RPC to coordination service."
    assert lost_host(leader).startswith("host 0 is lost")
    assert lost_host("").startswith("another host is lost")


def test_one_host_waits_for_nobody(tmp_path):
    alone = Hosts()
    assert alone.gather("something", 3) == [3]
    alone.agree({"the recipe": 1})
    alone.share_workdir(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_split_smaller_than_the_hosts_is_an_error():
    recipe = SimpleNamespace(data=SimpleNamespace(test="test"))
    examples = SimpleNamespace(
        load=lambda split: (None, np.zeros(2)), train=(None, np.zeros(8))
    )
    message = r"data\.test must have an example for each of 3 hosts. Received: 2"
    with pytest.raises(ValueError, match=message):
        agree_on_data(Hosts(0, 3), recipe, examples, (None, np.zeros(4)), 0)


def test_a_workdir_that_another_host_does_not_see_is_an_error(tmp_path, monkeypatch):
    """As host 1 finds it, with what host 0 has said."""
    said = {"the first file in the workdir": ["a token", None]}

    def gather(hosts, name, value=None):
        return [True, value] if name == "the workdir" else said.get(name)

    monkeypatch.setattr(Hosts, "gather", gather)
    with pytest.raises(ValueError, match="which host 1 does not share with host 0"):
        Hosts(1, 2).share_workdir(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "partial-hosts.json").write_text("a token")
    Hosts(1, 2).share_workdir(tmp_path / "run")

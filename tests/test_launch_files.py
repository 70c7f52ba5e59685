"""The launch files of the documentation: their syntax, and the command they give."""

import shutil
import subprocess
from pathlib import Path

import pytest

from keras_qkformer.cli.main import make_parser

pytestmark = pytest.mark.backend_independent
FOLDER = Path(__file__).parents[1] / "docs" / "launch"


@pytest.mark.parametrize("name", ["slurm.sh", "tpu_vm.sh"])
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_scripts_have_no_syntax_error(name):
    done = subprocess.run(
        ["bash", "-n", FOLDER / name], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_jobset_starts_as_many_hosts_as_it_says():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    jobset = yaml.safe_load((FOLDER / "jobset.yaml").read_text())
    name = jobset["metadata"]["name"]
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    command = container["command"][-1].removeprefix("exec keras-qkformer ")
    # As the shell of the third host.
    command = command.replace("$JOB_COMPLETION_INDEX", "2").split()
    parsed = make_parser().parse_args(command)
    address, count, index = parsed.hosts.split(",")
    assert int(count) == spec["completions"] == spec["parallelism"]
    assert (spec["completionMode"], index) == ("Indexed", "2")
    (port,) = container["ports"]
    assert address == f"{name}-{job['name']}-0-0.{name}:{port['containerPort']}"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in spec["template"]["spec"]["volumes"]}

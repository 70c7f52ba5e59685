"""Releases: what the workflow of the public repository runs, what `make dist` tries."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from try_dist import EXTRAS

ROOT = Path(__file__).parents[1]
FILE = ROOT / ".github" / "workflows" / "ci.yml"
pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(not FILE.is_file(), reason="needs a checkout"),
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make"),
]
PINNED = re.compile(r"actions/[a-z-]+@v\d+\.\d+\.\d+")
MATRIX = re.compile(r"\$\{\{ matrix\.(\w+) \}\}")


@pytest.fixture(scope="module")
def workflow():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return yaml.safe_load(FILE.read_text())


def commands(workflow):
    """Every command of every job, with the values of its matrix."""
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            if "uses" in step:
                assert PINNED.fullmatch(step["uses"]), step["uses"]
                continue
            found = MATRIX.search(step["run"])
            values = job["strategy"]["matrix"][found[1]] if found else [""]
            yield from (MATRIX.sub(value, step["run"]) for value in values)


def test_each_command_is_a_target_of_make(workflow):
    # The data base of rules; a target of no rule, so that nothing is made.
    told = subprocess.run(
        ["make", "--print-data-base", "--question", "none of the rules"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    targets = {*re.findall(r"^([a-z][\w-]*):", told, re.MULTILINE)}
    ran = [*commands(workflow)]
    assert all(re.fullmatch(r"make [\w-]+", command) for command in ran)
    called = {command.removeprefix("make ") for command in ran}
    assert called <= targets
    parts = re.search(r"^PARTS := (.*)$", told, re.MULTILINE)[1].split()
    assert {*parts, "lint", "docs", "first-minutes", "dist"} <= called


def test_it_may_read_and_names_no_host(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    text = FILE.read_text()
    assert "://" not in text and "secrets" not in text
    for job in workflow["jobs"].values():
        assert "permissions" not in job and job["timeout-minutes"] <= 120
        python = next(s for s in job["steps"] if "setup-python" in s.get("uses", ""))
        assert python["with"]["cache"] == "pip"


def test_a_release_is_tried_with_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert EXTRAS.keys() == project["optional-dependencies"].keys()

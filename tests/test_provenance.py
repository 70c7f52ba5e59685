"""What ran: the commit of the checkout, and of nothing else."""

import re
import subprocess

import pytest

from keras_qkformer import provenance as module
from keras_qkformer.provenance import provenance

pytestmark = pytest.mark.backend_independent


@pytest.mark.parametrize(
    ("place", "is_ours"),
    [("keras_qkformer", True), ("venv/lib/site-packages/keras_qkformer", False)],
)
def test_the_commit_is_that_of_a_checkout(tmp_path, monkeypatch, place, is_ours):
    """Not that of a repository in which the package is installed."""
    name = ("-c", "user.name=me", "-c", "user.email=me@localhost")
    for command in (("init", "-q"), (*name, "commit", "-qm", "a", "--allow-empty")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    package = tmp_path / place
    package.mkdir(parents=True)
    monkeypatch.setattr(module, "PACKAGE", package)
    commit = provenance()["commit"]
    assert bool(commit and re.fullmatch("[0-9a-f]{40,64}", commit)) == is_ours
    assert is_ours or commit is None

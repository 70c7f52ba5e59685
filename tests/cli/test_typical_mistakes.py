"""The page of typical mistakes says what the commands say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend_independent
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "mistakes.md"


def test_page_of_mistakes_is_what_commands_answer():
    """Nothing heavy is loaded, nothing is written, and each takes at most 2 s."""
    done = subprocess.run(
        [sys.executable, HERE / "typical_mistakes.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    # After a change: python tests/cli/typical_mistakes.py > docs/mistakes.md
    assert done.stdout == PAGE.read_text()
    assert done.stdout.count("    keras-qkformer ") >= 100

"""Runs the Python blocks of the pages."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[1]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Page and number of a block -> who runs it.
NOT_RUN = {
    ("start.md", 0): "make first-minutes, as it is in the README, too",
    ("start.md", 1): "make first-minutes, as it is in the README, too",
}


def all_blocks():
    """Yield `(page, number, text)` of every block."""
    for path in sorted(DOCS.rglob("*.md")):
        for number, text in enumerate(FENCE.findall(path.read_text())):
            yield path.relative_to(DOCS).as_posix(), number, text


def blocks():
    """Return the blocks that the build runs."""
    return [found for found in all_blocks() if found[:2] not in NOT_RUN]


def run(found):
    """Run blocks, each with the names of those before on its page.

    Args:
        found: list of `(page, number, text)`.
    """
    names = {}
    for page, number, text in found:
        # What a reader of docs/energy.md has: inputs as the model takes them.
        batch = np.zeros((2, 8, 8, 1), "float32"), np.array([0, 1])
        known = names.setdefault(page, {"batches": [batch]})
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, f"{page}, block {number}", "exec"), known)

"""Runs the Python blocks of the pages.

A line `<!-- not run: WHY -->` in front of a block leaves it out.
"""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
from adopted import PAGES

DOCS = Path(__file__).parents[1]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.*) -->\n\n?)?```python\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(run=True):
    """Return `(page, number, text)` of the blocks that run, or of the others.

    The pages are those of `docs`, and those whose text lies elsewhere.

    Args:
        run: bool. Which of the two.
    """
    pages = {p.relative_to(DOCS).as_posix(): p for p in sorted(DOCS.rglob("*.md"))}
    pages |= {origin: DOCS.parent / origin for origin in PAGES.values()}
    return [
        (page, number, match["text"])
        for page, path in pages.items()
        for number, match in enumerate(FENCE.finditer(path.read_text()))
        if (match["why"] is None) == run
    ]


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

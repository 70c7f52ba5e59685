"""The pages of the tutorials, in the order of `docs/tutorials/index.md`."""

import re
from pathlib import Path

INDEX = Path(__file__).parents[1] / "tutorials" / "index.md"


def tutorial_pages():
    """Return the pages that the index links."""
    names = re.findall(r"\]\((\w+)\.md\)", INDEX.read_text())
    return [f"tutorials/{name}.md" for name in dict.fromkeys(names)]

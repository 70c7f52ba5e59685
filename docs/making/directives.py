"""What a page takes from elsewhere: lines such as `{{code layers/lif.py IF.call}}`.

`code FILE NAME` is a function or class of the package, `picture NAME` a picture from
`build/docs/pictures`, `presets FAMILY` a table, `evidence PART NAME` a part of a page
of `docs/evidence`, from the results there, `panel NAME` a part that runs.
"""

import ast
import re
import textwrap
from pathlib import Path

import evidence as of_studies
from accuracy import accuracies, whole_schedule
from answers import answer
from complexity import complexity
from tables import presets_table

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "keras_qkformer"
MADE = ROOT / "build" / "docs"
PICTURES = MADE / "pictures"
PANELS = Path(__file__).parent / "panels"
DIRECTIVE = re.compile(r"^\{\{(?P<kind>\w+) (?P<rest>[^}]+)\}\}$", re.MULTILINE)
KEY = (
    '<figcaption class="key"><span class="spikes">spikes, 0 or 1</span>'
    '<span class="counts">whole numbers</span>'
    '<span class="real">real numbers</span></figcaption>'
)


def with_directives(markdown):
    """Replace the directives of a page."""
    kinds = {
        "code": fenced,
        "picture": picture,
        "presets": presets_table,
        "evidence": evidence,
        "panel": panel,
    }
    return DIRECTIVE.sub(lambda m: kinds[m["kind"]](*m["rest"].split()), markdown)


def evidence(part, *names):
    """Return a part of a page of `docs/evidence`.

    Args:
        part: str. What to show.
        *names: of the file of results, and what of it.
    """
    parts = {
        "answer": answer,
        "complexity": complexity,
        "accuracies": accuracies,
        "whole_schedule": whole_schedule,
        **{
            name: getattr(of_studies, name)
            for name in (
                *("attack", "costs", "differences", "exact", "figure", "picture"),
                *("plan", "runs", "scores"),
            )
        },
    }
    return parts[part](*names)


def picture(name):
    """Return a picture as SVG within the page, so that it takes the page's colours."""
    svg = (PICTURES / f"{name}.svg").read_text()
    if 'class="block"' not in svg:
        return svg
    return (
        f'<figure class="block-picture"><div class="scroll">{svg}</div>{KEY}</figure>'
    )


def panel(name):
    """Return a panel as HTML, or a note if the build could not make what it runs."""
    if (MADE / "assets" / "draw" / "facts.js").is_file():
        return (PANELS / f"{name}.html").read_text()
    return (
        "!!! note\n    This copy of the site was built where npm could not be reached, "
        "so what runs here is left out."
    )


def fenced(path, name):
    """Return a function or class of a file as a fenced block, without docstrings.

    Args:
        path: str, relative to the package.
        name: str. Dotted name within the file.

    Raises:
        KeyError: if the file has no such name, so that a page can't go stale.
    """
    text = (PACKAGE / path).read_text()
    node = ast.parse(text)
    for part in name.split("."):
        found = {n.name: n for n in node.body if hasattr(n, "name")}
        node = found[part]
    first, lines = node.lineno, text.splitlines()
    if node.decorator_list:
        first = node.decorator_list[0].lineno
    hidden = set()
    for inner in ast.walk(node):
        if hasattr(inner, "body") and isinstance(inner.body, list) and inner.body:
            body = inner.body[0]
            if isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant):
                after = inner.body[1].lineno if inner.body[1:] else body.end_lineno + 1
                hidden |= set(range(body.lineno, after))
    kept = [lines[i - 1] for i in range(first, node.end_lineno + 1) if i not in hidden]
    code = textwrap.dedent("\n".join(kept))
    return f'```python title="keras_qkformer/{path}"\n{code}\n```'

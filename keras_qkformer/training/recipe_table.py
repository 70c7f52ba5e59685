"""The tables of all recipes: reported results beside measured ones."""

import ast
from pathlib import Path

from keras_qkformer.training.recipe import load_recipe, load_variants

_HEAD = """\
# Recipes

A recipe is a file with one experiment: `keras-qkformer fit recipes/NAME.py` trains it.
`keras-qkformer fit recipes/NAME.py:VARIANT` trains a variant, whose row says what
differs in the model and the training; `keras-qkformer recipes show FILE` lists all.
*Reported* is the result that the source of a recipe claims, *measured* our own result,
with its machine and date; `-` means none yet.

`keras-qkformer recipes > recipes/README.md` makes this file from the recipes.
"""
_LONGEST = 60  # Characters of a change that is shown whole.


def recipe_table(folder):
    """Make the README of a folder of recipes, with a section for each file.

    Args:
        folder: str or path of a folder with recipe files.

    Returns:
        Str, Markdown.

    Raises:
        ValueError: if the folder has no recipe, or one can't be read.
    """
    paths = sorted(Path(folder).glob("*.py"))
    if not paths:
        raise ValueError(
            f"A folder of recipes must hold Python files. Received: {str(folder)!r}"
        )
    return "\n".join([_HEAD, *map(_section, paths)])


def _section(path):
    rows = [_row(path.stem, load_recipe(path), [])]
    for name, changes in load_variants(path).items():
        hidden = ("expected.", "data.", "data=")
        shown = [_shown(c) for c in changes if not c.startswith(hidden)]
        rows.append(_row(f"{path.stem}:{name}", load_recipe(f"{path}:{name}"), shown))
    # Without a column that would be empty.
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [names, ["---"] * len(names)]
    lines += [[(row[n] or "-").replace("|", "\\|") for n in names] for row in rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    about = f"{about} ".splitlines()[0].strip()
    text = f"{about} [{path.name}]({path.name})".strip()
    return f"## `{path.stem}`\n\n{text}\n\n{table}\n"


def _shown(change):
    if len(change) > _LONGEST:
        change = f"{change.partition('=')[0]}=..."
    return f"`{change}`"


def _row(name, recipe, changes):
    values = (f"`{k}={v}`" for k, v in recipe.model.items())
    return {
        "recipe": f"`{name}`",
        "data": recipe.data.name,
        "model": ", ".join(changes or [f"`{recipe.preset}`", *values]),
        "reported": recipe.expected.reported,
        "measured": recipe.expected.measured,
    }

"""The table of all recipes: what was reported beside what was measured."""

from pathlib import Path

from keras_qkformer.training.recipe import load_recipe, load_variants

_HEAD = """\
# Recipes

One file, one experiment: `keras-qkformer fit recipes/NAME.py`, or `NAME.py:VARIANT` for
one that differs by the values that the table names. Reported is what the source of a
recipe says; measured is what came out here, on the machine and day that stand there.
`-` is: no number yet.

This file is made by `keras-qkformer recipes > recipes/README.md`, from the recipes.

| recipe | data | model | reported | measured |
|---|---|---|---|---|
"""


def recipe_table(folder):
    """The README of a folder of recipes, as Markdown.

    Args:
        folder: str or path of a folder with recipe files.

    Raises:
        ValueError: if it has none, or one is not right.
    """
    paths = sorted(Path(folder).glob("*.py"))
    if not paths:
        raise ValueError(f"A folder of recipes must have some. Received: {folder!r}")
    rows = []
    for path in paths:
        recipe = load_recipe(path)
        rows.append(_row(f"[`{path.stem}`]({path.name})", recipe, []))
        for name, changes in load_variants(path).items():
            variant = load_recipe(f"{path}:{name}")
            shown = [f"`{c}`" for c in changes if not c.startswith("expected.")]
            rows.append(_row(f"`{path.stem}:{name}`", variant, shown))
    return _HEAD + "\n".join(rows) + "\n"


def _row(name, recipe, changes):
    values = (f"`{k}={v}`" for k, v in recipe.model.items())
    model = ", ".join(changes or [f"`{recipe.preset}`", *values])
    expected = recipe.expected
    cells = (name, recipe.data.name, model, expected.reported, expected.measured)
    return "| " + " | ".join((cell or "-").replace("|", "\\|") for cell in cells) + " |"

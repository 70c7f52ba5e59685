"""The table of all recipes: reported results beside measured ones."""

from pathlib import Path

from keras_qkformer.training.recipe import load_recipe, load_variants

_HEAD = """\
# Recipes

Each file is one experiment: `keras-qkformer fit recipes/NAME.py`. `NAME.py:VARIANT`
runs a variant, which differs by the values in its row and by the settings of its data.
*Reported* is the result that the source of a recipe claims; *measured* is our own
result, with its machine and date.
`-` means no result yet.

`keras-qkformer recipes > recipes/README.md` makes this file from the recipes.

| recipe | data | model | reported | measured |
|---|---|---|---|---|
"""


def recipe_table(folder):
    """Make the README of a folder of recipes.

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
    rows = []
    for path in paths:
        recipe = load_recipe(path)
        rows.append(_row(f"[`{path.stem}`]({path.name})", recipe, []))
        for name, changes in load_variants(path).items():
            variant = load_recipe(f"{path}:{name}")
            hidden = ("expected.", "data.", "data=")
            shown = [f"`{c}`" for c in changes if not c.startswith(hidden)]
            rows.append(_row(f"`{path.stem}:{name}`", variant, shown))
    return _HEAD + "\n".join(rows) + "\n"


def _row(name, recipe, changes):
    values = (f"`{k}={v}`" for k, v in recipe.model.items())
    model = ", ".join(changes or [f"`{recipe.preset}`", *values])
    expected = recipe.expected
    cells = (name, recipe.data.name, model, expected.reported, expected.measured)
    return "| " + " | ".join((cell or "-").replace("|", "\\|") for cell in cells) + " |"

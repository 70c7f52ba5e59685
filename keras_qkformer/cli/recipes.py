"""`recipes`: the table of all recipes, or all fields of one."""

import json
import sys
import textwrap

from keras_qkformer.cli.argument_types import InputFolder, RecipeFile, Text, check
from keras_qkformer.cli.arguments import add_import, refuse_given
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.printable import printable


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "recipes",
        run,
        "print the table of recipes as Markdown, or what --set can change in one",
        "show recipes/digits.py",
    )
    parser.add_argument(
        "folder",
        type=Text(),
        nargs="?",
        default="recipes",
        metavar="folder|show",
        help="folder of recipes (default: recipes); or show, with a recipe",
    )
    parser.add_argument(
        "recipe",
        type=RecipeFile(),
        nargs="?",
        help="with show: recipe file, optionally with :VARIANT",
    )
    add_import(parser)


def run(arguments):
    """Print the table, or the fields with their values, types and meanings."""
    if (arguments.folder == "show") != bool(arguments.recipe):
        raise ValueError(
            "There must be a folder, or show and a recipe. "
            f"Received: {arguments.folder!r} and {arguments.recipe!r}"
        )
    if arguments.recipe:
        _show(arguments)
        return
    refuse_given(arguments, ("import",), "show", "a folder")
    check(InputFolder(), "A folder of recipes", arguments.folder)
    from keras_qkformer.training.recipe_table import recipe_table

    print(recipe_table(arguments.folder), end="")


def _show(arguments):
    from keras_qkformer.presets.arguments import model_parameters, type_in_words
    from keras_qkformer.training.recipe import field_values, fields, load_recipe
    from keras_qkformer.training.recipe_fields import docstring_entries

    recipe = load_recipe(arguments.recipe)
    values = field_values(recipe)
    for field in fields():
        _print_field(field.name, values[field.name], field.kind, field.meaning)
    try:
        known, (backbone, classifier) = _model_of(arguments, recipe)
    except ValueError as error:
        if getattr(arguments, "import"):
            raise
        # As of a recipe that starts from weights which another one will train.
        print(f"no arguments of the model: {error}", file=sys.stderr)
        return
    known = {**known, **recipe.model}
    meanings = {
        **docstring_entries(classifier.__doc__, "Args"),
        **docstring_entries(backbone.__doc__, "Args"),
    }
    for name, parameter in model_parameters(backbone, classifier).items():
        value = known.get(name, parameter.default)
        is_typed = parameter.annotation is not parameter.empty
        kind = type_in_words(parameter.annotation) if is_typed else "any"
        _print_field(f"model.{name}", value, kind, meanings.get(name, ""))


def _model_of(arguments, recipe):
    """Arguments of the preset, and the classes that take them and explain them."""
    from keras_qkformer.presets.declared import declared, look_up

    found = None if getattr(arguments, "import") else look_up(recipe.preset)
    if found is not None:
        family, known = found
        return known, declared(family)
    load_libraries(arguments)
    from keras_qkformer.models import SpikingClassifier, resolve_preset

    family, known, _ = resolve_preset(recipe.preset)
    return known, (family.backbone, SpikingClassifier)


def _print_field(name, value, kind, meaning):
    text = value if isinstance(value, str) else json.dumps(value)
    print(f"{name}={printable(text)}")
    told = f"{kind}; {meaning}" if meaning else kind
    print(textwrap.fill(told, 79, initial_indent="    ", subsequent_indent="    "))

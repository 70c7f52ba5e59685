"""`recipes`: print the table of all recipes."""

from keras_qkformer.cli.argument_types import InputFolder


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "recipes",
        run,
        "print the table of recipes as Markdown",
        "> recipes/README.md",
    )
    parser.add_argument(
        "folder",
        type=InputFolder(),
        nargs="?",
        default="recipes",
        help="folder of recipes (default: recipes)",
    )


def run(arguments):
    """Print the table."""
    from keras_qkformer.training.recipe_table import recipe_table

    print(recipe_table(arguments.folder), end="")

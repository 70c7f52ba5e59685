"""`data benchmark`: measure the speed of a recipe's input pipeline."""

from keras_qkformer.cli.argument_types import Number
from keras_qkformer.cli.arguments import add_import, add_recipe
from keras_qkformer.cli.printing import print_damaged
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "benchmark",
        run,
        "measure the speed of a recipe's input pipeline",
        "recipes/digits.py",
        loads=True,
    )
    add_recipe(parser)
    parser.add_argument(
        "--seconds",
        type=Number(0.001, 3600),
        default=10.0,
        help="seconds per stage (default: 10)",
    )
    add_import(parser)


def run(arguments):
    """Print the images per second of each stage."""
    from keras_qkformer.training.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    load_libraries(arguments)
    from keras_qkformer.training.input_pipeline import benchmark

    rates = benchmark(recipe, arguments.seconds, report_damaged=print_damaged)
    for stage, rate in rates.items():
        print(f"{stage:<10}{rate:>12,.0f} images/s")

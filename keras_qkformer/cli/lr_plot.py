"""`lr-plot`: draw the learning rate schedule of a recipe."""

from keras_qkformer.cli.argument_types import FIGURE_SUFFIXES, OutputFile
from keras_qkformer.cli.arguments import add_recipe
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "lr-plot",
        run,
        "draw the learning rate schedule of a recipe",
        "recipes/digits.py --out rate.png",
    )
    add_recipe(parser)
    parser.add_argument(
        "--out",
        type=OutputFile(FIGURE_SUFFIXES),
        help="file to write (default: <recipe>_learning_rate.png)",
    )


def run(arguments):
    """Draw the schedule, with 50 optimizer steps per epoch."""
    from keras_qkformer.training.recipe import load_recipe, recipe_name

    settings = load_recipe(arguments.recipe, arguments.set).optimizer
    load_libraries(arguments)
    import numpy as np

    from keras_qkformer.analysis.figures.training import plot_learning_rate
    from keras_qkformer.training.schedules import make_schedule

    epochs = settings.epochs + settings.cooldown_epochs
    per_epoch = 50 * settings.accumulation_steps  # For data of any size.
    batches = np.arange(epochs * per_epoch)
    rates = np.asarray(make_schedule(settings, per_epoch)(batches))
    out = arguments.out or f"{recipe_name(arguments.recipe)}_learning_rate.png"
    print(plot_learning_rate(batches / per_epoch, rates, out))

"""`data preview`: draw training examples as the network sees them."""

from pathlib import Path

from keras_qkformer.cli.arguments import add_recipe
from keras_qkformer.cli.printing import print_damaged


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "preview",
        run,
        "draw a recipe's training examples as the network sees them",
        "recipes/digits.py",
    )
    add_recipe(parser)
    parser.add_argument(
        "--out", default="preview.png", help="file to write (default: preview.png)"
    )
    parser.add_argument(
        "--count", type=int, default=32, help="number of examples (default: 32)"
    )


def run(arguments):
    """Draw the first training examples, augmented."""
    from keras_qkformer.analysis.figures.images import plot_images
    from keras_qkformer.training.input_pipeline import preview
    from keras_qkformer.training.recipe import load_recipe

    if arguments.count < 1:
        raise ValueError(f"--count must be above 0. Received: {arguments.count}")
    recipe = load_recipe(arguments.recipe, arguments.set)
    images, captions = preview(recipe, arguments.count, report_damaged=print_damaged)
    title = f"{Path(arguments.recipe).stem}: {recipe.data.train} after augmentation"
    print(plot_images(images, captions, arguments.out, title=title))

"""`data preview`: draw training examples as the network sees them."""

import re
from pathlib import Path

from keras_qkformer.cli.argument_types import FIGURE_SUFFIXES, OutputFile, Whole
from keras_qkformer.cli.arguments import add_import, add_recipe, load_checked_recipe
from keras_qkformer.cli.printing import print_damaged
from keras_qkformer.cli.process import load_libraries

_FLIPS = {
    True: "half of the images are mirrored; unless a mirror image keeps its label, as "
    "of most photos: --set data.image_augmentation.flip=false",
    False: "no image is mirrored; if a mirror image keeps its label, as of most photos "
    "but not of digits or text: --set data.image_augmentation.flip=true",
}
_SHARES = (
    "numbers are the label's probabilities: an image mixed from two has a share of "
    "each, and label smoothing spreads the rest over all classes"
)


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "preview",
        run,
        "draw a recipe's training examples as the network sees them",
        "recipes/digits.py",
        loads=True,
    )
    add_recipe(parser)
    parser.add_argument(
        "--out",
        type=OutputFile(FIGURE_SUFFIXES),
        default="preview.png",
        help="file to write (default: preview.png)",
    )
    parser.add_argument(
        "--count",
        type=Whole(1, 1024),
        default=32,
        help="number of examples (default: 32)",
    )
    add_import(parser)


def run(arguments):
    """Draw the first training examples, augmented."""
    recipe = load_checked_recipe(arguments)
    load_libraries(arguments)
    from keras_qkformer.analysis.figures.images import plot_images
    from keras_qkformer.training.input_pipeline import preview

    images, captions = preview(recipe, arguments.count, report_damaged=print_damaged)
    title = f"{Path(arguments.recipe).stem}: {recipe.data.train} after augmentation"
    print(plot_images(images, captions, arguments.out, title=title))
    if any(re.search(r" \d\.\d\d$", caption) for caption in captions):
        print(_SHARES)
    if recipe.data.image_augmentation:
        print(_FLIPS[recipe.data.image_augmentation.flip])

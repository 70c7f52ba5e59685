"""`evaluate`: score a trained model on a split."""

from pathlib import Path

from keras_qkformer.cli.argument_types import OutputFile, RecipeFile, Text
from keras_qkformer.cli.arguments import (
    add_import,
    add_overrides,
    check_model,
    load_checked_recipe,
    local_folder,
    refuse_given,
)
from keras_qkformer.cli.printing import print_damaged, print_scores
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "evaluate",
        run,
        "score the best epoch of a workdir on every example of a split",
        "runs/digits --split test --json digits.json",
        loads=True,
    )
    parser.add_argument(
        "workdir",
        type=Text(),
        help="workdir of fit, preset folder or its address, or name of weights",
    )
    parser.add_argument(
        "--split",
        type=Text(),
        help="such as train[90%%:] (default: the recipe's test split)",
    )
    parser.add_argument(
        "--recipe",
        type=RecipeFile(),
        help="recipe file that names the data (default: the recipe of the workdir)",
    )
    add_overrides(parser)
    parser.add_argument(
        "--json",
        type=OutputFile(),
        metavar="FILE",
        help="write all scores to this file, with the command that gave them",
    )
    parser.add_argument(
        "--membrane-state",
        choices=("sample", "batch"),
        help="batch: potentials carry over from one sample to the next, as in the code "
        "behind the published numbers (default: as the model has it)",
    )
    add_import(parser)


def run(arguments):
    """Print scores, and write all of them with `--json`."""
    check_model(arguments.workdir)
    from keras_qkformer.files import check_writable

    recipe = None
    if arguments.recipe:
        recipe = load_checked_recipe(arguments)
    else:
        refuse_given(arguments, ("set",), "--recipe", "no --recipe")
        folder = Path(arguments.workdir)
        if folder.is_dir() and not (folder / "recipe.json").exists():
            raise ValueError(
                "--recipe FILE must name the data of a folder that is no workdir of "
                f"`fit`. Received: {arguments.workdir!r} alone"
            )
    if arguments.json:
        check_writable(arguments.json)
    load_libraries(arguments)
    from keras_qkformer.training.evaluate import evaluate
    from keras_qkformer.training.workdir import read_recipe, write_scores

    workdir = local_folder(arguments.workdir)
    recipe = recipe or read_recipe(workdir)
    split = arguments.split or recipe.data.test
    state = arguments.membrane_state
    scores = evaluate(workdir, split, recipe, state, report_damaged=print_damaged)
    print_scores(scores, split)
    if arguments.json:
        print(write_scores(arguments.json, scores, split))

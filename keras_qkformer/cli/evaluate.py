"""`evaluate`: scores of a trained model on a split."""

from keras_qkformer.cli.arguments import add_overrides, local_folder
from keras_qkformer.cli.printing import print_damaged, print_scores


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "evaluate",
        run,
        "scores of a workdir's best epoch, every example counted",
        "runs/digits --split test --json digits.json",
    )
    parser.add_argument(
        "workdir", help="a workdir of fit, or a preset folder or its address"
    )
    parser.add_argument("--split", help="such as test or train[90%%:]")
    parser.add_argument(
        "--recipe", help="a recipe file whose data to use, for a preset folder"
    )
    add_overrides(parser)
    parser.add_argument(
        "--json", metavar="FILE", help="where to write all scores, with the command"
    )
    parser.add_argument(
        "--membrane-state",
        choices=("sample", "batch"),
        help="batch: potentials run on from sample to sample, as in the code that gave "
        "the published numbers (that of the model)",
    )


def run(arguments):
    """Print scores, and write all of them with `--json`."""
    from keras_qkformer.training.evaluate import evaluate
    from keras_qkformer.training.recipe import load_recipe
    from keras_qkformer.training.workdir import read_recipe, write_scores

    workdir = local_folder(arguments.workdir)
    if arguments.recipe:
        recipe = load_recipe(arguments.recipe, arguments.set)
    elif arguments.set:
        raise ValueError("--set belongs to --recipe.")
    else:
        recipe = read_recipe(workdir)
    split = arguments.split or recipe.data.test
    state = arguments.membrane_state
    scores = evaluate(workdir, split, recipe, state, report_damaged=print_damaged)
    print_scores(scores, split)
    if arguments.json:
        print(write_scores(arguments.json, scores, split))

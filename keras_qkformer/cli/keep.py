"""`keep`: save the best weights of a training in half precision."""

from keras_qkformer.cli.argument_types import InputFolder, OutputFolder
from keras_qkformer.cli.arguments import add_import
from keras_qkformer.cli.printing import print_scores
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "keep",
        run,
        "save a workdir's best weights in half precision, with their provenance",
        "runs/digits --out weights/digits",
        loads=True,
    )
    parser.add_argument("workdir", type=InputFolder(), help="workdir of a finished fit")
    parser.add_argument(
        "--out",
        type=OutputFolder(),
        required=True,
        help="preset folder to write or replace",
    )
    add_import(parser)


def run(arguments):
    """Write the weights and print their scores."""
    load_libraries(arguments)
    from keras_qkformer.training.keep_weights import keep_weights

    scores = keep_weights(arguments.workdir, arguments.out)
    print_scores(scores, scores["split"])
    print(arguments.out)

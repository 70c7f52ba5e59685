"""`data benchmark`: measure the speed of a recipe's input pipeline and its model."""

from keras_qkformer.cli.argument_types import Number
from keras_qkformer.cli.arguments import add_import, add_recipe, load_checked_recipe
from keras_qkformer.cli.printing import print_damaged, print_note
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.stages import heard_by

_MEANINGS = {
    "read": "bytes of files, from the disk",
    "decode": "+ decoded to pixels",
    "batch": "+ cropped, resized, put into batches",
    "augment": "+ augmented: all that training waits for",
    "train": "training steps alone, on one batch in memory",
}


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "benchmark",
        run,
        "measure whether a recipe's input pipeline keeps up with its model",
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
    parser.add_argument(
        "--input-only",
        action="store_true",
        help="do not time the model, which this machine may not be able to train",
    )
    add_import(parser)


def run(arguments):
    """Print the images per second of each stage, and whether the model would wait."""
    recipe = load_checked_recipe(arguments)
    load_libraries(arguments)
    from keras_qkformer.training.input_pipeline import benchmark

    with heard_by(print_note):
        rates = benchmark(
            recipe,
            arguments.seconds,
            report_damaged=print_damaged,
            with_model=not arguments.input_only,
        )
    for name, rate in rates.items():
        print(f"{name:<8}{rate:>11,.0f} images/s  {_MEANINGS[name]}")
    if not arguments.input_only:
        print(_verdict(rates["augment"], rates["train"]))


def _verdict(data, model):
    pair = f"data come at {data:,.0f} images/s, the model takes {model:,.0f}"
    if data >= model:
        return f"{pair}: it would not starve"
    return (
        f"{pair}: it would starve; speed up the stage that costs most, or let other "
        "machines make batches (data serve)"
    )

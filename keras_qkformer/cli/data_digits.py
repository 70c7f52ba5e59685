"""`data digits`: recordings of handwritten digits by a simulated event camera."""

from keras_qkformer.cli.argument_types import OutputFolder, Whole
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "digits",
        run,
        "record handwritten digits with a simulated event camera",
        "--out runs/dvs_digits_data",
    )
    parser.add_argument(
        "--out",
        type=OutputFolder(),
        required=True,
        help="folder, new or from an earlier call",
    )
    parser.add_argument(
        "--seed",
        type=Whole(0, 2**32 - 1),
        default=0,
        help="seed of the paths, noise and thresholds (default: 0)",
    )
    parser.add_argument(
        "--most",
        type=Whole(1, 1437),
        help="largest number of recordings per split (default: all 1437 and 360)",
    )


def run(arguments):
    """Write the missing recordings."""
    load_libraries(arguments)
    from keras_qkformer.data.recordings.moving_digits import write_moving_digits

    written = write_moving_digits(
        arguments.out, seed=arguments.seed, most=arguments.most
    )
    print(f"{arguments.out}: {written} recordings written")

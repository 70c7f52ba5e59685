"""`data digits`: handwritten digits, recorded by a simulated camera or as images."""

from keras_qkformer.cli.argument_types import OutputFolder, Whole
from keras_qkformer.cli.arguments import refuse_given
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "digits",
        run,
        "record handwritten digits with a simulated event camera, or as images",
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
        help="seed of the paths, noise and thresholds of recordings (default: 0)",
    )
    parser.add_argument(
        "--most",
        type=Whole(1, 1437),
        help="largest number of files per split (default: all 1437 and 360)",
    )
    parser.add_argument(
        "--images", action="store_true", help="write PNG files instead of recordings"
    )


def run(arguments):
    """Write the missing files."""
    out, most = arguments.out, arguments.most
    if arguments.images:
        refuse_given(arguments, ("seed",), "recordings", "--images")
    load_libraries(arguments)
    from keras_qkformer.data.images.digits import write_digit_images
    from keras_qkformer.data.recordings.moving_digits import write_moving_digits

    if arguments.images:
        print(f"{out}: {write_digit_images(out, most)} images written")
    else:
        written = write_moving_digits(out, seed=arguments.seed or 0, most=most)
        print(f"{out}: {written} recordings written")

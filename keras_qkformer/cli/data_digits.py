"""`data digits`: recordings of handwritten digits by a simulated event camera."""


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "digits",
        run,
        "record handwritten digits with a simulated event camera",
        "--out runs/dvs_digits_data",
    )
    parser.add_argument(
        "--out", required=True, help="folder, new or from an earlier call"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the paths, noise and thresholds (default: 0)",
    )
    parser.add_argument(
        "--most",
        type=int,
        help="largest number of recordings per split (default: all 1437 and 360)",
    )


def run(arguments):
    """Write the missing recordings."""
    from keras_qkformer.data.recordings.moving_digits import write_moving_digits

    written = write_moving_digits(
        arguments.out, seed=arguments.seed, most=arguments.most
    )
    print(f"{arguments.out}: {written} recordings written")

"""`data digits`: handwritten digits before a simulated event camera."""


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "digits",
        run,
        "write handwritten digits before a simulated event camera as recordings",
        "--out runs/dvs_digits_data",
    )
    parser.add_argument("--out", required=True, help="a folder, new or of this command")
    parser.add_argument(
        "--seed", type=int, default=0, help="of paths, noise and thresholds (0)"
    )
    parser.add_argument(
        "--most", type=int, help="recordings per split at most (1437 and 360)"
    )


def run(arguments):
    """Write the recordings that are not there yet."""
    from keras_qkformer.data.recordings.moving_digits import write_moving_digits

    written = write_moving_digits(
        arguments.out, seed=arguments.seed, most=arguments.most
    )
    print(f"{arguments.out}: {written} recordings written")

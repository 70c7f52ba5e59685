"""`data prepare`: convert a data set of recordings for tf.data."""

import functools
import sys

from keras_qkformer.cli.argument_types import InputFolder, OutputFolder, Text
from keras_qkformer.cli.arguments import PROGRAM
from keras_qkformer.cli.printing import line
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "prepare",
        run,
        "convert a data set of event-camera recordings for tf.data",
        "dvs128_gesture --manual-dir downloads",
    )
    parser.add_argument(
        "name",
        choices=(
            *("dvs128_gesture", "cifar10_dvs", "nmnist", "ncaltech101", "asl_dvs"),
            "dvs_lip",
        ),
        help="data set",
    )
    parser.add_argument(
        "--manual-dir",
        type=InputFolder(),
        required=True,
        help="folder with the downloaded files",
    )
    parser.add_argument(
        "--data-dir",
        type=OutputFolder(),
        help="where to write (default: ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--config",
        type=Text(
            "events, frames_t10 or frames_t16, perhaps with _clean",
            r"(events|frames_t10|frames_t16)(_clean)?",
        ),
        action="append",
        help="events, frames_t10 or frames_t16; for cifar10_dvs each also with _clean; "
        "repeatable (default: the three without _clean)",
    )
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="keep the readable part of damaged recordings",
    )
    parser.add_argument(
        "--any-files",
        action="store_true",
        help="accept files whose checksums differ from the published ones",
    )


def run(arguments):
    """Prepare; return 1 if damaged recordings prevented the build."""
    if arguments.name != "cifar10_dvs":
        for config in arguments.config or ():
            if config.endswith("_clean"):
                raise ValueError(
                    f"A config with _clean belongs to cifar10_dvs. Received: {config!r}"
                )
    load_libraries(arguments)
    import tensorflow_datasets as tfds
    import tqdm

    from keras_qkformer.data.recordings.prepare import prepare

    bar = functools.partial(tqdm.tqdm, desc="recordings", unit="", disable=None)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    paths, damaged = prepare(
        arguments.name,
        arguments.manual_dir,
        data_dir=arguments.data_dir,
        configs=arguments.config,
        strict=not arguments.lenient,
        verify_files=not arguments.any_files,
        progress=bar,
    )
    for path in paths:
        print(line(path))
    for recording, error in damaged:
        print(line(recording, error, sep=": "), file=sys.stderr)
    if not damaged:
        return 0
    count = f"{len(damaged)} damaged recording{'s'[: len(damaged) > 1]}"
    if arguments.lenient:
        print(f"{PROGRAM}: {count}: the readable part was kept", file=sys.stderr)
        return 0
    print(
        f"{PROGRAM}: error: {count}, nothing was built: replace the files and run the "
        "same command again, or keep the readable part with --lenient",
        file=sys.stderr,
    )
    return 1

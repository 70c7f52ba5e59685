"""`predict --stream` of a recording that is still written: a camera's live stream."""

import sys

from keras_qkformer.cli.answers import Answers, ranked_classes
from keras_qkformer.cli.argument_types import Number, is_live_source
from keras_qkformer.cli.arguments import local_folder, refuse_given
from keras_qkformer.cli.printing import sensor_told_once
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.printable import printable

OPTIONS = "follow", "drop", "idle", "lenient"
"""Names of the arguments of live streams alone."""
_ENDINGS = {
    "end": "the stream ended",
    "idle": "nothing came for {idle:g} s",
    "damage": "the stream is damaged",
    "closed": "stopped",
}


def add(parser):
    """Declare the options of live streams.

    Args:
        parser: `Parser` of `predict`.
    """
    parser.add_argument(
        "--follow",
        action="store_true",
        default=None,
        help="with --stream FILE: a file that grows, such as a camera's recording",
    )
    parser.add_argument(
        "--drop",
        action="store_true",
        default=None,
        help="of a live stream: drop whole frames if the model is too slow, instead of "
        "slowing the writer down",
    )
    parser.add_argument(
        "--idle",
        type=Number(0.01, 1_000_000),
        metavar="SECONDS",
        help="of a live stream: end it if no byte comes for so long (default: never)",
    )
    parser.add_argument(
        "--lenient",
        action="store_true",
        default=None,
        help="of a live stream: end it at damage, without an error",
    )


def check(arguments):
    """Raise `ValueError` for options that do not fit a live stream.

    Args:
        arguments: parsed arguments of `predict`, with a live stream.
    """
    source = arguments.stream
    if arguments.follow and is_live_source(source):
        raise ValueError(f"--follow must come with a file. Received: {source!r}")
    refuse_given(arguments, ("time_unit", "columns"), "a table", f"--stream {source}")
    if arguments.frame_ms is None:
        raise ValueError(
            "A live stream must have --frame-ms, as its duration is not known. "
            f"Received: --stream {source} without it"
        )


def run(arguments):
    """Print an answer after each frame, and at the end what was read and dropped.

    Return 1 if `--lenient` ended the stream at damage.
    """
    if arguments.stream == "-" and (sys.stdin is None or sys.stdin.isatty()):
        given = "a terminal" if sys.stdin else "none"
        raise ValueError(
            "--stream - must come with a recording at standard input, as in CAMERA | "
            f"keras-qkformer predict. Received: {given}"
        )
    load_libraries(arguments)
    from keras_qkformer.predict_live import predict_live

    source = sys.stdin.buffer if arguments.stream == "-" else arguments.stream
    names, answers = predict_live(
        local_folder(arguments.model),
        source,
        arguments.frame_ms,
        drop=bool(arguments.drop),
        idle_s=arguments.idle,
        strict=not arguments.lenient,
        orientation=arguments.orientation,
        sensor_size=arguments.sensor_size,
    )
    out = Answers(arguments.form, "end_ms", arguments.top)
    try:
        with answers, sensor_told_once():
            for answer in answers:
                _print_answer(out, names, answer)
    finally:  # After damage, a lost connection and Ctrl-C too.
        summary = answers.summary()
        told = _told(summary, arguments.idle)
        if arguments.lenient and summary.damage:  # Otherwise the error tells it.
            told = printable(f"{told}: {summary.damage}", 4096)
        out.end(told, **summary._asdict())
    return 1 if summary.damage else 0


def _print_answer(out, names, answer):
    latency, delay, dropped = answer.latency_ms, answer.delay_ms, answer.dropped
    note = f"took {latency:.1f} ms, {delay:.1f} ms after the last event"
    if dropped:
        note += f", {dropped} dropped"
    asked = f"{answer.end_ms:.1f} ms" if out.form == "text" else answer.end_ms
    ranked = ranked_classes(names, answer.probabilities)
    more = {"latency_ms": latency, "delay_ms": delay, "dropped": dropped}
    out.add(asked, *ranked, note=note, **more)


def _told(summary, idle):
    told = (
        f"{summary.answers} frames answered, {summary.dropped} dropped, "
        f"{summary.events:,} events"
    )
    if summary.format:
        told += f" of {summary.format}"
    for kind, count in summary.skipped.items():
        told += f", {count:,} {kind} skipped"
    if summary.answers:
        told += (
            f", {summary.mean_delay_ms:.1f} ms after the last event on average and "
            f"{summary.max_delay_ms:.1f} ms at most"
        )
    ending = _ENDINGS.get(summary.ended, "stopped")
    return f"{told}; {ending.format(idle=idle or 0)}"

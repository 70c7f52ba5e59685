"""Entry point of the command line: parse, choose the backend, run one command."""

import io
import os
import sys

from keras_qkformer import __version__
from keras_qkformer.cli import (
    analyze,
    completion,
    convert,
    data,
    evaluate,
    export,
    fit,
    keep,
    lr_plot,
    predict,
    presets,
    recipes,
    samples,
    serve_check,
    study,
    summary,
    upload,
)
from keras_qkformer.cli.arguments import PROGRAM, Commands, Parser
from keras_qkformer.cli.process import is_supervised, run_command, supervise

COMMANDS = (
    *(fit, study, evaluate, analyze, summary, lr_plot, recipes, keep, predict),
    *(export, serve_check, data, convert, upload, presets, samples, completion),
)


def main(arguments=None):
    """Run one command.

    Args:
        arguments: list of str, or `None` for `sys.argv[1:]`.

    Returns:
        Exit status: 0; 1 for damaged recordings, a failed check, or a bug in this
        library, whose traceback is then in a file; 2 for a user error, reported in one
        line on standard error; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else arguments
    arguments = make_parser().parse_args(given)
    if getattr(arguments, "backend", None):
        os.environ["KERAS_BACKEND"] = arguments.backend
    if not getattr(arguments, "hosts", None):
        return run_command(arguments)
    if not is_supervised():
        return supervise(given)
    status = run_command(arguments)
    if status:  # A normal exit would have JAX wait for hosts that never come.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def run_script():
    """Run the command of `sys.argv` and end the process with its status."""
    # A notebook names its own for all that it starts, of which not all can load it.
    os.environ["MPLBACKEND"] = "agg"
    if isinstance(sys.stdout, io.TextIOWrapper):
        # No name of a class, in letters that a terminal lacks, is to end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    status = main()
    if status > 128:  # A signal ended it. A normal exit may wait for threads.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def make_parser():
    """Return the `Parser` of all commands."""
    parser = Parser(
        prog=PROGRAM,
        description="Train, evaluate, export and serve spiking transformers.",
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROGRAM} {__version__}"
    )
    commands = Commands(parser)
    for command in COMMANDS:
        command.add(commands)
    return parser

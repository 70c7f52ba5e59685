"""`serve-check`: check an exported model, here or on a running server."""

from keras_qkformer.cli.argument_types import InputFolder, Number
from keras_qkformer.cli.arguments import (
    MODEL_URL,
    add_import,
    check_model,
    refuse_given,
)
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "serve-check",
        run,
        "check an exported model, here without Keras or on a running server",
        "saved_models/digits",
        loads=True,
    )
    parser.add_argument(
        "bundle",
        type=InputFolder(),
        help="folder that export wrote for TF Serving or OpenVINO, or a version in it",
    )
    parser.add_argument(
        "--model",
        type=InputFolder(),
        help="workdir or preset folder to compare with (default: the logits stored in "
        "the bundle)",
    )
    parser.add_argument(
        "--url",
        type=MODEL_URL,
        help="check a running server at this address; see predict",
    )
    parser.add_argument(
        "--seconds",
        type=Number(0.001, 3600),
        default=1.0,
        help="seconds per signature and batch size (default: 1)",
    )
    add_import(parser)


def run(arguments):
    """Print the report of the check; return 1 if a check failed."""
    if not arguments.model:
        refuse_given(arguments, ("import",), "--model", "no --model")
    else:
        check_model(arguments.model)
        load_libraries(arguments)
    from keras_qkformer.serving.check import serve_check

    return serve_check(
        arguments.bundle,
        model=arguments.model,
        url=arguments.url,
        seconds=arguments.seconds,
    )

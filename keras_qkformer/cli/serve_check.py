"""`serve-check`: check an exported model, here or on a running server."""


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "serve-check",
        run,
        "check an exported model, here without Keras or on a running server",
        "saved_models/digits",
    )
    parser.add_argument(
        "bundle", help="folder that export wrote, or one of its versions"
    )
    parser.add_argument(
        "--model",
        help="workdir or preset folder to compare with (default: the logits stored in "
        "the bundle)",
    )
    parser.add_argument(
        "--url", help="check a running server at this address; see predict"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="seconds per signature and batch size (default: 1)",
    )


def run(arguments):
    """Print the report of the check; return 1 if a check failed."""
    from keras_qkformer.serving.check import serve_check

    return serve_check(
        arguments.bundle,
        model=arguments.model,
        url=arguments.url,
        seconds=arguments.seconds,
    )

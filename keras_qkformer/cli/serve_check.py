"""`serve-check`: check an exported model, here or on a running server."""


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "serve-check",
        run,
        "check an exported model without Keras, or a server that has it",
        "saved_models/digits",
    )
    parser.add_argument("bundle", help="what export has written")
    parser.add_argument(
        "--model", help="a workdir whose answers to compare (those kept in the bundle)"
    )
    parser.add_argument("--url", help="ask a running server, see predict")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of measuring each signature (1)"
    )


def run(arguments):
    """Print the report of the check; its status is 1 if something failed."""
    from keras_qkformer.serving.check import serve_check

    return serve_check(
        arguments.bundle,
        model=arguments.model,
        url=arguments.url,
        seconds=arguments.seconds,
    )

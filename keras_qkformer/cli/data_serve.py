"""`data serve`: run the dispatcher or a worker of a tf.data service."""

from keras_qkformer.cli.arguments import positive_int


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "serve",
        run,
        "run a tf.data service, which makes training batches for fit",
        "--dispatcher 5050",
    )
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument(
        "--dispatcher",
        type=positive_int,
        metavar="PORT",
        help="run the dispatcher, which hands out work, on this port",
    )
    role.add_argument(
        "--worker", metavar="grpc://HOST:PORT", help="run a worker of this dispatcher"
    )
    parser.add_argument(
        "--address",
        default="localhost",
        help="host name under which fit reaches this worker (default: localhost)",
    )
    parser.add_argument(
        "--work-dir", help="where the dispatcher keeps its state across restarts"
    )


def run(arguments):
    """Serve until the process is killed."""
    from keras_qkformer.data.service import serve_dispatcher, serve_worker

    if arguments.dispatcher:
        server = serve_dispatcher(arguments.dispatcher, arguments.work_dir)
        print("dispatcher is ready", flush=True)
    else:
        server = serve_worker(arguments.worker, arguments.address)
        print("worker is ready", flush=True)
    server.join()

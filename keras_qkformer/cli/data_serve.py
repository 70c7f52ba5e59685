"""`data serve`: run the dispatcher or a worker of a tf.data service."""

from keras_qkformer.cli.argument_types import OutputFolder, Text, Whole
from keras_qkformer.cli.arguments import SERVICE, refuse_given
from keras_qkformer.cli.process import load_libraries


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
        type=Whole(1, 65535),
        metavar="PORT",
        help="run the dispatcher, which hands out work, on this port",
    )
    role.add_argument(
        "--worker",
        type=SERVICE,
        metavar="grpc://HOST:PORT",
        help="run a worker of this dispatcher",
    )
    parser.add_argument(
        "--address",
        type=Text("the name or address of a host, without port", r"[\w\[][\w.:\[\]-]*"),
        help="with --worker: host name under which fit reaches it (default: localhost)",
    )
    parser.add_argument(
        "--work-dir",
        type=OutputFolder(),
        help="with --dispatcher: where it keeps its state across restarts",
    )


def run(arguments):
    """Serve until the process is killed."""
    if arguments.dispatcher:
        refuse_given(arguments, ("address",), "--worker", "--dispatcher")
    else:
        refuse_given(arguments, ("work_dir",), "--dispatcher", "--worker")
    load_libraries(arguments)
    from keras_qkformer.data.service import serve_dispatcher, serve_worker

    if arguments.dispatcher:
        server = serve_dispatcher(arguments.dispatcher, arguments.work_dir)
        print("dispatcher is ready", flush=True)
    else:
        server = serve_worker(arguments.worker, arguments.address or "localhost")
        print("worker is ready", flush=True)
    server.join()

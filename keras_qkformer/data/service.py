"""Training batches from a tf.data service: other machines decode and augment."""

import contextlib
import socket
import time

import tensorflow as tf

CONNECT_S = 30
"""Seconds to wait for a dispatcher to answer."""


def distribute(dataset, address):
    """Let the workers of a tf.data service make the batches of a dataset.

    The dispatcher assigns each batch to one worker (sharding `DYNAMIC`), so each is
    made once as long as no worker fails. Batches arrive as they become ready: near the
    end of an epoch some may fall into the neighbouring one, and their order differs
    from run to run. Batches that a dying worker held are lost; training continues with
    the next.

    Args:
        dataset: a splittable `pipeline.training_dataset`.
        address: str `grpc://HOST:PORT` of the dispatcher.

    Returns:
        Endless `tf.data.Dataset`.

    Raises:
        ValueError: if no dispatcher answers, or a batch needs the state of this
            process: Python, or a random generator, as keras_cv's layers do.
    """
    _check_address(address)
    options = tf.data.Options()
    options.experimental_external_state_policy = (
        tf.data.experimental.ExternalStatePolicy.FAIL
    )
    service = tf.data.experimental.service
    try:
        distributed = dataset.with_options(options).apply(
            service.distribute(service.ShardingPolicy.DYNAMIC, address)
        )
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            "A tf.data service takes only batches that need nothing of this process. "
            f"Received: {reason}"
        ) from error
    return distributed.prefetch(tf.data.AUTOTUNE)


def serve_dispatcher(port, work_dir=None):
    """Start the dispatcher of a tf.data service.

    Args:
        port: int. Port to listen on, at all addresses of the machine, unencrypted.
        work_dir: str, path or `None`. Folder for the state of the dispatcher, from
            which a restarted dispatcher continues.

    Returns:
        A server that runs as long as a reference to it exists; `join()` blocks for
        ever.

    Raises:
        ValueError: if the port is taken.
    """
    service = tf.data.experimental.service
    config = service.DispatcherConfig(
        port=port,
        work_dir=None if work_dir is None else str(work_dir),
        fault_tolerant_mode=work_dir is not None,
    )
    try:
        return service.DispatchServer(config)
    except (tf.errors.OpError, RuntimeError) as error:
        raise ValueError(
            f"A dispatcher needs a free port. Received: {port}: {error}"
        ) from error


def serve_worker(dispatcher, address="localhost"):
    """Start a worker of a tf.data service, at a free port.

    Args:
        dispatcher: str `grpc://HOST:PORT`.
        address: str. Host name or IP address under which `fit` reaches this machine.

    Returns:
        See `serve_dispatcher`.

    Raises:
        ValueError: if no dispatcher answers.
    """
    _check_address(dispatcher)
    service = tf.data.experimental.service
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    return service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=dispatcher.removeprefix("grpc://"),
            worker_address=f"{address}:{port}",
            port=port,
        )
    )


def _check_address(address):
    """Raise `ValueError` unless something listens: TensorFlow would wait for long."""
    host, colon, port = address.removeprefix("grpc://").rpartition(":")
    is_port = port.isdecimal() and int(port) < 1 << 16
    if not address.startswith("grpc://") or not colon or not is_port:
        raise ValueError(
            "The address of a tf.data service must be like grpc://HOST:PORT. "
            f"Received: {address!r}"
        )
    end, reason = time.monotonic() + CONNECT_S, None
    while time.monotonic() < end:
        try:
            with contextlib.closing(socket.create_connection((host, int(port)), 5)):
                return
        except OSError as error:
            reason = error
            time.sleep(1)
    raise ValueError(
        f"A dispatcher must listen: keras-qkformer data serve --dispatcher {port}. "
        f"Received: {address!r}, silent for {CONNECT_S} s: {reason}"
    )

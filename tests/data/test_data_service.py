"""Batches from a tf.data service on loopback: all of them, and without a worker."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from harness import free_port

from keras_qkformer.data import data_service
from keras_qkformer.data.data_service import (
    distribute,
    serve_dispatcher,
    serve_worker,
)
from keras_qkformer.data.pipelines import load_examples, training_dataset

pytestmark = pytest.mark.backend_independent
COMMAND = Path(__file__).parents[2] / "keras_qkformer_cli.py"


def numbered_batches(count=12, **options):
    """Batches of two of the numbers below `count`, without end."""
    images = np.arange(count, dtype="uint8").reshape(count, 1, 1, 1)
    return training_dataset(
        images,
        np.arange(count),
        transform=lambda batch: tf.cast(batch, tf.float32),
        batch_size=2,
        seed=0,
        first_epoch=0,
        epochs=1,
        splittable=True,
        **options,
    )


def start_worker(address):
    worker = subprocess.Popen(
        [sys.executable, COMMAND, "data", "serve", "--worker", address],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdout.readline() == "worker is ready\n"
    return worker


def test_batches_go_on_when_a_worker_dies(tmp_path):
    port = free_port()
    address = f"grpc://localhost:{port}"
    dispatcher = serve_dispatcher(port, tmp_path / "work")
    first = serve_worker(address)
    # By one worker, in order: every example of an epoch once.
    batches = distribute(numbered_batches(), address).as_numpy_iterator()
    seen = np.concatenate([next(batches)[1] for _ in range(6)])
    assert sorted(seen) == list(range(12))
    second = start_worker(address)
    try:
        seen = [next(batches)[1] for _ in range(60)]
    finally:
        second.kill()
        second.communicate(timeout=20)
    seen += [next(batches)[1] for _ in range(300)]
    # What the dead one had in hand may be missing.
    counts = np.bincount(np.concatenate(seen), minlength=12)
    assert counts.min() > 0.5 * counts.max()
    del batches, first, dispatcher


def test_nobody_at_the_address_is_an_error(monkeypatch):
    monkeypatch.setattr(data_service, "CONNECT_S", 0.5)
    address = f"grpc://localhost:{free_port()}"
    with pytest.raises(ValueError, match=f"must listen.*'{address}', silent for 0.5 s"):
        distribute(numbered_batches(), address)


@pytest.mark.parametrize("address", ["localhost:5050", "grpc://localhost", "grpc://:x"])
def test_address_of_another_form_is_an_error(address):
    with pytest.raises(ValueError, match=f"grpc://HOST:PORT. Received: '{address}'"):
        distribute(numbered_batches(), address)


@pytest.mark.parametrize("kind", ["python", "generator"])
def test_batches_that_need_this_process_are_an_error(kind):
    port = free_port()
    dispatcher = serve_dispatcher(port)
    generator = tf.random.Generator.from_seed(0)

    def augment(images, labels, seed):
        if kind == "generator":
            return images + generator.uniform([]), labels
        return tf.numpy_function(lambda x: x, [images], tf.float32), labels

    with pytest.raises(ValueError, match="need nothing of this process"):
        distribute(numbered_batches(augment=augment), f"grpc://localhost:{port}")
    del dispatcher


def test_a_port_that_is_taken_is_an_error():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"free port. Received: {port}"):
            serve_dispatcher(port)


def test_images_that_are_decoded_late_are_refused():
    images, labels = load_examples("digits", "train[:20]")
    with pytest.raises(ValueError, match=r"no Python.* with a window"):
        training_dataset(
            images,
            labels,
            transform=lambda image: image,
            window=lambda *size: (0, 0, 8, 8),
            batch_size=4,
            seed=0,
            first_epoch=0,
            epochs=1,
            splittable=True,
        )

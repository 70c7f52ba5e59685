"""Batches from a tf.data service on loopback: all of them, and without a worker."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from fake_images import (
    encode,
    make_folder,
    make_records,
    picture,
    zip_folder,
)
from harness import free_port

from keras_qkformer.data import service as data_service
from keras_qkformer.data.images.augment import random_window
from keras_qkformer.data.images.encoded_images import EncodedImages, plain_errors
from keras_qkformer.data.pipeline import training_dataset
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.service import distribute, serve_dispatcher, serve_worker
from keras_qkformer.data.sources import load_examples

pytestmark = pytest.mark.backend_independent
COMMAND = [sys.executable, "-m", "keras_qkformer"]


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
        [*COMMAND, "data", "serve", "--worker", address],
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


@pytest.mark.parametrize(
    "address",
    ["localhost:5050", "grpc://localhost", "grpc://:x", "grpc://localhost:65536"],
)
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


@pytest.fixture
def service():
    """The address of a dispatcher with one worker."""
    port = free_port()
    dispatcher = serve_dispatcher(port)
    worker = serve_worker(f"grpc://localhost:{port}")
    yield f"grpc://localhost:{port}"
    del worker, dispatcher


def options_of(window=None, **more):
    options = {"batch_size": 4, "seed": 3, "first_epoch": 1, "epochs": 3, **more}
    transform = Preprocessing((16, 16), (0,) * 3, (1,) * 3, crop=1.0).pixels
    return {"transform": transform, "window": window, **options}


def mixed_folder(root):
    """A folder of images of many kinds; two of 14 are damaged."""
    make_folder(root)
    image_module = pytest.importorskip("PIL.Image", reason="makes the files")
    colour = image_module.fromarray(picture(0))
    folder = root / "train/cat"
    (folder / "grey.jpg").write_bytes(encode(colour.convert("L"), "jpeg"))
    (folder / "print.jpg").write_bytes(encode(colour.convert("CMYK"), "jpeg"))
    (folder / "0.jpg").write_bytes(encode(colour.convert("RGBA"), "png"))
    (folder / "1.jpg").write_bytes(encode(colour, "gif"))
    whole = (root / "train/dog/2.jpg").read_bytes()
    (root / "train/dog/2.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/dog/3.jpg").write_bytes(b"")
    return root


@pytest.mark.parametrize("window", [None, random_window])
@pytest.mark.parametrize("kind", ["folder", "tfrecord"])
def test_images_are_decoded_by_workers_as_here(service, tmp_path, kind, window):
    if kind == "folder":
        make_folder(tmp_path)
    else:
        make_records(tmp_path, "train", 12, vary=True)
    inputs, labels = load_examples(kind, "train", data_dir=str(tmp_path))
    assert isinstance(inputs, EncodedImages)
    options = options_of(window)
    ours = list(training_dataset(inputs, labels, **options).as_numpy_iterator())
    theirs = training_dataset(inputs, labels, splittable=True, **options)
    theirs = list(distribute(theirs, service).take(6).as_numpy_iterator())
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_workers_leave_out_damaged_images(service, tmp_path):
    inputs, labels = load_examples(
        "folder", "train", data_dir=str(mixed_folder(tmp_path))
    )
    places = np.arange(len(labels))
    options = {**options_of(), "batch_size": 2}
    batches = training_dataset(inputs, places, splittable=True, **options)
    # Twelve whole images, so that an epoch of 14 gives six batches.
    batches = list(distribute(batches, service).take(12).as_numpy_iterator())
    here, kept = inputs.without_damaged(places)
    assert (len(here), len(kept)) == (12, 12)
    for epoch in (batches[:6], batches[6:]):
        assert sorted(np.concatenate([places for _, places in epoch])) == [*kept]
        for images, numbers in epoch:
            for image, number in zip(images, numbers, strict=True):
                expected = options["transform"](inputs.decode(number))
                np.testing.assert_array_equal(image, expected)


def test_with_strict_a_damaged_image_ends_training_with_its_name(service, tmp_path):
    root = mixed_folder(tmp_path)
    (root / "train/dog/3.jpg").unlink()
    inputs, labels = load_examples("folder", "train", data_dir=str(root))
    inputs.strict = True
    batches = training_dataset(inputs, labels, splittable=True, **options_of())
    with pytest.raises(
        ValueError, match=rf"must be whole\. .*: {root}/train/dog/2.jpg$"
    ):
        with plain_errors(inputs.damaged):
            list(distribute(batches, service).take(6))


@pytest.mark.parametrize("kind", ["folder", "tfrecord"])
def test_a_file_that_workers_do_not_see_ends_training(service, tmp_path, kind):
    make_folder(tmp_path)
    make_records(tmp_path, "train", 12, vary=True)
    lost = {"folder": "train/dog/2.jpg", "tfrecord": "train-00001-of-00002"}[kind]
    inputs, labels = load_examples(kind, "train", data_dir=str(tmp_path))
    (tmp_path / lost).unlink()
    batches = training_dataset(inputs, labels, splittable=True, **options_of())
    with pytest.raises(ValueError, match=rf"same path.* Received: {tmp_path}/{lost}$"):
        with plain_errors(inputs.damaged):
            list(distribute(batches, service).take(6))


def test_images_in_a_zip_are_refused(tmp_path):
    path = zip_folder(make_folder(tmp_path / "images"))
    inputs, labels = load_examples("folder", "train", data_dir=str(path))
    with pytest.raises(ValueError, match=rf"unpack the zip. Received: {path}"):
        training_dataset(inputs, labels, splittable=True, **options_of())


def test_batches_of_damaged_sets_draw_differently(tmp_path):
    inputs, labels = load_examples(
        "folder", "train", data_dir=str(mixed_folder(tmp_path))
    )

    def augment(images, labels, seed):
        return tf.stack(seed), labels

    seeds = []
    for part in range(2):
        options = options_of(augment=augment, shard=(part, 2), batch_size=4)
        batches = training_dataset(inputs, labels, splittable=True, **options)
        seeds += [tuple(seed) for seed, _ in batches.take(40).as_numpy_iterator()]
    assert len({*seeds}) == 80

"""Measures the input pipeline with our RandAugment, and that of keras_cv and Keras.

    python -m benchmarks.images PHOTOS [--seconds 20] [--batches 10000]

PHOTOS is a zip or folder of JPEG photos of any size. They are resized to 500x375 pixels
at JPEG quality 90, the mean photo of ImageNet, and read from a folder by the pipeline
of this library. Two cases are measured: 224 pixels with the ImageNet policy (random
resized crop, flip, `rand-m9-n2-mstd0.5-inc1`, erasing 0.25 by pixel), and 32 pixels
from memory with the CIFAR policy (flip, `rand-m9-n1-mstd0.4-inc1`, mixup, erasing
0.25). The RandAugment of keras_cv and of Keras replaces ours in the same pipeline.

Rounds are interleaved, A B C A B C. Prints the median over the rounds, in images per
second, and the memory of the process over `--batches` batches at 32 pixels. Writes all
results with machine and versions to `benchmarks/results/images-<date>.json`.
"""

import argparse
import datetime
import functools
import io
import json
import os
import platform
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.events import RESULTS, processor
from keras_qkformer import __version__
from keras_qkformer.data import pipeline, sources
from keras_qkformer.data.images import augment as images_augment
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.settings import ImageAugmentation
from keras_qkformer.published_data import CIFAR_PIXELS, IMAGENET_PIXELS

IMAGENET_POLICY = {"num_ops": 2, "magnitude_std": 0.5, "erase_mode": "pixel"}
CIFAR_POLICY = {
    "num_ops": 1,
    "magnitude_std": 0.4,
    "erase_mode": "const",
    "mixup_alpha": 0.5,
}
ROUNDS = 5


def resized_photos(photos, folder):
    """Write the photos as `<folder>/train/photo/*.jpg` of 500x375 or 375x500 pixels.

    Args:
        photos: str or path of a zip or folder.
        folder: `Path`.

    Returns:
        Number of photos.
    """
    target = folder / "train" / "photo"
    target.mkdir(parents=True)
    if Path(photos).is_dir():
        files = [path.read_bytes() for path in sorted(Path(photos).iterdir())]
    else:
        with zipfile.ZipFile(photos) as archive:
            files = [
                archive.read(name)
                for name in sorted(archive.namelist())
                if name.lower().endswith((".jpeg", ".jpg"))
            ]
    for number, content in enumerate(files):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        size = (500, 375) if image.width >= image.height else (375, 500)
        image.resize(size, Image.Resampling.BICUBIC).save(
            target / f"{number:04}.jpg", quality=90
        )
    return len(files)


def make_augment(policy, num_classes, statistics_, options):
    """Return the `augment` function of a pipeline.

    Args:
        policy: str. One of `POLICIES`: whose RandAugment to use.
        num_classes: int > 0.
        statistics_: dict with `mean` and `std` of the pixels.
        options: dict of fields of `ImageAugmentation`.
    """
    common = {"num_classes": num_classes, **statistics_}
    options = {"erase_probability": 0.25, **options}
    if policy != "keras":
        settings = ImageAugmentation(policy=policy, **options)
        return functools.partial(images_augment.augment, settings=settings, **common)
    layer = keras.layers.RandAugment(
        value_range=(0, 255), num_ops=options["num_ops"], factor=0.9
    )
    rest = ("erase_probability", "erase_mode", "mixup_alpha")
    settings = ImageAugmentation(**{k: v for k, v in options.items() if k in rest})

    def augment(images, labels, seed):
        images = layer(tf.cast(images, tf.float32))
        images = tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
        return images_augment.augment(images, labels, seed, settings, **common)

    return augment


POLICIES = ("randaugment", "keras_cv", "keras", "none")


def make_pipelines(folder, cifar, policies=POLICIES):
    """Return the endless pipelines, as a dict from (case, policy) to `tf.data.Dataset`.

    Args:
        folder: path of the resized photos.
        cifar: `(images, labels)`, uint8 `(examples, 32, 32, 3)` and int `(examples,)`.
        policies: names of RandAugments, from `POLICIES`.
    """
    photos, labels = sources.load_examples("folder", "train", data_dir=str(folder))
    common = {"seed": 0, "first_epoch": 0, "epochs": 1_000_000}
    found = {}
    for policy in policies:
        found["224, ImageNet policy", policy] = pipeline.training_dataset(
            photos,
            labels,
            transform=Preprocessing(
                (224, 224), **IMAGENET_PIXELS, interpolation="bicubic"
            ).pixels,
            window=images_augment.random_window,
            batch_size=32,
            augment=make_augment(policy, 1000, IMAGENET_PIXELS, IMAGENET_POLICY),
            **common,
        )
        found["32, CIFAR policy", policy] = pipeline.training_dataset(
            *cifar,
            transform=Preprocessing((32, 32), **CIFAR_PIXELS).pixels,
            batch_size=64,
            augment=make_augment(policy, 10, CIFAR_PIXELS, CIFAR_POLICY),
            **common,
        )
    return found


def rate(iterator, seconds):
    """Measure images per second, and per second of processor time.

    Batches that are ready already are used up first, for a quarter of `seconds`.

    Args:
        iterator: iterator over batches `(images, labels)`.
        seconds: float > 0.
    """
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds / 4:
        next(iterator)
    start, start_processor = time.monotonic(), time.process_time()
    while time.monotonic() - start < seconds:
        count += len(next(iterator)[1])
    return (
        count / (time.monotonic() - start),
        count / (time.process_time() - start_processor),
    )


def resident_megabytes():
    """Return the resident memory of this process, in 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(dataset, batches):
    """Return the resident memory after each tenth of the batches, in 10^6 bytes.

    Args:
        dataset: `tf.data.Dataset`.
        batches: int > 0.
    """
    found = []
    for number, _ in enumerate(dataset.take(batches), 1):
        if number % max(batches // 10, 1) == 0:
            found.append(round(resident_megabytes(), 1))
    return found


def main():
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="a zip or folder of JPEG photos")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="per pipeline, over all rounds (default: 20)",
    )
    parser.add_argument(
        "--batches",
        type=int,
        default=10_000,
        help="for the memory; 0 skips it (default: 10000)",
    )
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    rng = np.random.default_rng(0)
    cifar = (
        rng.integers(0, 256, (10_000, 32, 32, 3), "uint8"),
        rng.integers(0, 10, 10_000),
    )
    with tempfile.TemporaryDirectory() as folder:
        count = resized_photos(arguments.photos, Path(folder))
        rates, memories = {}, []
        datasets = make_pipelines(folder, cifar)
        iterators = {key: iter(dataset) for key, dataset in datasets.items()}
        # One at a time: the other pipelines fill their buffers and then stop.
        for number in range(ROUNDS + 1):
            for key, iterator in iterators.items():
                found = rate(iterator, arguments.seconds / ROUNDS)
                if number:  # The first round warms up.
                    rates.setdefault(key, []).append(found)
        if arguments.batches:
            iterators.clear()
            memories = memory(
                datasets["32, CIFAR policy", "randaugment"], arguments.batches
            )
    today = datetime.date.today().isoformat()
    speeds = {}
    for (case, policy), values in rates.items():
        by_clock, by_processor = zip(*values, strict=True)
        speeds.setdefault(case, {})[policy] = {
            "median": round(statistics.median(by_clock), 1),
            "slowest": round(min(by_clock), 1),
            "fastest": round(max(by_clock), 1),
            "per_processor_second": round(statistics.median(by_processor), 1),
        }
    result = {
        "what": (
            "images per second of the input pipeline alone, all cores; and per second "
            "of processor time, which other processes change little"
        ),
        "date": today,
        "command": "python -m benchmarks.images PHOTOS",
        "photos": f"{count}, resized to 500x375 at JPEG quality 90",
        "images_of_32_pixels": "random pixels in memory",
        "rounds": ROUNDS,
        "speeds": speeds,
        "megabytes_of_the_process": {
            "batches": arguments.batches,
            "after_each_tenth": memories,
        },
        "machine": processor(),
        "load_average_before": round(load_before, 2),
        "versions": {
            "keras_qkformer": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    for case, policies in speeds.items():
        for policy, speed in policies.items():
            print(
                f"{case:<24}{policy:<14}{speed['median']:>10,.0f} images/s"
                f"{speed['per_processor_second']:>10,.0f} per processor second"
            )
    print("megabytes after each tenth of the batches:", memories)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"images-{today}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()

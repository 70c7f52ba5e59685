"""Handwritten digits in front of a simulated event camera, as recordings on disk.

A labelled set of recordings that needs no download, and a template for one of your own
images: the files are `<split>/<class>/<index>.aedat`.
"""

import json
import os
from pathlib import Path

import numpy as np

from keras_qkformer.data.sources import load_examples
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.camera import move_image, saccade_path, simulate_events
from keras_qkformer.files import whole_file, write_text

SENSOR_SIZE = (32, 32)
DURATION_US = 300_000
_ENLARGED = 3  # 8x8 pixels become 24x24, which leaves 8 to move in.
_NUM_FRAMES = 46  # The image moves by at most half a pixel per frame.
_LONGEST_MOVE = 7
_CAMERA = {
    "threshold_on": 0.4,
    "threshold_off": 0.4,
    "threshold_std": 0.03,
    "refractory_us": 1000,
    "noise_rate_hz": 1.0,
}
_MARK = "moving_digits.json"


def write_moving_digits(folder, *, seed=0, most=None):
    """Write the moving digits of scikit-learn as AEDAT 3.1 files.

    Each of the 1797 scans moves once around a triangle of random place, size and
    direction, within 0.3 s, on a sensor of 32x32 pixels. Splits are those of the source
    "digits": 1437 for training and 360 for the test.

    Files that exist stay: an interrupted call can be repeated, and a call with a larger
    `most` adds files. A file appears under its name only when it is complete.

    Args:
        folder: str or path of a folder that is new, empty or of an earlier call with
            the same seed.
        seed: int >= 0. Seed of paths, noise and thresholds. Each recording depends only
            on it, on the split and on its index in the split.
        most: int > 0 or `None`. Maximum number of recordings per split.

    Returns:
        int. Number of files that this call wrote.

    Raises:
        ValueError: if an argument is out of range or the folder holds something else.
        ImportError: if scikit-learn is not installed.

    Example:
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_moving_digits(folder, most=3)
    6
    >>> write_moving_digits(folder, most=3)
    0
    """
    if most is not None and not (most == int(most) and most > 0):
        raise ValueError(f"most must be a whole number above 0. Received: most={most}")
    if not (seed == int(seed) and seed >= 0):
        raise ValueError(f"seed must be a whole number from 0. Received: seed={seed}")
    folder = Path(folder)
    splits = {name: load_examples("digits", name) for name in ("train", "test")}
    _claim(folder, {"data": "moving digits", "version": 1, "seed": seed})
    written = 0
    for number, (split, (images, labels)) in enumerate(splits.items()):
        for index, (image, label) in enumerate(
            zip(images[:most], labels[:most], strict=True)
        ):
            path = folder / split / str(label) / f"{index:04}.aedat"
            if not path.exists():
                rng = np.random.default_rng([seed, number, index])
                with whole_file(path) as place:
                    write_aedat31(place, _record(image[..., 0] / 255, rng))
                written += 1
    return written


def _record(image, rng):
    """Simulate the events of one moving image with values in [0, 1]."""
    room = np.subtract(SENSOR_SIZE, _ENLARGED * np.array(image.shape))
    amplitude = rng.uniform(4, _LONGEST_MOVE)
    corner = rng.uniform(0, room - amplitude)
    if rng.random() < 0.5:  # Start at the other end, and go up and to the left.
        corner, amplitude = corner + amplitude, -amplitude
    path = saccade_path(corner, amplitude, _NUM_FRAMES)
    frames = move_image(image, SENSOR_SIZE, path, scale=_ENLARGED)
    times_us = np.linspace(0, DURATION_US, _NUM_FRAMES)
    return simulate_events(frames, times_us, rng, **_CAMERA)


def _claim(folder, mark):
    """Mark a folder as moving digits, or refuse one that holds something else."""
    path = folder / _MARK
    if path.is_file():
        found = path.read_text("utf-8")
        if found != json.dumps(mark):
            raise ValueError(
                f"A folder of moving digits must be of the same seed and version: "
                f"{json.dumps(mark)}. Received: {os.fspath(folder)!r} with {found}"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            "Moving digits need a new or empty folder, or one of their own. "
            f"Received: {os.fspath(folder)!r}, which is something else"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(mark))

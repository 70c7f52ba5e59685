"""Handwritten digits in front of a simulated event camera, as recordings on disk.

A labelled set of recordings that needs no download, and the pattern for one of your own
images: the folders are `<split>/<class>/<index>.aedat`.
"""

import json
import os
from pathlib import Path

import numpy as np

from keras_qkformer.data.sources import load_examples
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.camera import move_image, saccade_path, simulate_events
from keras_qkformer.files import whole_file

SENSOR_SIZE = (32, 32)
DURATION_US = 300_000
_ENLARGED = 3  # 8x8 pixels become 24x24: 8 are left to move in.
_NUM_FRAMES = 46  # Half a pixel at most from one to the next.
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

    Each of the 1797 scans makes one saccade around a triangle, of its own place, size
    and direction, within 0.3 s on a sensor of 32x32 pixels. Splits are those of the
    source "digits": 1437 for training and 360 for the test.

    What is there already stays, so that a call that was interrupted can be repeated,
    and one with a larger `most` adds to a smaller one. No file is ever half written
    under its name.

    Args:
        folder: str or path, new, empty or of an earlier call with the same seed.
        seed: int >= 0. Of paths, noise and thresholds: each recording depends on it and
            on its own place in the split only.
        most: int > 0, or `None` for all. Recordings per split at most.

    Returns:
        Number of the files that were written now.

    Raises:
        ValueError: if an argument is out of range or the folder holds something else.
        ImportError: without scikit-learn.

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
    """Events of one image with values in [0, 1]."""
    room = np.subtract(SENSOR_SIZE, _ENLARGED * np.array(image.shape))
    amplitude = rng.uniform(4, _LONGEST_MOVE)
    corner = rng.uniform(0, room - amplitude)
    if rng.random() < 0.5:  # Up and to the left, from the other end.
        corner, amplitude = corner + amplitude, -amplitude
    path = saccade_path(corner, amplitude, _NUM_FRAMES)
    frames = move_image(image, SENSOR_SIZE, path, scale=_ENLARGED)
    times_us = np.linspace(0, DURATION_US, _NUM_FRAMES)
    return simulate_events(frames, times_us, rng, **_CAMERA)


def _claim(folder, mark):
    """Make the folder ours, or refuse one that is not."""
    path = folder / _MARK
    if path.is_file():
        found = path.read_text()
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
    path.write_text(json.dumps(mark))

"""The handwritten digits of scikit-learn, as a source and as image files."""

import importlib.util
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_qkformer.data.source import SPLITS, Source, check_split
from keras_qkformer.files import whole_file


def digits():
    """Return the handwritten digits that come with scikit-learn, 8x8 grey.

    1797 scans of the UCI test set (Alpaydin and Kaynak, 1998), in a fixed random order;
    every fifth is a test example.

    Returns:
        `Source`.
    """

    def load(split, bounds):
        check_split(split, SPLITS["digits"])
        pixels, labels = _read_digits()
        order = np.random.default_rng(0).permutation(len(labels))
        is_test = np.arange(len(order)) % 5 == 0
        chosen = order[is_test if split == "test" else ~is_test]
        chosen = chosen[slice(*bounds(len(chosen)))]
        images = np.round(pixels[chosen, ..., None] * (255 / 16))
        return images.astype("uint8"), labels[chosen]

    return Source(
        class_names=tuple("0123456789"), mean=(0.3053,), std=(0.3760,), load=load
    )


def _read_digits():
    """Return pixels from 0 to 16, `(1797, 8, 8)`, and labels."""
    package = importlib.util.find_spec("sklearn")
    if package is None:
        raise ImportError(
            "The digits come with scikit-learn: pip install 'keras_qkformer[demo]'"
        )
    # Importing it takes more than a second.
    (folder,) = package.submodule_search_locations
    path = Path(folder, "datasets", "data", "digits.csv.gz")
    table = np.loadtxt(path, delimiter=",", dtype="int64")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


def write_digit_images(folder, most=None):
    """Write the digits as PNG files `<split>/<class>/<index>.png`.

    Args:
        folder: str or path. Made if needed; files that exist stay.
        most: int > 0 or `None`. Maximum number of images per split.

    Returns:
        int. Number of files that this call wrote.
    """
    written, source = 0, digits()
    for split in ("train", "test"):
        images, labels = source.load(split, lambda count: (0, count))
        for index, (image, label) in enumerate(
            zip(images[:most], labels[:most], strict=True)
        ):
            path = Path(folder) / split / str(label) / f"{index:04}.png"
            if not path.exists():
                with whole_file(path) as place:
                    Path(place).write_bytes(tf.io.encode_png(image).numpy())
                written += 1
    return written

"""Examples that a training or an export keeps beside a model, with its logits."""

import io

import numpy as np

from keras_qkformer.printable import printable
from keras_qkformer.zip_file import CheckedZip

_DIRECTORY_BYTES = 10_000


def read_examples(path, names):
    """Read `examples.npz` of a workdir or an exported model.

    Args:
        path: str or path of the file.
        names: names of arrays that it must have.

    Returns:
        Dict of numeric arrays, all with a row per example; what the file holds besides
        `names` is in it too.

    Raises:
        ValueError: if the file is damaged, an array is missing or not of numbers, or
            the arrays have different numbers of rows.
        OSError: if the file can't be read.
    """
    try:
        with CheckedZip(path, _DIRECTORY_BYTES) as archive:
            arrays = {
                info.filename.removesuffix(".npy"): _read_array(archive, info)
                for info in archive.infolist()
            }
        for name in names:
            if name not in arrays:
                raise ValueError(f"an array {printable(name)} is missing")
        if len({array.shape[:1] for array in arrays.values()}) != 1:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise ValueError(f"arrays of different lengths, {printable(str(shapes))}")
        if not all(array.shape and len(array) for array in arrays.values()):
            raise ValueError("arrays without a row")
    except ValueError as error:
        raise ValueError(
            "Examples must be an .npz file with a row per example, as fit and export "
            f"write it. Received: {str(path)!r}: {error}"
        ) from error
    return arrays


def _read_array(archive, info):
    data = io.BytesIO(archive.read_entry(info.filename, info.file_size))
    try:
        array = np.lib.format.read_array(data, allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python does.
        raise ValueError(f"its array {printable(info.filename)} is damaged") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"its array {printable(info.filename)} is not of numbers")
    return array

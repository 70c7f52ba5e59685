"""Make qkformer_small.npz and the like: parts of the golden files of whole models.

    python tests/golden/make_small_model.py ../shared/golden/qkformer_dvs.npz \
        tests/golden/qkformer_small.npz

The large file comes from the authors' code in float64. Two of its inputs are kept with
what each gives alone, and the training step of the first one with the gradients of the
first unit, the farthest from the loss. Features are kept if they are whole numbers.
Nothing is changed, only stored more tightly: whole numbers as bytes, and all weights as
one array with one row for each byte of a float32, because the bytes of sign and
exponent then compress.
"""

import json
import sys
from pathlib import Path

import numpy as np

INPUTS = 2


def main(path, target):
    """Write the small file."""
    large = np.load(path)
    weights = {
        name: large[name]
        for name in large
        if name.startswith("state_dict/") and large[name].dtype == np.float32
    }
    shapes = {name: list(array.shape) for name, array in weights.items()}
    flat = np.concatenate([array.ravel() for array in weights.values()])
    kernel = next(name for name in shapes if len(shapes[name]) == 4)
    # Of "patch_embed1.proj_conv.weight" and the like, or of "conv1.weight".
    first = kernel.removeprefix("state_dict/").removesuffix("weight")
    first_unit = (first.removesuffix("conv."), first.replace("conv1.", "bn1."))
    arrays = {
        "config_json": large["config_json"],
        "shapes_json": json.dumps(shapes),
        "weight_bytes": np.ascontiguousarray(flat.view("u1").reshape(-1, 4).T),
        "x": _tight(large["x"][:INPUTS]),
        "eval/logits": large["eval/logits"][:INPUTS],
    }
    for name in large:
        if name.startswith("eval/features/"):
            feature = large[name][:, :INPUTS]
            if np.array_equal(feature, np.round(feature)):
                arrays[name] = _tight(feature)
        elif name.startswith("train_single/"):
            tensor = name.removeprefix("train_single/").partition("/")[2]
            if not tensor or tensor.startswith(first_unit):
                arrays[name] = large[name]
    np.savez_compressed(target, **arrays)
    print(f"{target}: {Path(target).stat().st_size} bytes")


def _tight(array):
    """Whole numbers in one byte each, others as they are."""
    small = array.astype("u1")
    return small if np.array_equal(array, small) else array


if __name__ == "__main__":
    main(*sys.argv[1:])

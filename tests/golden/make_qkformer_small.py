"""Make qkformer_small.npz: a part of the golden file of the DVS family.

    python tests/golden/make_qkformer_small.py ../shared/golden/qkformer_dvs.npz

The large file comes from the authors' code in float64. Two of its four inputs are
kept with what each gives alone, and the training step of the first one with the
gradients of the first unit, the farthest from the loss. Nothing is changed, only
stored more tightly: whole numbers as bytes, and all weights as one array with one row
for each byte of a float32, because the bytes of sign and exponent then compress.
"""

import json
import sys
from pathlib import Path

import numpy as np

INPUTS = 2
FIRST_UNIT = "patch_embed1.proj_"


def main(path):
    """Write `qkformer_small.npz` beside this file."""
    large = np.load(path)
    weights = {
        name: large[name]
        for name in large
        if name.startswith("state_dict/") and large[name].dtype == np.float32
    }
    shapes = {name: list(array.shape) for name, array in weights.items()}
    flat = np.concatenate([array.ravel() for array in weights.values()])
    arrays = {
        "config_json": large["config_json"],
        "shapes_json": json.dumps(shapes),
        "weight_bytes": np.ascontiguousarray(flat.view("u1").reshape(-1, 4).T),
        "x": _as_bytes(large["x"][:INPUTS]),
        "eval/logits": large["eval/logits"][:INPUTS],
    }
    for name in large:
        if name.startswith("eval/features/"):
            arrays[name] = _as_bytes(large[name][:, :INPUTS])
        elif name.startswith("train_single/"):
            tensor = name.removeprefix("train_single/").partition("/")[2]
            if not tensor or tensor.startswith(FIRST_UNIT):
                arrays[name] = large[name]
    target = Path(__file__).with_name("qkformer_small.npz")
    np.savez_compressed(target, **arrays)
    print(f"{target}: {target.stat().st_size} bytes")


def _as_bytes(array):
    """The same whole numbers in one byte each."""
    assert np.array_equal(array, array.astype("u1"))
    return array.astype("u1")


if __name__ == "__main__":
    main(sys.argv[1])

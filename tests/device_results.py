"""What `train_on_devices.py` leaves: the same on any devices, which send only sums."""

import math
import re

import numpy as np
from train_on_devices import LEARNING_RATE


def check_collectives(result):
    """Only sums, and of nothing but gradients, statistics and numbers.

    Args:
        result: dict of arrays; the lines of collectives are taken out of it.

    Returns:
        How many there are.
    """
    lines = [str(line) for line in result.pop("collectives", [])]
    assert all(re.search(r"= .* all-reduce(-start)?\(", line) for line in lines), lines
    sizes = {value.size for key, value in result.items() if key.startswith("weight")}
    for line in lines:
        for shape in re.findall(r"f(?:32|64)\[([\d,]*)\]", line.split("all-reduce")[0]):
            numbers = [int(number) for number in shape.split(",") if number]
            assert math.prod(numbers) in sizes | {1}, line
    return len(lines)


def assert_same(ours, theirs, rtol):
    """Equal relative to the largest value of an array, or to one step of learning.

    A bias in front of BatchNorm has no gradient but rounding, of which AdamW makes
    steps: those stay far below the others, and the moving mean follows them.
    """
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        scale = max(np.abs(theirs[name]).max(), LEARNING_RATE)
        # The weights of examples that are repeated have 32 bits.
        tolerance = 1e-7 if name == "history val_loss" else rtol
        unit, _, last = name.rpartition("/conv/bias" if "/conv/" in name else "/norm/")
        if f"{unit}/conv/bias" in ours and last in ("", "moving_mean"):
            tolerance = 1e-6
        np.testing.assert_allclose(
            array / scale, theirs[name] / scale, rtol=0, atol=tolerance, err_msg=name
        )

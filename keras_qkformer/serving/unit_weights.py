"""Folded weights of units as arrays, rounded to 8 bits where the input is whole."""

import dataclasses
import functools
from types import MappingProxyType

import numpy as np
from keras import ops

from keras_qkformer.serving.rounding import round_kernel, scale_of

KINDS = ("float32", "int8")
LARGEST = 255  # Of an unsigned number of 8 bits.


@dataclasses.dataclass(frozen=True)
class Folded:
    """Weights of one unit.

    Attributes:
        kernel: array `(filters, channels, rows, columns)`, float32 or int8.
        scale: float32 array `(filters,)` by which an int8 kernel is multiplied, or
            `None`.
        offset: float32 array `(filters,)`.
    """

    kernel: np.ndarray
    scale: np.ndarray | None
    offset: np.ndarray


class UnitWeights:
    """Folds the units of a model, and keeps their weights.

    With `"int8"`, the kernel of a unit whose input is whole numbers up to 255 is
    rounded, symmetrically and with one scale per filter; others stay float32. The model
    itself then computes with the rounded weights, in its own dtype.

    Args:
        kind: `"float32"` or `"int8"`.
        moments: dict from units to the second moments of their inputs, see
            `rounding.second_moments`: the kernel of such a unit is rounded so that its
            output on these inputs changes least. Others are rounded to the nearest.

    Attributes:
        found: dict from units to `Folded`.
    """

    def __init__(self, kind="float32", moments=MappingProxyType({})):
        self.kind = kind
        self.moments = moments
        self.found = {}

    def of(self, unit, largest):
        """Return the weights of a unit, which is folded the first time.

        Args:
            unit: built `ConvBNLIF`.
            largest: int. The largest value of its input if that is whole numbers, else
                `None`.

        Returns:
            `Folded`.
        """
        if unit not in self.found:
            rounds = self.kind == "int8" and largest is not None and largest <= LARGEST
            unit.fold(functools.partial(self._keep, unit, rounds))
        return self.found[unit]

    def float_units(self):
        """Return the paths of the units whose weights are not rounded."""
        return [unit.path for unit, each in self.found.items() if each.scale is None]

    def _keep(self, unit, rounds, kernel, offset):
        kernel, offset = (ops.convert_to_numpy(x) for x in (kernel, offset))
        scale, stored = None, kernel
        if rounds:
            scale = scale_of(kernel).astype("float32")
            stored = round_kernel(kernel, scale, self.moments.get(unit))
            kernel = stored * scale.astype(kernel.dtype)
        stored = stored if rounds else stored.astype("float32")
        self.found[unit] = Folded(
            kernel=np.ascontiguousarray(stored.transpose(3, 2, 0, 1)),
            scale=scale,
            offset=offset.astype("float32"),
        )
        return lambda: (ops.convert_to_tensor(kernel), ops.convert_to_tensor(offset))

"""One array of a checkpoint and the variable that holds it, in the layouts of both."""

import dataclasses

import keras
import numpy as np
from keras import ops

# Our variables of a layer -> what PyTorch calls them.
_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# PyTorch counts batches, behind the variance of BatchNorm; nothing of ours corresponds.
IGNORED = "num_batches_tracked"
BEFORE_IGNORED = "running_var"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of theirs and the variable of ours that holds it.

    Attributes:
        name: the authors' name, such as `"stage1.0.tssa.q_conv.weight"`.
        variable: our Keras variable.
        kernel_ndim: number of axes of their array if it is a kernel, stored by PyTorch
            with the output channels first: `(out, in, ...)` there, `(..., in, out)`
            here. `None` for other arrays.
    """

    name: str
    variable: keras.Variable
    kernel_ndim: int | None

    def to_ours(self, array):
        """An array in the authors' layout, in ours.

        Raises:
            ValueError: if its number of values or its order of axes does not fit.
        """
        array = np.asarray(array)
        if self.kernel_ndim is not None:
            # (out, in) and (out, in, 1) are linear layers: 1x1 kernels here.
            array = np.moveaxis(array, (0, 1), (-1, -2))
            if array.ndim < len(self.variable.shape):
                ones = len(self.variable.shape) - array.ndim
                array = array.reshape((1,) * ones + array.shape)
        if array.shape != tuple(self.variable.shape):
            raise ValueError
        return array

    def to_theirs(self):
        """The value of our variable in the authors' layout."""
        array = ops.convert_to_numpy(self.variable)
        if self.kernel_ndim is None:
            return array
        array = np.moveaxis(array, (-1, -2), (0, 1))
        return np.ascontiguousarray(array.reshape(array.shape[: self.kernel_ndim]))


def unit_entries(unit, conv, norm, kernel_ndim=4):
    """Entries of a `ConvBNLIF`.

    Args:
        unit: the layer.
        conv: str. The authors' name of its convolution.
        norm: str. The authors' name of its BatchNorm.
        kernel_ndim: int. Axes of the kernel there: 3 of a `Conv1d`, 2 of a `Linear`.
    """
    return [
        *layer_entries(unit.conv, conv, kernel_ndim),
        *layer_entries(unit.norm, norm),
    ]


def layer_entries(layer, name, kernel_ndim=None):
    """Entries of a convolution, a BatchNorm or a linear layer; see `unit_entries`."""
    return [
        Entry(f"{name}.{theirs}", variable, kernel_ndim if ours == "kernel" else None)
        for ours, theirs in _NAMES.items()
        if (variable := getattr(layer, ours, None)) is not None
    ]

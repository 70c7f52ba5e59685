"""Match arrays of a checkpoint with variables, and convert between their layouts."""

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
    # The time constant that a neuron learns.
    "w": "w",
}
# PyTorch's BatchNorm has a counter of batches after its variance; ours has none.
IGNORED = "num_batches_tracked"
BEFORE_IGNORED = "running_var"


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array of the authors' checkpoint and the variable that holds it in our model.

    Attributes:
        name: str, the authors' name, such as `"stage1.0.tssa.q_conv.weight"`.
        variable: our `keras.Variable`.
        kernel_ndim: int, number of axes of a kernel in the checkpoint, or `None` for
            other arrays. A kernel is `(out, in, ...)` there and `(..., in, out)` here.
        in_vector: bool. Whether a scalar here is an array of one entry there.
    """

    name: str
    variable: keras.Variable
    kernel_ndim: int | None
    in_vector: bool = False

    def to_ours(self, array):
        """Convert an array from the authors' layout to ours.

        Args:
            array: array in the authors' layout.

        Returns:
            Array of the shape of the variable.

        Raises:
            ValueError: if its shape does not fit the variable.
        """
        array = np.asarray(array)
        if self.kernel_ndim is not None:
            # (out, in) and (out, in, 1) are linear layers: 1x1 kernels here.
            array = np.moveaxis(array, (0, 1), (-1, -2))
            if array.ndim < len(self.variable.shape):
                ones = len(self.variable.shape) - array.ndim
                array = array.reshape((1,) * ones + array.shape)
        if self.in_vector and array.shape == (1,):
            array = array.reshape(())
        if array.shape != tuple(self.variable.shape):
            raise ValueError
        return array

    def to_theirs(self):
        """Return the value of our variable in the authors' layout."""
        array = ops.convert_to_numpy(self.variable)
        if self.kernel_ndim is None:
            return array.reshape(1) if self.in_vector else array
        array = np.moveaxis(array, (-1, -2), (0, 1))
        return np.ascontiguousarray(array.reshape(array.shape[: self.kernel_ndim]))


def unit_entries(unit, conv, norm, kernel_ndim=4):
    """Entries of a `ConvBNLIF`.

    Args:
        unit: the layer.
        conv: str. The authors' name of its convolution.
        norm: str. The authors' name of its BatchNorm.
        kernel_ndim: int. Number of axes of the kernel in the checkpoint: 4 for a
            `Conv2d`, 3 for a `Conv1d`, 2 for a `Linear`.

    Returns:
        List of `Entry`, one for each variable of the layer.
    """
    return [
        *layer_entries(unit.conv, conv, kernel_ndim),
        *layer_entries(unit.norm, norm),
    ]


def layer_entries(layer, name, kernel_ndim=None):
    """Entries of a convolution, a BatchNorm, a linear layer or a neuron.

    Args:
        layer: the Keras layer.
        name: str. The authors' name of the layer.
        kernel_ndim: int, see `unit_entries`, or `None` for a layer without a kernel.

    Returns:
        List of `Entry`, one for each variable of the layer.
    """
    return [
        Entry(f"{name}.{theirs}", variable, kernel_ndim if ours == "kernel" else None)
        for ours, theirs in _NAMES.items()
        if (variable := getattr(layer, ours, None)) is not None
    ]

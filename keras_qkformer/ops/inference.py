"""A function compiled, and run to its end, as Keras runs a model in inference."""

import keras
from keras import ops

from keras_qkformer.ops.by_backend import by_backend


@by_backend
def inference_function(function, variables):
    """Compile a function as Keras compiles a model for inference on this backend.

    Args:
        function: function of tensors that returns tensors.
        variables: list of the Keras variables that it reads.

    Returns:
        Function of the same tensors that returns the result once the device is done.

    Example:
    >>> double = inference_function(lambda x: 2.0 * x, [])
    >>> float(double(ops.array(1.5)))
    3.0
    """

    def run(*tensors):
        # What is on the host is done.
        return keras.tree.map_structure(ops.convert_to_numpy, function(*tensors))

    return run


@by_backend
def run_rarely(model):
    """Prepare a model that predicts few examples, a few times.

    Args:
        model: `keras.Model`.

    Returns:
        `model`.
    """
    return model

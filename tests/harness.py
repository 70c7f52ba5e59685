"""What many tests need: arrays out of tensors, and gradients on every backend."""

import keras
import numpy as np
from keras import ops


def to_numpy(tensor):
    """A NumPy array from a tensor of any backend, also one that wants a gradient."""
    return np.asarray(tensor.detach() if hasattr(tensor, "detach") else tensor)


def gradients(function, *arrays):
    """Value and gradients of `function(*tensors) -> scalar, anything`.

    Returns:
        `(value, anything, [gradient of each array])`, gradients as NumPy arrays.
    """
    backend = keras.backend.backend()
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value, auxiliary = function(*tensors)
        grads = tape.gradient(value, tensors)
    elif backend == "jax":
        import jax

        argnums = tuple(range(len(tensors)))
        run = jax.value_and_grad(function, argnums, has_aux=True)
        (value, auxiliary), grads = run(*tensors)
    else:
        tensors = [t.detach().clone().requires_grad_(True) for t in tensors]
        value, auxiliary = function(*tensors)
        value.backward()
        grads = [tensor.grad for tensor in tensors]
    return to_numpy(value), auxiliary, [to_numpy(grad) for grad in grads]

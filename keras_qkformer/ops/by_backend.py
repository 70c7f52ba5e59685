"""The edge to the backends: where one of them computes something in its own way.

The mathematics is written once, for all backends. What one backend must do differently
stands in `on_tensorflow.py`, `on_jax.py` or `on_torch.py`, each exception with its
reason and the version it was seen in.
"""

import functools

from keras import backend, ops

if backend.backend() == "tensorflow":
    from keras_qkformer.ops import on_tensorflow as exceptions
elif backend.backend() == "jax":
    from keras_qkformer.ops import on_jax as exceptions
elif backend.backend() == "torch":
    from keras_qkformer.ops import on_torch as exceptions
else:
    exceptions = None


def by_backend(general):
    """Decorator for a function that a backend may compute in its own way.

    Args:
        general: the function for all backends that have none of their own.

    Returns:
        `general`, or, where the module of this backend has a function of the same name,
        that function with `general` as its first argument.
    """
    special = getattr(exceptions, general.__name__, None)
    if special is None:
        return general

    @functools.wraps(general)
    def on_this_backend(*args, **kwargs):
        return special(general, *args, **kwargs)

    return on_this_backend


@by_backend
def custom_gradient(function):
    """Decorator for a function with a gradient of its own.

    As `keras.ops.custom_gradient`, which leaves it to the backend how the gradient of
    the result is passed.

    Args:
        function: of tensors, to `(result, grad)`: one tensor, and a function from the
            gradient of the result to that of the argument, or to a tuple of those of
            the arguments.

    Returns:
        A function of tensors, to the result.

    Example:
    >>> double = custom_gradient(lambda x: (2.0 * x, lambda upstream: 2.0 * upstream))
    >>> float(double(ops.array(1.5)))
    3.0
    """
    return ops.custom_gradient(function)

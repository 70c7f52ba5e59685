"""Dispatch to functions that one backend must compute in its own way.

The mathematics is written once, for all backends. `on_tensorflow.py`, `on_jax.py` and
`on_torch.py` hold the exceptions, each with its reason and the version it was seen in.
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
    """Decorate a function that a backend may compute in its own way.

    Args:
        general: function for the backends without an exception.

    Returns:
        `general`. If the module of this backend has a function of the same name, a
        function that calls that one, with `general` as its first argument.
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
    """Decorate a function that defines its own gradient.

    `keras.ops.custom_gradient` calls `grad` differently on each backend; here every
    backend calls `grad(upstream)`.

    Args:
        function: `function(*tensors) -> (result, grad)`. `result` is one tensor.
            `grad(upstream)` maps the gradient of the result to the gradient of the
            argument, or to a tuple with one gradient per argument.

    Returns:
        Function of the same tensors that returns `result`.

    Example:
    >>> double = custom_gradient(lambda x: (2.0 * x, lambda upstream: 2.0 * upstream))
    >>> float(double(ops.array(1.5)))
    3.0
    """
    return ops.custom_gradient(function)

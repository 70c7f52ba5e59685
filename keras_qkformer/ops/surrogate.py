"""Spike functions by name: a step forward, a smooth surrogate backward."""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_qkformer.ops.by_backend import custom_gradient

SURROGATES = {}


def register_surrogate(name: str, alpha: float) -> Callable[[Callable], Callable]:
    """Register a surrogate derivative under a name, as a decorator.

    Args:
        name: str. Name by which layers and recipes refer to it.
        alpha: float > 0. Default steepness.

    Returns:
        Decorator of `derivative(x, alpha)`, where `x` is a tensor of any shape
        (potential minus threshold) and the result has the same shape.

    Raises:
        ValueError: if the name is taken or `alpha` is not positive.

    Example:
    >>> @register_surrogate("triangle", alpha=1.0)
    ... def triangle(x, alpha):
    ...     return ops.relu(alpha - alpha**2 * ops.abs(x))
    >>> float(surrogate_derivative("triangle")(ops.convert_to_tensor(0.25)))
    0.75
    """
    if name in SURROGATES:
        raise ValueError(
            f"A surrogate's name must be new. Received: name={name!r}, "
            f"registered: {surrogate_names()}"
        )
    _check_alpha(alpha)

    def register(derivative):
        SURROGATES[name] = (derivative, alpha)
        return derivative

    return register


def surrogate_names() -> list[str]:
    """Return the names of all registered surrogates, sorted."""
    return sorted(SURROGATES)


def surrogate_derivative(name: str, alpha: float | None = None) -> Callable[[Any], Any]:
    """Return the function `x -> d spike / d x` of a registered surrogate.

    Args:
        name: str. One of `surrogate_names()`.
        alpha: float > 0. Steepness, or `None` for the default of the surrogate.

    Raises:
        ValueError: if the name is unknown or `alpha` is not positive.

    Example:
    >>> x = ops.convert_to_tensor([-0.5, 0.0, 0.5])
    >>> [round(float(y), 5) for y in surrogate_derivative("sigmoid")(x)]
    [0.41997, 1.0, 0.41997]
    """
    if name not in SURROGATES:
        raise ValueError(
            f"surrogate must be one of {surrogate_names()}. Received: "
            f"surrogate={name!r}"
        )
    derivative, default = SURROGATES[name]
    alpha = default if alpha is None else alpha
    _check_alpha(alpha)
    return lambda x: derivative(x, alpha)


def spike(x: Any, surrogate: str = "sigmoid", alpha: float | None = None) -> Any:
    """Return 1 where `x >= 0`, else 0, with the gradient of the named surrogate.

    Args:
        x: float tensor of any shape: potential minus threshold.
        surrogate: str. One of `surrogate_names()`.
        alpha: float > 0. Steepness, or `None` for the default of the surrogate.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ValueError: if the name is unknown or `alpha` is not positive.

    Example:
    >>> ops.convert_to_numpy(spike([-0.1, 0.0, 0.1])).tolist()
    [0.0, 1.0, 1.0]
    """
    derivative = surrogate_derivative(surrogate, alpha)

    @custom_gradient
    def step(x):
        return ops.cast(x >= 0.0, x.dtype), lambda upstream: upstream * derivative(x)

    return step(ops.convert_to_tensor(x))


def _check_alpha(alpha):
    if not alpha > 0:
        raise ValueError(f"alpha must be greater than 0. Received: alpha={alpha}")


@register_surrogate("sigmoid", alpha=4.0)
def _sigmoid(x, alpha):
    s = ops.sigmoid(alpha * x)
    return alpha * s * (1.0 - s)


@register_surrogate("atan", alpha=2.0)
def _atan(x, alpha):
    return (alpha / 2.0) / (1.0 + ops.square(math.pi * alpha / 2.0 * x))


@register_surrogate("piecewise_quadratic", alpha=1.0)
def _piecewise_quadratic(x, alpha):
    # Both branches give 0 at |x| = 1 / alpha, so no comparison is needed.
    return ops.relu(alpha - alpha**2 * ops.abs(x))


@register_surrogate("soft_sign", alpha=2.0)
def _soft_sign(x, alpha):
    return alpha / (2.0 * ops.square(1.0 + alpha * ops.abs(x)))

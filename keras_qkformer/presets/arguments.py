"""Check single arguments, and all arguments of a model that a user or file gives."""

import inspect
import math
import numbers
import types
import typing

from keras_qkformer.mistakes import did_you_mean
from keras_qkformer.printable import printable

MOST = 1_000_000
"""Largest magnitude of a number in the arguments of a preset: no size or constant of a
model comes near it, and Keras would run out of memory rather than refuse it."""
_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
}


def check(holds, rule, **received):
    """Raise `ValueError` with a rule and the received values unless the rule holds.

    Args:
        holds: bool.
        rule: str. Sentence without its full stop.
        **received: values to show, by the names of their arguments.
    """
    if not holds:
        values = ", ".join(f"{k}={printable(repr(v))}" for k, v in received.items())
        raise ValueError(f"{rule}. Received: {values}")


def per_stage(name, value, stages):
    """Return a tuple with one value per stage.

    Args:
        name: str. Name of the argument, for the error.
        value: int or str for all stages, or an iterable with one value per stage.
        stages: int > 0.

    Returns:
        tuple of length `stages`.

    Raises:
        ValueError: if the number of values is not `stages`.
    """
    value = (value,) * stages if isinstance(value, int | str) else tuple(value)
    if len(value) != stages:
        raise ValueError(
            f"{name} must be one value, or one for each of the {stages} stages. "
            f"Received: {name}={value}"
        )
    return value


def parameters_of(cls):
    """Return the parameters of a constructor that a preset may give.

    Args:
        cls: class.

    Returns:
        dict from names to `inspect.Parameter`s, without `self` and `**kwargs`. They
        have no annotation where it is in quotes: that is for type checkers alone.
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(cls.__init__).parameters
    return {
        k: p.replace(annotation=p.empty) if isinstance(p.annotation, str) else p
        for k, p in parameters.items()
        if p.kind in kinds and k != "self"
    }


def model_parameters(backbone, classifier):
    """Return the parameters of a model that a preset may give.

    Args:
        backbone: class of the backbone.
        classifier: `SpikingClassifier`, or a stand-in for it.

    Returns:
        dict, see `parameters_of`, of both, without what is no value of a preset.
    """
    own = parameters_of(classifier)
    for name in ("backbone", "preprocessing"):
        del own[name]
    return {**parameters_of(backbone), **own}


def check_arguments(parameters, arguments):
    """Raise `ValueError` unless the arguments fit the parameters' names and types.

    The constructor checks the ranges; this check catches values that it could not even
    compare.

    Args:
        parameters: dict from names to `inspect.Parameter`s, whose annotations are the
            types. A parameter without annotation takes any value.
        arguments: dict from names to values.
    """
    unknown = sorted(set(arguments) - set(parameters))
    if unknown:
        raise ValueError(
            f"An argument of a preset must be one of {sorted(parameters)}. "
            f"Received: {printable(str(unknown))}{did_you_mean(unknown[0], parameters)}"
        )
    for name, parameter in parameters.items():
        if name not in arguments:
            given = parameter.default is not inspect.Parameter.empty
            check(given, f"{name} must be given", arguments=sorted(arguments))
        elif parameter.annotation is not inspect.Parameter.empty:
            kind, value = parameter.annotation, arguments[name]
            rule = f"{name} must be {type_in_words(kind)}"
            check(_fits(value, kind), rule, **{name: value})
            values = value if isinstance(value, list | tuple) else [value]
            small = all(abs(n) <= MOST for n in values if isinstance(n, numbers.Real))
            check(small, f"{name} must not exceed {MOST:,}", **{name: value})


def _fits(value, kind):
    if isinstance(kind, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            return False
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if kind in (int, float):
        wanted = numbers.Integral if kind is int else numbers.Real
        number = isinstance(value, wanted) and not isinstance(value, bool)
        # Not isfinite, which can't take whole numbers above the range of float.
        return number and -math.inf < value < math.inf
    return isinstance(value, types.NoneType if kind is None else kind)


def type_in_words(kind):
    """Return what an argument of a type must be.

    Args:
        kind: type of an annotation, see `check_arguments`.

    Returns:
        str, such as `"text or null"`.
    """
    if isinstance(kind, types.UnionType):
        return " or ".join(map(type_in_words, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        first, *rest = typing.get_args(kind)
        count = "" if rest == [Ellipsis] else f"{1 + len(rest)} values, "
        return f"a list ({count}each {type_in_words(first)})"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))

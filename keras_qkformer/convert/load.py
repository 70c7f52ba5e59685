"""Load arrays under the authors' names into our models, and write them back."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_qkformer.convert.entries import BEFORE_IGNORED, IGNORED, Entry
from keras_qkformer.convert.published_code import CODES
from keras_qkformer.models.classifier import SpikingClassifier
from keras_qkformer.models.preset import family_of
from keras_qkformer.printable import printable


def weight_map(model: SpikingClassifier) -> list[Entry]:
    """Match the authors' arrays with the variables of a model.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        List of `Entry`, one for each variable of the model.

    Raises:
        ValueError: if the published code has no model like this one.
    """
    return _code_of(model).weight_map(model)


def unused_arrays(model):
    """Return the arrays of the authors' code that have no effect on a model.

    `load_state_dict` accepts and ignores them, `to_state_dict` writes them again.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        Dict from their names to arrays with their initial values.

    Raises:
        ValueError: if the published code has no model like this one.
    """
    return _code_of(model).unused(model)


def _code_of(model):
    family = family_of(model.backbone).name
    if family not in CODES:
        raise ValueError(
            f"Checkpoints exist for the families {sorted(CODES)}. Received: {family!r}"
        )
    return CODES[family]


def load_state_dict(
    model: SpikingClassifier,
    arrays: Mapping[str, Any],
    on_array: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Load arrays under the authors' names into a model.

    Args:
        model: a `SpikingClassifier` of the same sizes.
        arrays: dict from name to array, as in a checkpoint of the authors' code, in
            PyTorch's layout: kernels `(out, in, height, width)`. An array that is still
            in a file (`StoredArray`) is read when it is assigned.
        on_array: function without arguments that is called after every array.

    Returns:
        Dict of the arrays without effect that were given, see `unused_arrays`.

    Raises:
        ValueError: if arrays are missing, unused or of the wrong shape. The message
            lists them, 50 of a kind, and the model stays unchanged.

    Example:
    >>> model = models.SpikingClassifier.from_preset("qkformer_tiny")
    >>> load_state_dict(model, {"head.bias": np.zeros(10)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... missing: patch_embed1.proj_conv.weight, ...
    """
    entries, arrays = weight_map(model), _code_of(model).renamed(arrays)
    known = {entry.name for entry in entries} | set(unused_arrays(model))
    unused = [n for n in sorted(set(arrays) - known) if not n.endswith(IGNORED)]
    missing, misshapen = [], []
    for entry in entries:
        if entry.name not in arrays:
            missing.append(entry.name)
            continue
        shape = np.shape(arrays[entry.name])
        try:
            entry.to_ours(np.broadcast_to(0.0, shape))
        except ValueError:
            misshapen.append(f"{entry.name} {shape} for {tuple(entry.variable.shape)}")
    if missing or unused or misshapen:
        lists = {"missing": missing, "unused": unused, "misshapen": misshapen}
        received = "; ".join(
            f"{what}: {_listed(items)}" for what, items in lists.items() if items
        )
        raise ValueError(f"Every array must fit exactly one variable. {received}")
    for entry in entries:
        entry.variable.assign(entry.to_ours(arrays[entry.name]))
        if on_array is not None:
            on_array()
    return {name: arrays[name] for name in unused_arrays(model) if name in arrays}


def to_state_dict(
    model: SpikingClassifier, unused: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Convert the weights of a model to the authors' names and PyTorch's layout.

    Args:
        model: a `SpikingClassifier`.
        unused: dict of arrays without effect that `load_state_dict` returned, or `None`
            for their initial values.

    Yields:
        Pairs of a name and an array, as in PyTorch's `state_dict`. The counters of
        batches of PyTorch's BatchNorm are 0, because ours counts none.

    Raises:
        ValueError: if the published code has no model like this one.

    Example:
    >>> model = models.SpikingClassifier.from_preset("qkformer_tiny")
    >>> dict(to_state_dict(model))["stage1.0.tssa.q_conv.weight"].shape
    (64, 64, 1)
    """
    for entry in weight_map(model):
        yield entry.name, entry.to_theirs()
        if entry.name.endswith(BEFORE_IGNORED):
            counter = entry.name.removesuffix(BEFORE_IGNORED) + IGNORED
            yield counter, np.zeros((), "int64")
    yield from {**unused_arrays(model), **(unused or {})}.items()


def _listed(names):
    """The first names, which may come from a file, in one line."""
    more = [f"and {len(names) - 50} more"] if len(names) > 50 else []
    return ", ".join([*map(printable, names[:50]), *more])

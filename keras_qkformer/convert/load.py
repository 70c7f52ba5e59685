"""Arrays under the authors' names into our models and back, every one exactly once."""

import numpy as np

from keras_qkformer.convert.entries import BEFORE_IGNORED, IGNORED
from keras_qkformer.convert.published_code import CODES
from keras_qkformer.models.preset import family_of


def weight_map(model):
    """The correspondence between the authors' arrays and a model's variables.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        List of `Entry`, one for each variable of the model.

    Raises:
        ValueError: if the published code has no model like this one.
    """
    family = family_of(model.backbone).name
    if family not in CODES:
        raise ValueError(
            f"Checkpoints exist for the families {sorted(CODES)}. Received: {family!r}"
        )
    return CODES[family].weight_map(model)


def load_state_dict(model, arrays, on_array=None):
    """Load arrays under the authors' names into a model.

    Args:
        model: a `SpikingClassifier` of the same sizes.
        arrays: dict from name to array, as in a checkpoint of the authors' code. The
            layout is PyTorch's: kernels `(out, in, height, width)`. An array that is
            still in a file (`StoredArray`) is read when its turn comes.
        on_array: function without arguments that is called after every array.

    Raises:
        ValueError: if an array is missing, unused or of the wrong shape; all of them
            are listed, and the model is left as it was.

    Example:
    >>> model = models.SpikingClassifier.from_preset("qkformer_tiny")
    >>> load_state_dict(model, {"head.bias": np.zeros(10)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... missing: patch_embed1.proj_conv.weight, ...
    """
    entries = weight_map(model)
    unused = [
        name
        for name in sorted(set(arrays) - {entry.name for entry in entries})
        if not name.endswith(IGNORED)
    ]
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
            f"{what}: {', '.join(items)}" for what, items in lists.items() if items
        )
        raise ValueError(f"Every array must fit exactly one variable. {received}")
    for entry in entries:
        entry.variable.assign(entry.to_ours(arrays[entry.name]))
        if on_array is not None:
            on_array()


def to_state_dict(model):
    """The weights of a model as arrays under the authors' names, in PyTorch's layout.

    Args:
        model: a `SpikingClassifier`.

    Yields:
        Pairs of a name and an array, as PyTorch's `state_dict` has them: PyTorch's
        counters of batches too, at 0, because we count none.

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

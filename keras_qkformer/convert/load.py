"""Arrays under the authors' names into our models and back, every one exactly once."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_qkformer.convert import qkformer_names as names


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


def weight_map(model):
    """The correspondence between the authors' arrays and a model's variables.

    Args:
        model: a `QKFormerClassifier`.

    Returns:
        List of `Entry`, one for each variable of the model.

    Raises:
        ValueError: if the published code has no model like this one.
    """
    backbone = model.backbone
    form = (backbone.residual, backbone.family)
    if form not in names.STEM_UNITS:
        raise ValueError(
            f"Checkpoints exist for (residual, family) in {sorted(names.STEM_UNITS)}. "
            f"Received: {form}"
        )
    if "channel" in backbone.attention or backbone.neuron == "plif":
        raise ValueError(
            "Checkpoints exist for models of token and self-attention, without "
            f"learnable time constants. Received: attention={backbone.attention}, "
            f"neuron={backbone.neuron!r}"
        )
    entries = []
    for stage, depth in enumerate(backbone.depths):
        embedding = backbone.get_layer(f"patch_embed{stage + 1}")
        units, shortcut = (
            (names.STEM_UNITS[form], names.STEM_SHORTCUT[form])
            if stage == 0
            else (names.STAGE_UNITS[form], names.STAGE_SHORTCUT)
        )
        parts = list(zip(embedding.main, units, strict=True))
        if embedding.shortcut is not None:
            parts.append((embedding.shortcut, shortcut))
        for unit, pattern in parts:
            entries += _unit(unit, f"patch_embed{stage + 1}.{pattern}")
        for i in range(depth):
            block = backbone.get_layer(f"stage{stage + 1}_block{i + 1}")
            prefix = f"stage{stage + 1}.{i}"
            attention = names.ATTENTION[form][block.attention]
            for part in (*block.mix.units, "proj"):
                pattern = f"{prefix}.{attention}.{names.ATTENTION_UNITS[part]}"
                unit = getattr(block.mix, part)
                entries += _unit(unit, pattern, names.ATTENTION_NDIM)
            for unit, pattern in zip(
                (block.mlp.expand, block.mlp.reduce), names.MLP_UNITS[form], strict=True
            ):
                entries += _unit(unit, f"{prefix}.mlp.{pattern}")
    if model.num_classes is not None:
        head, variables = names.HEAD
        entries += _variables(model.get_layer("head"), head, variables, 2)
    return entries


def load_state_dict(model, arrays, on_array=None):
    """Load arrays under the authors' names into a model.

    Args:
        model: a `QKFormerClassifier` of the same sizes.
        arrays: dict from name to array, as in a checkpoint of the authors' code. The
            layout is PyTorch's: kernels `(out, in, height, width)`. An array that is
            still in a file (`StoredArray`) is read when its turn comes.
        on_array: function without arguments that is called after every array.

    Raises:
        ValueError: if an array is missing, unused or of the wrong shape; all of them
            are listed, and the model is left as it was.

    Example:
    >>> model = QKFormerClassifier.from_preset("qkformer_tiny")
    >>> load_state_dict(model, {"head.bias": np.zeros(10)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... missing: patch_embed1.proj_conv.weight, ...
    """
    entries = weight_map(model)
    unused = [
        name
        for name in sorted(set(arrays) - {entry.name for entry in entries})
        if not name.endswith(names.IGNORED)
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
        model: a `QKFormerClassifier`.

    Yields:
        Pairs of a name and an array, as PyTorch's `state_dict` has them: PyTorch's
        counters of batches too, at 0, because we count none.

    Raises:
        ValueError: if the published code has no model like this one.

    Example:
    >>> model = QKFormerClassifier.from_preset("qkformer_tiny")
    >>> dict(to_state_dict(model))["stage1.0.tssa.q_conv.weight"].shape
    (64, 64, 1)
    """
    for entry in weight_map(model):
        yield entry.name, entry.to_theirs()
        if entry.name.endswith(names.BEFORE_IGNORED):
            counter = entry.name.removesuffix(names.BEFORE_IGNORED) + names.IGNORED
            yield counter, np.zeros((), "int64")


def _unit(unit, pattern, kernel_ndim=4):
    conv, conv_variables = names.CONV
    norm, norm_variables = names.NORM
    return [
        *_variables(unit.conv, pattern.format(conv), conv_variables, kernel_ndim),
        *_variables(unit.norm, pattern.format(norm), norm_variables),
    ]


def _variables(layer, prefix, variables, kernel_ndim=None):
    return [
        Entry(
            f"{prefix}.{theirs}",
            getattr(layer, ours),
            kernel_ndim if ours == "kernel" else None,
        )
        for ours, theirs in variables.items()
        if getattr(layer, ours) is not None
    ]

"""Arrays under the authors' names into our models, every one exactly once."""

import dataclasses

import keras
import numpy as np

from keras_qkformer.convert import weight_names as names


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of theirs and the variable of ours that holds it.

    Attributes:
        name: the authors' name, such as `"stage1.0.tssa.q_conv.weight"`.
        variable: our Keras variable.
        is_kernel: whether the array is a kernel, stored by PyTorch with the output
            channels first: `(out, in, ...)` there, `(..., in, out)` here.
    """

    name: str
    variable: keras.Variable
    is_kernel: bool

    def to_ours(self, array):
        """An array in the authors' layout, in ours.

        Raises:
            ValueError: if its number of values or its order of axes does not fit.
        """
        array = np.asarray(array)
        if self.is_kernel:
            # (out, in) and (out, in, 1) are linear layers: 1x1 kernels here.
            array = np.moveaxis(array, (0, 1), (-1, -2))
            if array.ndim < len(self.variable.shape):
                ones = len(self.variable.shape) - array.ndim
                array = array.reshape((1,) * ones + array.shape)
        if array.shape != tuple(self.variable.shape):
            raise ValueError
        return array


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
                entries += _unit(getattr(block.mix, part), pattern)
            for unit, pattern in zip(
                (block.mlp.expand, block.mlp.reduce), names.MLP_UNITS[form], strict=True
            ):
                entries += _unit(unit, f"{prefix}.mlp.{pattern}")
    if model.num_classes is not None:
        head, variables = names.HEAD
        entries += _variables(model.get_layer("head"), head, variables)
    return entries


def load_state_dict(model, arrays):
    """Load arrays under the authors' names into a model.

    Args:
        model: a `QKFormerClassifier` of the same sizes.
        arrays: dict from name to array, as in a checkpoint of the authors' code. The
            layout is PyTorch's: kernels `(out, in, height, width)`.

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
    missing, misshapen, values = [], [], []
    for entry in entries:
        if entry.name not in arrays:
            missing.append(entry.name)
            continue
        try:
            values.append((entry.variable, entry.to_ours(arrays[entry.name])))
        except ValueError:
            misshapen.append(
                f"{entry.name} {np.shape(arrays[entry.name])} for "
                f"{tuple(entry.variable.shape)}"
            )
    if missing or unused or misshapen:
        lists = {"missing": missing, "unused": unused, "misshapen": misshapen}
        received = "; ".join(
            f"{what}: {', '.join(items)}" for what, items in lists.items() if items
        )
        raise ValueError(f"Every array must fit exactly one variable. {received}")
    for variable, value in values:
        variable.assign(value)


def _unit(unit, pattern):
    conv, conv_variables = names.CONV
    norm, norm_variables = names.NORM
    return [
        *_variables(unit.conv, pattern.format(conv), conv_variables),
        *_variables(unit.norm, pattern.format(norm), norm_variables),
    ]


def _variables(layer, prefix, variables):
    return [
        Entry(f"{prefix}.{theirs}", getattr(layer, ours), ours == "kernel")
        for ours, theirs in variables.items()
        if getattr(layer, ours) is not None
    ]

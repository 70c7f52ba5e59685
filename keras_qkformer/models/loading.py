"""Looking up presets, and loading their weights into models."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_qkformer.forms import PresetMetadata
from keras_qkformer.json_files import read_json
from keras_qkformer.layers.preprocessor import Preprocessor
from keras_qkformer.models.preset import FAMILIES, PRESETS, Family, read_config
from keras_qkformer.presets.addresses import find_preset
from keras_qkformer.presets.arguments import check_arguments, parameters_of
from keras_qkformer.presets.folders import (
    CONFIG_FILE,
    METADATA_FILE,
    SAFETENSORS_FILE,
    find_weights,
    weights_file,
)
from keras_qkformer.printable import printable
from keras_qkformer.safetensors_file import read_safetensors, write_safetensors
from keras_qkformer.weights_limits import check_unpacked


class Resolved(NamedTuple):
    """A preset that was looked up: its `Family`, arguments, and weights file if any."""

    family: Family
    arguments: dict
    weights_file: Path | None


def resolve_preset(preset: str | os.PathLike, weights: str | None = None) -> Resolved:
    """Look up a preset without making a model, see `SpikingClassifier.from_preset`.

    Args:
        preset: str or path. A name in `PRESETS`, a folder, or the address of one.
        weights: str. Name of a folder of weights trained from the preset, or `None`.

    Returns:
        `Resolved`.

    Raises:
        ValueError: if the preset does not exist, or its folder can't be read.
        OSError: if an address can't be reached.
    """
    preset = locate(preset, weights)
    if isinstance(preset, Path):
        return Resolved(*read_config(preset / CONFIG_FILE), weights_file(preset))
    known = PRESETS[preset]
    return Resolved(FAMILIES[known.family], dict(known.arguments), None)


def locate(preset, weights=None, revision=None):
    """Find a preset, after downloading it if it is an address.

    Args:
        preset: see `resolve_preset`.
        weights: see `resolve_preset`.
        revision: str or `None`, see `addresses.fetch`.

    Returns:
        str if it is the name of a preset, else `Path` of its folder.

    Raises:
        ValueError: if there is no such preset.
        OSError: if an address can't be reached.
    """
    if weights is not None:
        preset = os.fspath(preset)
        if preset not in PRESETS:
            raise ValueError(
                "weights belong to the name of a preset; a folder or address has "
                f"its own. Received: weights={weights!r} with {preset!r}"
            )
        return find_weights(weights, preset)
    return find_preset(preset, PRESETS, revision)


def preprocessing_of(preset):
    """Return how the inputs of a preset are normalized.

    Args:
        preset: what `locate` returns.

    Returns:
        Dict of arguments of `Preprocessor`, or `None` if the preset names none.
    """
    if isinstance(preset, Path):
        path = preset / METADATA_FILE
        values = read_json(path, PresetMetadata) if path.is_file() else {}
        values = values.get("preprocessing")
        try:
            return values and Preprocessor(**values) and values
        except (TypeError, ValueError):
            return None  # `load_trained` needs one, and says what is wrong.
    known = PRESETS[preset]
    if known.mean is None:
        return None
    return {"mean": list(known.mean), "std": list(known.std)}


def input_shape_of(folder):
    """Shape of an input of a preset folder's model, which is not made.

    Args:
        folder: str or path.

    Returns:
        `(height, width, channels)` for a model of images, `(time, height, width,
        channels)` for one of event frames.

    Raises:
        ValueError: if the folder's config can't be read, or is that of no model.
    """
    family, arguments, _ = resolve_preset(folder)
    parameters = parameters_of(family.backbone)
    names = ("image_size", "in_channels", "static", "time_steps")
    given = {name: arguments.get(name, parameters[name].default) for name in names}
    check_arguments(parameters, given)
    size, channels, is_static, time_steps = given.values()
    size = (size, size) if isinstance(size, int) else tuple(size)
    return (*size, channels) if is_static else (time_steps, *size, channels)


def load_finite_weights(model, weights, rule):
    """Load a weights file into a model, unless a value in it is not finite.

    Args:
        model: Keras model.
        weights: `Contents` of the file.
        rule: str, sentence for the error: what the file must be.

    Raises:
        ValueError: if the file does not fit, or has NaN or infinity.
    """
    try:
        if Path(str(weights)).name == SAFETENSORS_FILE:
            _load_safetensors(model, weights)
        else:
            check_unpacked(weights)
            model.load_weights(weights)
    except Exception as error:  # HDF5 and Keras raise any kind for a damaged file.
        raise ValueError(f"{rule} Received: {str(weights)!r}: {error}") from error
    check_finite(model, weights)


def check_finite(model, source):
    """Raise `ValueError` if a weight of a model is not finite.

    Args:
        model: Keras model.
        source: path of the file that they come from, or what `str` makes one of.
    """
    for variable in model.weights:
        if not np.isfinite(ops.convert_to_numpy(variable)).all():
            raise ValueError(
                f"Weights must be finite. Received: {variable.path} with NaN or "
                f"infinity in {str(source)!r}"
            )


def save_safetensors(model, path):
    """Save the weights of a model as safetensors.

    The name of a tensor is the path of its variable with dots, such as
    `stage1_block1.attention.query.conv.kernel`; shapes and axes are those of Keras.

    Args:
        model: Keras model.
        path: path of the file.

    Raises:
        ValueError: if two variables have the same path.
        OSError: if the file can't be written.
    """
    named = _named(model)
    write_safetensors(path, {k: ops.convert_to_numpy(v) for k, v in named.items()})


def _load_safetensors(model, weights):
    variables, arrays = _named(model), read_safetensors(weights)
    differing = sorted({*variables} ^ {*arrays})
    if differing:
        raise ValueError(
            f"it has {len(arrays)} tensors for {len(variables)} variables; first "
            f"difference: '{printable(differing[0], 100)}'"
        )
    for name, variable in variables.items():
        if tuple(arrays[name].shape) != tuple(variable.shape):
            raise ValueError(
                f"'{name}' must have the shape {tuple(variable.shape)}, not "
                f"{tuple(arrays[name].shape)}"
            )
        variable.assign(np.asarray(arrays[name]).astype(variable.dtype))


def _named(model):
    """The variables of a model by the names of their tensors."""
    named = {v.path.replace("/", "."): v for v in model.weights}
    if len(named) != len(model.weights):
        paths = [v.path for v in model.weights]
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(
            f"Variables must have paths of their own. Received: {twice!r} twice"
        )
    return named


def copy_weights(source, target):
    """Copy all weights from one layer or model to another.

    Args:
        source: Keras layer or model.
        target: one with weights of the same shapes, in the same order.

    Raises:
        ValueError: if the shapes differ.
    """
    theirs, ours = source.weights, target.weights
    differing = [
        f"{b.path}: {tuple(a.shape)} in the folder, {tuple(b.shape)} wanted"
        for a, b in zip(theirs, ours, strict=False)
        if a.shape != b.shape
    ]
    if differing or len(theirs) != len(ours):
        raise ValueError(
            "The weights of a preset folder must fit the model with the overrides. "
            f"Received: {len(theirs)} arrays for {len(ours)}; first difference: "
            f"{differing[0] if differing else 'their number'}"
        )
    target.set_weights(source.get_weights())

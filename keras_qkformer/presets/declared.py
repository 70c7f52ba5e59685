"""The arguments of models, read from their source instead of by importing Keras."""

import ast
import functools
import sys
from pathlib import Path

from keras_qkformer.presets.addresses import find_preset, is_address
from keras_qkformer.presets.arguments import check_arguments, model_parameters
from keras_qkformer.presets.folders import CONFIG_FILE, read_config_file
from keras_qkformer.presets.published import CHECKS, PRESETS
from keras_qkformer.presets.ranges import check_head, check_surrogate, file_kind

_MODELS = Path(__file__).resolve().parents[1] / "models"
# Arguments of trainings, and one that the published number has the other way.
_IGNORED = ("drop_path", "dropout", "dtype", "membrane_state")


@functools.cache
def declared(family):
    """Return stand-ins for the classes of a family.

    Each has the docstring and the constructor's parameters of a class, and nothing
    else: a wrong argument is told, and a right one explained, in milliseconds.

    Args:
        family: str. Name of a family of this package.

    Returns:
        `(backbone, classifier)`: classes.
    """
    backbone = _stand_in(
        _MODELS / f"{family}.py",
        lambda node: "SpikingBackbone" in map(ast.unparse, node.bases),
    )
    classifier = _stand_in(
        _MODELS / "classifier.py", lambda node: node.name == "SpikingClassifier"
    )
    return backbone, classifier


def _stand_in(path, is_wanted):
    """A class with the docstring and constructor of one in a file that is not run."""
    found = next(
        node
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and is_wanted(node)
    )
    constructor = next(
        node for node in found.body if getattr(node, "name", None) == "__init__"
    )
    constructor.body = [ast.Pass()]
    module, scope = ast.fix_missing_locations(ast.Module([constructor], [])), {}
    exec(compile(module, str(path), "exec"), scope)
    return type(found.name, (), {**scope, "__doc__": ast.get_docstring(found)})


def look_up(preset):
    """Look up a preset without a model, as far as that goes without Keras.

    Args:
        preset: str. See `SpikingClassifier.from_preset`.

    Returns:
        `(family, arguments)`: the family's name and a dict; or `None` for an address,
        and for a folder of a family that is not of this package.

    Raises:
        ValueError: if there is no such preset.
    """
    if is_address(preset):
        return None
    place = find_preset(preset, PRESETS)
    if not isinstance(place, Path):
        return PRESETS[place].family, dict(PRESETS[place].arguments)
    family, arguments = read_config_file(place / CONFIG_FILE)
    ours = {preset.family for preset in PRESETS.values()}
    return (family, arguments) if family in ours else None


def check_settings(preset, changes):
    """Raise `ValueError` if a model can't be made for its preset or an argument.

    Args:
        preset: str, see `look_up`.
        changes: dict of arguments that replace those of the preset.
    """
    found = look_up(preset)
    if found is None:
        return
    family, arguments = found
    parameters, given = model_parameters(*declared(family)), {**arguments, **changes}
    check_arguments(parameters, given)
    given = {**_defaults(parameters), **given}
    CHECKS[family](given)
    check_head(given["num_classes"], given["dropout"])
    if "keras" not in sys.modules:  # Else a recipe file may have registered another.
        check_surrogate(given["surrogate"])


def is_unchanged(preset, arguments):
    """Return whether a model is a preset itself, as far as its arguments tell.

    Of another neuron, attention or number of heads the reported accuracy says nothing.

    Args:
        preset: `Preset`.
        arguments: dict of the model's arguments, as in its `config.json`. What is
            missing is taken for that of the preset.
    """
    wanted = dict(preset.arguments)
    if preset.family in CHECKS:
        wanted = {**_defaults(model_parameters(*declared(preset.family))), **wanted}
    return all(
        _alike(arguments.get(name, value), value)
        for name, value in wanted.items()
        if name not in _IGNORED
    )


def _alike(ours, theirs):
    """Whether values are equal; one value may stand for those of all stages."""
    if theirs is None:
        # A list is what the constructor has chosen.
        return ours is None or isinstance(ours, list | tuple)
    return _shortened(ours) == _shortened(theirs)


def _shortened(value):
    if not isinstance(value, list | tuple) or not value:
        return value
    # A config of others may hold anything, such as lists, which no set takes.
    return value[0] if value.count(value[0]) == len(value) else tuple(value)


def files_of(preset):
    """Return which files a model takes, see `file_kind`, as far as that is known.

    Args:
        preset: str, see `look_up`.

    Returns:
        `"images"`, `"recordings"`, or `None` if it takes none or `look_up` has none.
    """
    found = look_up(preset)
    if found is None:
        return None
    family, arguments = found
    given = {**_defaults(model_parameters(*declared(family))), **arguments}
    return file_kind(given["static"], given["in_channels"])


def _defaults(parameters):
    return {name: parameter.default for name, parameter in parameters.items()}

"""Recognize the model that weights belong to.

Names and shapes tell most of it, but not the number of heads, the time steps, the image
size, nor whether the input is images or frames. These come from the user's options, the
options of the training in the file, or the preset of the same sizes, in this order.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from keras_qkformer.convert.published_code import CODES, PublishedCode
from keras_qkformer.models.preset import FAMILIES, PRESETS
from keras_qkformer.presets.arguments import parameters_of
from keras_qkformer.printable import printable


def _whole(largest):
    """Function of an option's value that returns it, or `None` for another one."""
    return lambda value: value if type(value) is int and 0 < value <= largest else None


# Our argument -> its names in the authors' training scripts, and a function of its
# value there that returns ours, or `None`.
_OPTIONS = {
    "time_steps": (("args.time_step", "args.time_steps", "args.T"), _whole(1000)),
    "image_size": (("args.input_size", "args.img_size"), _whole(10_000)),
    "connect": (
        ("args.connect_f", "args.cnf"),
        {"ADD": "add", "AND": "and", "IAND": "iand"}.get,
    ),
}


@dataclasses.dataclass(frozen=True)
class Recognized:
    """The model that weights belong to.

    Attributes:
        code: the `PublishedCode` of its family.
        arguments: dict of the arguments of the backbone and `num_classes`.
        preset: str, name of the preset that the model is, or `None`.
        alike: str, name of the preset with the same sizes and classes, or `None`. It
            differs from `preset` for a variant with other equations.
        assumed: dict from every argument that the shapes don't tell to the reason for
            its value.
        arrays: dict of the weights under the names of the published code.
    """

    code: PublishedCode
    arguments: Mapping
    preset: str | None
    alike: str | None
    assumed: Mapping
    arrays: Mapping


def recognize(arrays, preset=None, options=None, facts=None):
    """Find the model that weights under the authors' names belong to.

    Args:
        arrays: dict from name to array.
        preset: str, name of the preset that the weights must fit, or `None`.
        options: dict of arguments of the backbone that the shapes don't tell,
            such as `num_heads` or `membrane_state`.
        facts: dict, the `facts` of the `Checkpoint`, or `None`.

    Returns:
        A `Recognized`.

    Raises:
        ValueError: if no known model has these names, the weights don't fit the preset,
            or an argument remains unknown.

    Example:
    >>> recognize({"head.bias": np.zeros(3)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: The names of the weights must be those of ... QKFormer ...
    """
    options, facts = dict(options or {}), facts or {}
    code = _find_code(arrays)
    arrays = code.renamed(arrays)
    found, backbone = code.read_sizes(arrays), FAMILIES[code.family].backbone
    _check_weights(code, found, arrays)
    known = set(parameters_of(backbone)) - {"dtype"}
    for key in options:
        if key not in known - set(found):
            raise ValueError(
                f"An option must be an argument of {backbone.__name__} that the shapes "
                f"don't tell, one of {sorted(known - set(found))}. Received: {key!r}"
            )
    others = ()
    if preset is None:
        preset, *others = _find_presets(code, found, arrays, options) or [None]
    else:
        _check_preset(code, found, arrays, preset)
    arguments, assumed = dict(found), {}
    for key, (value, reason) in code.assumptions(arrays).items():
        arguments[key], assumed[key] = value, reason
    reason = f"preset {preset} has these sizes"
    if others:
        reason += f", and so has {', '.join(others)}"
    for key in code.unseen:
        if key in found:
            continue
        names, ours = _OPTIONS.get(key, ((), None))
        said = [ours(facts[name]) for name in names if name in facts]
        if said and said[0] is not None:
            arguments[key] = said[0]
            assumed[key] = "the options of the training in the file"
        elif preset is not None:
            arguments[key] = code.complete(PRESETS[preset].arguments)[key]
            assumed[key] = reason
        elif key == "static":
            arguments[key] = found["in_channels"] != 2
            assumed[key] = "event frames have 2 channels, images others"
    arguments.update(options)
    assumed.update(dict.fromkeys(options, "given"))
    missing = [key for key in code.unseen if key not in arguments]
    if missing:
        raise ValueError(
            "Arguments that the shapes don't tell must be given if no preset has the "
            f"same sizes. Received: nothing for {', '.join(missing)}; sizes: {found}"
        )
    same = preset is not None and not _differences(code, found, preset)
    alike = preset if same else None
    published = alike if code.is_published(found) else None
    return Recognized(code, arguments, published, alike, assumed, arrays)


def _check_weights(code, found, arrays):
    """Refuse sizes of a model far larger than the weights, before it takes memory."""
    blocks, least = code.extent(found)
    numbers = sum(math.prod(np.shape(array)) for array in arrays.values())
    # Some may be missing, which is told by name once there is a model.
    if blocks > len(arrays) or least > 4 * numbers:
        raise ValueError(
            "The weights must be those of a whole model. Received: "
            f"{len(arrays)} arrays with {numbers} numbers for the sizes {found}"
        )


def _find_code(arrays):
    """Find the `PublishedCode` whose names match the weights best."""
    likeness = {code: code.likeness(arrays) for code in CODES.values()}
    code = max(likeness, key=likeness.get)
    if likeness[code] < 0.5:
        titles = " or ".join(code.title for code in CODES.values())
        raise ValueError(
            f"The names of the weights must be those of {titles}. "
            f"Received: {_some(arrays)}"
        )
    return code


def _differences(code, found, preset):
    """Arguments in which the sizes differ from a preset -> the value of the preset."""
    wanted = code.complete(PRESETS[preset].arguments)
    return {
        key: wanted[key]
        for key, value in found.items()
        if key not in code.no_sizes and wanted[key] != value
    }


def _check_preset(code, found, arrays, preset):
    known = sorted(n for n, each in PRESETS.items() if each.family == code.family)
    if preset not in known:
        raise ValueError(f"A preset must be one of {known}. Received: {preset!r}")
    differing = _differences(code, found, preset)
    if differing:
        values = "; ".join(
            f"{key}={found[key]!r} in the file, {value!r} in the preset"
            for key, value in differing.items()
        )
        raise ValueError(
            f"The weights must have the sizes of the preset {preset!r}. "
            f"Received: {values}"
        )
    if not code.fits(arrays, code.complete(PRESETS[preset].arguments)):
        raise ValueError(
            f"The weights must have the names of {preset!r} in its authors' code. "
            f"Received: {_some(arrays)}"
        )


def _some(arrays):
    names = ", ".join(map(printable, list(arrays)[:3]))
    return f"{len(arrays)} arrays, such as {names}"


def _find_presets(code, found, arrays, options):
    """Find the presets with these sizes, or else with another number of classes.

    Those that agree with the options come first.
    """
    fitting = []
    for tolerated in (set(), {"num_classes"}):
        fitting = fitting or [
            name
            for name, preset in PRESETS.items()
            if preset.family == code.family
            and _differences(code, found, name).keys() <= tolerated
            and code.fits(arrays, code.complete(preset.arguments))
        ]
    return sorted(fitting, key=lambda name: _disagreements(code, name, options))


def _disagreements(code, preset, options):
    arguments = code.complete(PRESETS[preset].arguments)
    return sum(arguments[key] != value for key, value in options.items())

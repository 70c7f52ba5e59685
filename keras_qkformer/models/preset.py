"""Families of models and their presets: which there are, and how a folder names one."""

import dataclasses
import json
from collections.abc import Mapping

from keras_qkformer.files import write_json

# config.json of a preset folder holds the arguments of a model, and since format 1
# these two keys. "family" would not do: it is an argument of QKFormerBackbone.
FORMAT_KEY, FAMILY_KEY = "format", "model_family"
FORMAT = 1
# Folders without a format are from the time when there was one family.
FIRST_FAMILY = "qkformer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A named model.

    Attributes:
        family: name of its family, see `register_family`.
        description: what it is, in one line.
        source: where its numbers come from.
        parameters: exact number of trainable values.
        arguments: arguments of the family's backbone and classifier.
        class_names: tuple of the names of its classes, in the order of their labels;
            empty if they have none.
        mean: tuple of float, mean of the pixels in [0, 1] for each channel, with which
            the published model was trained. `None` for event frames, whose counts stay
            as they are.
        std: the same for the standard deviation.
        reported: top-1 accuracy in per cent that the source reports, or `None`.
        reported_note: how that number was obtained, as the end of "... % top-1 ...".
    """

    family: str
    description: str
    source: str
    parameters: int
    arguments: Mapping
    class_names: tuple = dataclasses.field(default=(), repr=False)
    mean: tuple | None = None
    std: tuple | None = None
    reported: float | None = None
    reported_note: str = ""


@dataclasses.dataclass(frozen=True)
class Family:
    """The classes of a family of models.

    Attributes:
        name: what preset folders call it.
        backbone: a subclass of `SpikingBackbone`.
        classifier: a subclass of `SpikingClassifier`, or `None` for that class itself.
    """

    name: str
    backbone: type
    classifier: type | None


FAMILIES = {}
PRESETS = {}


def register_family(name, backbone, classifier=None, presets=None):
    """Make a family known, so that its presets and preset folders can be loaded.

    Args:
        name: str. What preset folders call it; it must never change.
        backbone: a subclass of `SpikingBackbone`, whose name must never change either:
            files of weights hold it. Its constructor's annotations are the types that
            overrides must have.
        classifier: a subclass of `SpikingClassifier`, or `None` for that class itself.
        presets: dict from names to `Preset`s of this family, or `None`.

    Raises:
        ValueError: if a preset is of another family, or its name is taken by one.

    Example:
    >>> register_family("mine", models.QKFormerBackbone)  # doctest: +SKIP
    """
    presets = presets or {}
    for key, preset in presets.items():
        owner = PRESETS.get(key, preset).family
        if name not in (preset.family, owner) or preset.family != owner:
            raise ValueError(
                f"A preset must be of the family {name!r}, and its name not be taken. "
                f"Received: {key!r} of {owner!r}"
            )
    FAMILIES[name] = Family(name, backbone, classifier)
    PRESETS.update(presets)


def family_of(backbone):
    """The `Family` that a backbone belongs to."""
    # Not of a subclass: files of weights hold the name of the class.
    for family in FAMILIES.values():
        if type(backbone) is family.backbone:
            return family
    raise ValueError(
        "A backbone must be of a family: register_family(name, its class). "
        f"Received: {type(backbone).__name__}"
    )


def read_config(path):
    """The family and the arguments of a model from the `config.json` of a folder.

    Args:
        path: path of the file.

    Returns:
        `(Family, dict)`.

    Raises:
        ValueError: if it is no JSON object, of a newer format or of an unknown family.
    """
    try:
        arguments = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a JSON file. Received: {error}") from error
    if not isinstance(arguments, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {arguments!r}")
    version = arguments.pop(FORMAT_KEY, 0)
    if version not in range(FORMAT + 1):
        raise ValueError(
            f"The format of {path} must be at most {FORMAT}, which this version of "
            f"keras_qkformer reads; a newer one may read it. Received: {version!r}"
        )
    name = arguments.pop(FAMILY_KEY, FIRST_FAMILY)
    if not isinstance(name, str) or name not in FAMILIES:
        raise ValueError(
            f"The family of {path} must be one of {sorted(FAMILIES)}; import the "
            f"module that registers another one first. Received: {name!r}"
        )
    return FAMILIES[name], arguments


def write_config(path, family, arguments):
    """Write the `config.json` that `read_config` reads."""
    head = {FORMAT_KEY: FORMAT, FAMILY_KEY: family.name}
    write_json(path, {**head, **arguments})

"""Register families of models and their presets, and read and write `config.json`."""

import dataclasses

from keras_qkformer.files import write_json
from keras_qkformer.presets.folders import (
    FAMILY_KEY,
    FORMAT,
    FORMAT_KEY,
    read_config_file,
)
from keras_qkformer.printable import printable


@dataclasses.dataclass(frozen=True)
class Family:
    """The classes of a family of models.

    Attributes:
        name: str. Name of the family in preset folders.
        backbone: subclass of `SpikingBackbone`.
        classifier: subclass of `SpikingClassifier`, or `None` for that class itself.
    """

    name: str
    backbone: type
    classifier: type | None


FAMILIES = {}
PRESETS = {}


def register_family(
    name: str,
    backbone: type,
    classifier: type | None = None,
    presets: dict | None = None,
) -> None:
    """Register a family, so that its presets and preset folders can be loaded.

    Args:
        name: str. Name of the family in preset folders; it must never change.
        backbone: subclass of `SpikingBackbone`. Its name must never change either,
            because weights files hold it. The annotations of its constructor are the
            types that overrides must have.
        classifier: subclass of `SpikingClassifier`, or `None` for that class itself.
        presets: dict from names to `Preset`s of this family, or `None`.

    Raises:
        ValueError: if a preset is of another family, or another family has taken its
            name.

    Example:
    >>> register_family("mine", models.QKFormerBackbone)  # doctest: +SKIP
    """
    presets = presets or {}
    for key, preset in presets.items():
        owner = PRESETS.get(key, preset).family
        if not name == preset.family == owner:
            raise ValueError(
                f"A preset must be of the family {name!r}, and its name not be taken. "
                f"Received: {key!r} of {owner!r}"
            )
    FAMILIES[name] = Family(name, backbone, classifier)
    PRESETS.update(presets)


def family_of(backbone):
    """Return the `Family` that a backbone belongs to.

    Args:
        backbone: `SpikingBackbone`.

    Returns:
        `Family`.

    Raises:
        ValueError: if no registered family has this backbone's class.
    """
    # A subclass does not count, because weights files hold the name of the class.
    for family in FAMILIES.values():
        if type(backbone) is family.backbone:
            return family
    raise ValueError(
        "A backbone must be of a family: register_family(name, its class). "
        f"Received: {type(backbone).__name__}"
    )


def read_config(path):
    """Read the family and the arguments of a model from a `config.json`.

    Args:
        path: path of the file.

    Returns:
        `(Family, dict)`.

    Raises:
        ValueError: see `read_config_file`, or if the family is unknown.
    """
    name, arguments = read_config_file(path)
    if not isinstance(name, str) or name not in FAMILIES:
        raise ValueError(
            f"The family of {path} must be one of {sorted(FAMILIES)}; import the "
            "module that registers another one first (--import on the command line). "
            f"Received: {printable(repr(name))}"
        )
    return FAMILIES[name], arguments


def write_config(path, family, arguments):
    """Write the `config.json` that `read_config` reads.

    Args:
        path: path of the file.
        family: `Family`.
        arguments: dict that JSON can hold.
    """
    head = {FORMAT_KEY: FORMAT, FAMILY_KEY: family.name}
    write_json(path, {**head, **arguments})

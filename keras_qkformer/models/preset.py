"""Register families of models and their presets, and read and write `config.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_qkformer.files import write_json
from keras_qkformer.json_files import read_json
from keras_qkformer.printable import printable
from keras_qkformer.published_data import PUBLISHED, TITLES

# config.json of a preset folder holds the arguments of a model and, since format 1,
# these two keys. "family" is not free: QKFormerBackbone has an argument of that name.
FORMAT_KEY, FAMILY_KEY = "format", "model_family"
FORMAT = 1
# Folders without a format were written when there was only this family.
FIRST_FAMILY = "qkformer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A named model.

    Attributes:
        family: str. Name of its family, see `register_family`.
        description: str. One line.
        source: str. Origin of the arguments and of the reported accuracy.
        parameters: int. Exact number of trainable values.
        arguments: mapping of arguments of the family's backbone and classifier.
        class_names: tuple of str, in the order of the labels; empty if the classes have
            no names.
        mean: tuple of float. Mean of each channel's pixels in [0, 1], by which the
            published model's inputs were normalized. `None` for inputs that are not
            normalized, such as event frames.
        std: tuple of float, or `None`. The same for the standard deviation.
        reported: float. Top-1 accuracy in per cent that the source reports, or `None`.
        reported_note: str. How that accuracy was obtained, to end "... % top-1 ...".
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
        name: str. Name of the family in preset folders.
        backbone: subclass of `SpikingBackbone`.
        classifier: subclass of `SpikingClassifier`, or `None` for that class itself.
    """

    name: str
    backbone: type
    classifier: type | None


FAMILIES = {}
PRESETS = {}


class PublishedModel(NamedTuple):
    """A row of the table of a family's published models.

    Attributes:
        depth: int. Number of blocks, also if `arguments` has them as `depths`.
        embed_dim: int. Number of channels.
        num_heads: int. Number of heads.
        data: str. Key of `PUBLISHED`.
        parameters: int. Exact number of trainable values, without those of the
            authors' checkpoints that have no effect.
        reported: float. Top-1 accuracy in per cent, or `None` without a source.
        others: str. Further numbers of the same source, or empty.
    """

    depth: int
    embed_dim: int
    num_heads: int
    data: str
    parameters: int
    reported: float | None = None
    others: str = ""


def published_presets(
    family, title, rows, arguments, source, reported_note, variant="", **changes
):
    """Make the presets of a table, named `<family>_<depth>_<embed_dim>_<data>`.

    Args:
        family: str. Name of the family.
        title: str. Name of the models in the descriptions.
        rows: iterable of `PublishedModel`.
        arguments: dict from data to the arguments that all models for it share.
        source: str, see `Preset`.
        reported_note: str, see `Preset`.
        variant: str. Stands behind the family in the names, if not empty.
        **changes: arguments of all these models that replace those of `arguments`.

    Returns:
        dict from names to `Preset`s.
    """
    presets = {}
    for row in rows:
        shared = {**arguments[row.data], **changes}
        sizes = {"embed_dim": row.embed_dim, "num_heads": row.num_heads}
        if "depths" not in shared:
            sizes["depth"] = row.depth
        parts = (family, variant, str(row.depth), str(row.embed_dim), row.data)
        presets["_".join(filter(None, parts))] = Preset(
            family=family,
            description=f"{title}-{row.depth}-{row.embed_dim} for {TITLES[row.data]}, "
            f"{shared['image_size']} px, {shared['time_steps']} time steps",
            source="; ".join(filter(None, (source, row.others))),
            parameters=row.parameters,
            arguments={**shared, **sizes},
            reported=row.reported,
            reported_note=reported_note,
            **PUBLISHED[row.data],
        )
    return presets


def register_family(name, backbone, classifier=None, presets=None):
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
        if name not in (preset.family, owner) or preset.family != owner:
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
        ValueError: if the file is not a JSON object, or its format is newer or its
            family unknown.
    """
    arguments = read_json(path, dict[str, Any])
    version = arguments.pop(FORMAT_KEY, 0)
    if type(version) is not int or version not in range(FORMAT + 1):
        raise ValueError(
            f"The format of {path} must be at most {FORMAT}, which this version of "
            "keras_qkformer reads; a newer one may read it. "
            f"Received: {printable(repr(version))}"
        )
    name = arguments.pop(FAMILY_KEY, FIRST_FAMILY)
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

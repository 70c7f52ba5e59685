"""What a preset is, and presets made from a table of published models."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from keras_qkformer.published_data import PUBLISHED, TITLES


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

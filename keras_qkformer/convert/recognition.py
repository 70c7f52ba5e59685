"""Which model weights belong to: what their names and shapes tell, and the rest.

Shapes can't tell the number of heads, the time steps, the image size, nor whether the
input is images or frames. These come from what the user says, from the options of the
training that the file keeps, or from the preset of the same sizes, in this order.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping

import numpy as np

from keras_qkformer.convert import qkformer_names as names
from keras_qkformer.models import PRESETS, QKFormerBackbone

# Our argument -> what the authors' training scripts call it.
_OPTIONS = {
    "time_steps": ("args.time_step", "args.time_steps", "args.T"),
    "image_size": ("args.input_size", "args.img_size"),
}
_UNSEEN = ("num_heads", "time_steps", "image_size", "static")


@dataclasses.dataclass(frozen=True)
class Recognized:
    """A model for weights.

    Attributes:
        arguments: dict of the arguments of `QKFormerBackbone` and `num_classes`.
        preset: name of the preset that it is, or `None`.
        alike: name of the preset of which it has the sizes and the classes, `preset`
            or, with a residual of another form, an MS-QKFormer; or `None`.
        assumed: dict from argument to the reason for its value, for every argument that
            the shapes don't tell.
    """

    arguments: Mapping
    preset: str | None
    alike: str | None
    assumed: Mapping


def recognize(arrays, preset=None, options=None, facts=None):
    """Find the model that weights under the authors' names belong to.

    Args:
        arrays: dict from name to array.
        preset: name of the preset that it must be, or `None`.
        options: dict of arguments of `QKFormerBackbone` that the shapes don't tell,
            such as `num_heads` or `membrane_state`.
        facts: dict of `Checkpoint.facts`.

    Returns:
        A `Recognized`.

    Raises:
        ValueError: if it is no such model, not that of the preset, or if something
            remains unknown.

    Example:
    >>> recognize({"head.bias": np.zeros(3)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: The names of the weights must be those of QKFormer ...
    """
    options, facts = dict(options or {}), facts or {}
    found = _read_sizes(arrays)
    known = set(inspect.signature(QKFormerBackbone).parameters) - {"kwargs", "dtype"}
    for key in options:
        if key not in known - set(found):
            raise ValueError(
                "An option must be an argument of QKFormerBackbone that the shapes "
                f"don't tell, one of {sorted(known - set(found))}. Received: {key!r}"
            )
    preset = _find_preset(found) if preset is None else _check_preset(found, preset)
    arguments, assumed = {**found, "membrane_state": "sample"}, {}
    assumed["membrane_state"] = "every sample has its own state"
    for key in _UNSEEN:
        said = [facts[name] for name in _OPTIONS.get(key, ()) if name in facts]
        if said and type(said[0]) is int:
            arguments[key] = said[0]
            assumed[key] = "the options of the training in the file"
        elif preset is not None:
            arguments[key] = _complete(PRESETS[preset].arguments)[key]
            assumed[key] = f"preset {preset} has these sizes"
        elif key == "static":
            arguments[key] = found["in_channels"] != 2
            assumed[key] = "event frames have 2 channels, images others"
    arguments.update(options)
    assumed.update(dict.fromkeys(options, "given"))
    missing = [key for key in _UNSEEN if key not in arguments]
    if missing:
        raise ValueError(
            "What the shapes don't tell must be given where no preset has the sizes of "
            f"the weights. Received: nothing for {', '.join(missing)}; sizes: {found}"
        )
    alike = preset if preset is not None and not _differences(found, preset) else None
    published = alike if found["residual"] == "add" else None
    return Recognized(arguments, published, alike, assumed)


def _read_sizes(arrays):
    """The arguments of the model that names and shapes tell."""
    form = _find_form(arrays)
    residual, family = form
    stages = max(int(i) for i in re.findall(r"\bpatch_embed(\d)\.", " ".join(arrays)))
    depths, attention = [], []
    for stage in range(1, stages + 1):
        blocks = [re.match(rf"stage{stage}\.(\d+)\.", name) for name in arrays]
        blocks = {int(block[1]) for block in blocks if block}
        depths.append(1 + max(blocks, default=-1))
        value = names.ATTENTION_UNITS["value"].format("conv")
        has_values = any(
            name.startswith(f"stage{stage}.") and f".{value}." in name
            for name in arrays
        )
        attention.append("self" if has_values else "token")
    unit = (names.STAGE_UNITS if stages > 1 else names.STEM_UNITS)[form][-1]
    embed_dim, *_ = _shape(arrays, f"patch_embed{stages}.{unit}")
    _, in_channels, *_ = _shape(arrays, f"patch_embed1.{names.STEM_UNITS[form][0]}")
    hidden, channels, *_ = _shape(arrays, f"stage1.0.mlp.{names.MLP_UNITS[form][0]}")
    ratio = hidden / channels
    head = [np.shape(arrays[n]) for n in ("head.weight", "head.bias") if n in arrays]
    return {
        "family": family,
        "residual": residual,
        "in_channels": in_channels,
        "embed_dim": embed_dim,
        "depths": tuple(depths),
        "mlp_ratio": int(ratio) if ratio == int(ratio) else ratio,
        "attention": tuple(attention),
        "deformed_shortcut": any(
            name.startswith(f"patch_embed1.{names.STEM_SHORTCUT[form].format('conv')}")
            for name in arrays
        ),
        "num_classes": head[0][0] if head and head[0] else None,
    }


def _find_form(arrays):
    """The (residual, family) whose names are the nearest to those of the weights."""
    kinds = set()
    for name in arrays:
        if name.endswith(".weight"):
            name = name.removesuffix(".weight").replace("patch_embed1.", "stem.")
            name = re.sub(r"^patch_embed\d\.", "embed.", name)
            kinds.add(re.sub(r"^stage\d\.\d+\.", "", name))
    kinds.discard("head")
    form = min(names.STEM_UNITS, key=lambda form: len(_kinds(form) ^ kinds))
    if len(_kinds(form) & kinds) * 2 < len(_kinds(form)):
        raise ValueError(
            "The names of the weights must be those of QKFormer or MS-QKFormer. "
            f"Received: {len(arrays)} arrays, such as {', '.join(list(arrays)[:3])}"
        )
    return form


def _kinds(form):
    """The names of all kinds of units of a form, without stage and block."""
    attention = names.ATTENTION[form]
    patterns = [
        *(f"stem.{unit}" for unit in names.STEM_UNITS[form]),
        f"stem.{names.STEM_SHORTCUT[form]}",
        *(f"embed.{unit}" for unit in names.STAGE_UNITS[form]),
        f"embed.{names.STAGE_SHORTCUT}",
        *(f"mlp.{unit}" for unit in names.MLP_UNITS[form]),
        *(
            f"{attention[kind]}.{unit}"
            for kind in ("token", "self")
            for part, unit in names.ATTENTION_UNITS.items()
            if (kind, part) != ("token", "value")
        ),
    ]
    return {
        pattern.format(half)
        for pattern in patterns
        for half in (names.CONV[0], names.NORM[0])
    }


def _shape(arrays, pattern):
    """Shape of the kernel of a unit."""
    name = f"{pattern.format(names.CONV[0])}.weight"
    if name not in arrays:
        raise ValueError(f"Every array must fit exactly one variable. missing: {name}")
    shape = np.shape(arrays[name])
    if len(shape) < 3 or 0 in shape:
        raise ValueError(
            f"Every array must fit exactly one variable. misshapen: {name} {shape}"
        )
    return shape


def _complete(arguments):
    """Arguments of a preset with the defaults, in the form of `_read_sizes`."""
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(QKFormerBackbone).parameters.items()
    }
    full = {**defaults, **arguments}
    full["depths"] = tuple(full["depths"])
    if full["attention"] is None:
        full["attention"] = ("token",) * (len(full["depths"]) - 1) + ("self",)
    return full


def _differences(found, preset):
    """What the sizes have otherwise than a preset, as key -> its value there.

    The form of the residual is no size: MS-QKFormer has those of the presets.
    """
    wanted = _complete(PRESETS[preset].arguments)
    return {
        key: wanted[key]
        for key, value in found.items()
        if key != "residual" and wanted[key] != value
    }


def _check_preset(found, preset):
    if preset not in PRESETS:
        raise ValueError(
            f"A preset must be one of {sorted(PRESETS)}. Received: {preset!r}"
        )
    differing = _differences(found, preset)
    if differing:
        values = "; ".join(
            f"{key}={found[key]!r} in the file, {value!r} in the preset"
            for key, value in differing.items()
        )
        raise ValueError(
            f"The weights must have the sizes of the preset {preset!r}. "
            f"Received: {values}"
        )
    return preset


def _find_preset(found):
    """The preset with these sizes; one with another head will do."""
    for tolerated in (set(), {"num_classes"}):
        fitting = [
            name for name in PRESETS if _differences(found, name).keys() <= tolerated
        ]
        if fitting:
            return fitting[0]
    return None

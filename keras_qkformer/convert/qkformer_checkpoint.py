"""Recognize checkpoints of QKFormer and MS-QKFormer, and map them to our models."""

import re

from keras_qkformer.convert import qkformer_names as names
from keras_qkformer.convert.entries import layer_entries, unit_entries
from keras_qkformer.convert.published_code import (
    PublishedCode,
    kernel_shape,
    read_classes,
    read_ratio,
    register_published_code,
)
from keras_qkformer.convert.qkformer_torch import twin_logits
from keras_qkformer.models.qkformer import FAMILY
from keras_qkformer.published_data import CIFAR_PIXELS, IMAGENET_PIXELS


class QKFormerCode(PublishedCode):
    """The authors' code and that of MS-QKFormer, see `qkformer_names`."""

    family = FAMILY
    title = "QKFormer or MS-QKFormer"
    # MS-QKFormer has the sizes of the presets.
    no_sizes = ("residual",)
    twin_logits = staticmethod(twin_logits)

    def likeness(self, arrays):
        return _find_form(arrays)[1]

    def read_sizes(self, arrays):
        form, _ = _find_form(arrays)
        residual, family = form
        numbers = re.findall(r"\bpatch_embed(\d)\.", " ".join(arrays))
        stages = max(map(int, numbers), default=1)
        depths, attention = [], []
        for stage in range(1, stages + 1):
            blocks = [
                re.match(rf"stage{stage}\.(\d{{1,4}})\.", name) for name in arrays
            ]
            blocks = {int(block[1]) for block in blocks if block}
            depths.append(1 + max(blocks, default=-1))
            value = names.ATTENTION_UNITS["value"].format("conv")
            has_values = any(
                name.startswith(f"stage{stage}.") and f".{value}." in name
                for name in arrays
            )
            attention.append("self" if has_values else "token")
        unit = (names.STAGE_UNITS if stages > 1 else names.STEM_UNITS)[form][-1]
        last, first, mlp = (
            f"{pattern.format(names.CONV)}.weight"
            for pattern in (
                f"patch_embed{stages}.{unit}",
                f"patch_embed1.{names.STEM_UNITS[form][0]}",
                f"stage1.0.mlp.{names.MLP_UNITS[form][0]}",
            )
        )
        return {
            "family": family,
            "residual": residual,
            "in_channels": kernel_shape(arrays, first, 3)[1],
            "embed_dim": kernel_shape(arrays, last, 3)[0],
            "depths": tuple(depths),
            "mlp_ratio": read_ratio(arrays, mlp, 3),
            "attention": tuple(attention),
            "deformed_shortcut": any(
                name.startswith(
                    f"patch_embed1.{names.STEM_SHORTCUT[form].format('conv')}"
                )
                for name in arrays
            ),
            "num_classes": read_classes(arrays, names.HEAD),
        }

    def assumptions(self, arrays):
        return {"membrane_state": ("sample", "every sample has its own state")}

    def is_published(self, sizes):
        return sizes["residual"] == "add"

    def complete(self, arguments):
        full = super().complete(arguments)
        full["depths"] = tuple(full["depths"])
        if full["attention"] is None:
            full["attention"] = ("token",) * (len(full["depths"]) - 1) + ("self",)
        return full

    def weight_map(self, model):
        backbone = model.backbone
        form = (backbone.residual, backbone.family)
        if form not in names.STEM_UNITS:
            raise ValueError(
                "Checkpoints exist for (residual, family) in "
                f"{sorted(names.STEM_UNITS)}. Received: {form}"
            )
        if "channel" in backbone.attention or backbone.neuron != "lif":
            raise ValueError(
                "Checkpoints exist for models of token and self-attention, with LIF "
                "neurons without learnable time constants. Received: "
                f"attention={backbone.attention}, neuron={backbone.neuron!r}"
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
                    (block.mlp.expand, block.mlp.reduce),
                    names.MLP_UNITS[form],
                    strict=True,
                ):
                    entries += _unit(unit, f"{prefix}.mlp.{pattern}")
        if model.num_classes is not None:
            entries += layer_entries(model.get_layer("head"), names.HEAD, 2)
        return entries

    def pixels(self, backbone):
        known = {"imagenet": IMAGENET_PIXELS, "cifar": CIFAR_PIXELS}
        return known.get(backbone.family)


register_published_code(QKFormerCode())


def _find_form(arrays):
    """Find the (residual, family) whose tensor names match a checkpoint best.

    Returns it with the number of names in common with the checkpoint, over that of both
    together.
    """
    kinds = set()
    for name in arrays:
        if name.endswith(".weight"):
            name = name.removesuffix(".weight").replace("patch_embed1.", "stem.")
            name = re.sub(r"^patch_embed\d\.", "embed.", name)
            kinds.add(re.sub(r"^stage\d\.\d+\.", "", name))
    kinds.discard("head")
    form = min(names.STEM_UNITS, key=lambda form: len(_kinds(form) ^ kinds))
    return form, len(_kinds(form) & kinds) / len(_kinds(form) | kinds)


def _kinds(form):
    """Tensor names of a (residual, family), without the numbers of stage and block."""
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
        for half in (names.CONV, names.NORM)
    }


def _unit(unit, pattern, kernel_ndim=4):
    conv, norm = (pattern.format(half) for half in (names.CONV, names.NORM))
    return unit_entries(unit, conv, norm, kernel_ndim)

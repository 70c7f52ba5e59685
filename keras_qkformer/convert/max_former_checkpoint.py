"""Checkpoints of Max-Former: tensor names, recognition, and the model in PyTorch."""

import re
import warnings
from typing import NamedTuple

import numpy as np

from keras_qkformer.convert.entries import IGNORED, layer_entries, unit_entries
from keras_qkformer.convert.published_code import (
    PublishedCode,
    kernel_shape,
    read_classes,
    read_ratio,
    register_published_code,
)
from keras_qkformer.convert.torch_twin import Twin, run_twin
from keras_qkformer.models import PRESETS
from keras_qkformer.models.max_former import FAMILY
from keras_qkformer.published_data import CIFAR_PIXELS, IMAGENET_PIXELS

# Stem -> units of the first embedding, in order: name, channels of the input and output
# as fractions of the stage's (the image has its own), and size of the kernel.
_STEMS = {
    "imagenet": (
        ("embed1.embed_{}", None, 1 / 2, 3),
        ("embed2.embed_{}", 1 / 2, 1, 3),
        ("embed3.embed_{}", 1, 1, 3),
        ("embed4.embed_{}", 1 / 2, 1, 1),
    ),
    "cifar": (
        ("proj_{}", None, 1 / 2, 3),
        ("embed1.embed_{}", 1 / 2, 1, 3),
        ("embed2.embed_{}", 1 / 2, 1, 1),
    ),
    "events": (
        ("proj_{}", None, 1 / 8, 3),
        ("max_embed1.embed_{}", 1 / 8, 1 / 4, 3),
        ("max_embed2.embed_{}", 1 / 4, 1 / 2, 3),
        ("max_embed3.embed_{}", 1 / 2, 1, 3),
        ("embed1.embed_{}", 1 / 4, 1, 1),
    ),
}
_STAGE = (
    ("max_embed1.embed_{}", 1 / 2, 1, 3),
    ("embed1.embed_{}", 1, 1, 3),
    ("max_embed2.embed_{}", 1 / 2, 1, 1),
)
# The published checkpoints for ImageNet have the names of their MS-QKFormer in the
# embeddings, `patch_embed1` and later ones.
_FORMER_STEM = {
    "proj_{}": "embed1.embed_{}",
    "proj_{}1": "embed2.embed_{}",
    "proj_{}2": "embed3.embed_{}",
    "rpe_{}": "embed4.embed_{}",
}
_FORMER_STAGE = {
    "proj3_{}": "max_embed1.embed_{}",
    "proj4_{}": "embed1.embed_{}",
    "proj_res_{}": "max_embed2.embed_{}",
}
# Number of arrays of each published structure -> a preset that has it.
_STRUCTURES = {
    398: "max_former_10_384_imagenet",
    169: "max_former_4_384_cifar10",
    110: "max_former_2_256_cifar10_dvs",
}


class _Unit(NamedTuple):
    """Names and kernel of a convolution and its BatchNorm, in the authors' layout."""

    conv: str
    norm: str
    kernel: tuple
    bias: bool = False


class MaxFormerCode(PublishedCode):
    """The authors' code of Max-Former for ImageNet, CIFAR and events."""

    family = FAMILY
    title = "Max-Former"

    def likeness(self, arrays):
        likeness = _likeness(_with_table(arrays))
        if likeness < 0.5 and _positions(arrays) is not None:
            return 0.5  # Any code with fitting names comes first.
        return likeness

    def renamed(self, arrays):
        known = _with_table(arrays)
        if _likeness(known) == 1.0 or (names := _positions(arrays)) is None:
            return known
        warnings.warn(
            f"The names of the weights are not those of {self.title}'s code, such as "
            f"{next(iter(arrays))[:99]!r}; number, order and shapes of the arrays are, "
            "so that they are taken by their position.",
            stacklevel=2,
        )
        return dict(zip(names, arrays.values(), strict=True))

    def read_sizes(self, arrays):
        text = "\n".join(arrays)
        stages = max(map(int, re.findall(r"^patch_embed(\d)\.", text, re.M)), default=1)
        depths, mixers = [], []
        for stage in range(1, stages + 1):
            blocks = re.findall(rf"^stage{stage}\.(\d{{1,4}})\.", text, re.M)
            depths.append(1 + max(map(int, blocks), default=-1))
            mixers.append(_read_mixer(arrays, f"stage{stage}.0"))
        stem = _read_stem(arrays)
        units = _STEMS[stem] if stages == 1 else _STAGE
        last = f"patch_embed{stages}.{units[-1][0].format('conv')}.weight"
        first = f"patch_embed1.{_STEMS[stem][0][0].format('conv')}.weight"
        return {
            "stem": stem,
            "in_channels": kernel_shape(arrays, first, 3)[1],
            "embed_dim": kernel_shape(arrays, last, 3)[0],
            "depths": tuple(depths),
            "mixers": tuple(mixers),
            "mlp_ratio": read_ratio(arrays, "stage1.0.mlp.fc1_conv.weight", 3),
            "num_classes": read_classes(arrays),
        }

    def complete(self, arguments):
        full = super().complete(arguments)
        return {**full, **{key: tuple(full[key]) for key in ("depths", "mixers")}}

    def weight_map(self, model):
        backbone = model.backbone
        if backbone.neuron != "lif":
            raise ValueError(
                "Checkpoints exist for LIF neurons without learnable time constants. "
                f"Received: neuron={backbone.neuron!r}"
            )
        units = _units(backbone.get_config())
        entries = []
        for layer, unit in zip(_layers(backbone), units, strict=True):
            entries += unit_entries(layer, unit.conv, unit.norm, len(unit.kernel))
        if model.num_classes is not None:
            entries += layer_entries(model.get_layer("head"), "head", 2)
        return entries

    def pixels(self, backbone):
        known = {"imagenet": IMAGENET_PIXELS, "cifar": CIFAR_PIXELS}
        return known.get(backbone.stem) if backbone.static else None

    def twin_logits(self, arrays, arguments, inputs):
        return run_twin(_Twin, arrays, arguments, inputs)


def _units(arguments):
    """All units of a model in the order of its checkpoint."""
    depths, embed_dim = arguments["depths"], arguments["embed_dim"]
    units = []
    for stage, _ in enumerate(depths, 1):
        width = embed_dim // 2 ** (len(depths) - stage)
        for name, before, out, size in (
            _STEMS[arguments["stem"]] if stage == 1 else _STAGE
        ):
            taken = arguments["in_channels"] if before is None else int(before * width)
            kernel = (int(out * width), taken, size, size)
            name = f"patch_embed{stage}.{name}"
            units.append(_Unit(name.format("conv"), name.format("bn"), kernel))
    for stage, (depth, mixer) in enumerate(
        zip(depths, arguments["mixers"], strict=True), 1
    ):
        width = embed_dim // 2 ** (len(depths) - stage)
        hidden = int(width * arguments["mlp_ratio"])
        for block in (f"stage{stage}.{i}" for i in range(depth)):
            if mixer == "self":
                for part in ("q", "k", "v", "proj"):
                    name, kernel = f"{block}.attn.{part}", (width, width, 1)
                    bias = part == "proj"
                    units.append(_Unit(f"{name}_conv", f"{name}_bn", kernel, bias))
            elif mixer != "identity":
                size = int(mixer.removeprefix("depthwise"))
                # Their name of a kernel of 7x7 says 5.
                name = f"{block}.mixer.{'conv5' if size == 7 else 'conv'}"
                units.append(_Unit(name, f"{name}_bn", (width, 1, size, size), True))
            name = f"{block}.mlp.fc"
            for number, kernel in ((1, (hidden, width)), (2, (width, hidden))):
                conv, norm = f"{name}{number}_conv", f"{name}{number}_bn"
                units.append(_Unit(conv, norm, (*kernel, 1, 1), True))
    return units


def _layers(backbone):
    """The `ConvBNLIF`s of a backbone in the order of `_units`."""
    for stage, _ in enumerate(backbone.depths, 1):
        embedding = backbone.get_layer(f"patch_embed{stage}")
        yield from (*embedding.main, embedding.shortcut)
    for stage, depth in enumerate(backbone.depths, 1):
        for i in range(depth):
            block = backbone.get_layer(f"stage{stage}_block{i + 1}")
            if backbone.mixers[stage - 1] == "self":
                yield from (block.mix.query, block.mix.key, block.mix.value)
                yield block.mix.proj
            elif block.mix is not None:
                yield block.mix.unit
            yield from (block.mlp.expand, block.mlp.reduce)


def _arguments(preset):
    """The arguments of a preset, defaults included."""
    return MaxFormerCode().complete(PRESETS[preset].arguments)


def _kind(name):
    """The name of a convolution or BatchNorm without the numbers of stage and block."""
    name = re.sub(r"^patch_embed[2-9]\.", "embed.", name)
    return re.sub(r"^stage\d\.\d{1,4}\.", "", name)


def _likeness(arrays):
    """Number of names in common with a structure, over that of both together."""
    ends = (".weight", ".running_mean")  # BatchNorm has both.
    kinds = {_kind(n.removesuffix(ends[0])) for n in arrays if n.endswith(ends[0])}
    kinds.discard("head")
    best = 0.0
    for preset in _STRUCTURES.values():
        units = _units(_arguments(preset))
        wanted = {_kind(name) for unit in units for name in (unit.conv, unit.norm)}
        best = max(best, len(kinds & wanted) / len(kinds | wanted))
    return best


def _with_table(arrays):
    """The arrays under today's names, if they have the former ones for ImageNet."""
    if "patch_embed1.rpe_conv.weight" not in arrays:
        return arrays
    table = {}
    for half in ("conv", "bn"):
        for former, now in _FORMER_STEM.items():
            table["patch_embed1." + former.format(half)] = "patch_embed1." + now.format(
                half
            )
        for stage in range(2, 10):
            for former, now in _FORMER_STAGE.items():
                prefix = f"patch_embed{stage}."
                table[prefix + former.format(half)] = prefix + now.format(half)
    renamed = {}
    for name, array in arrays.items():
        owner, _, part = name.rpartition(".")
        renamed[f"{table[owner]}.{part}" if owner in table else name] = array
    return renamed


def _positions(arrays):
    """Today's names of arrays whose number and every shape are a structure's."""
    shapes = [tuple(np.shape(array)) for array in arrays.values()]
    preset = _STRUCTURES.get(len(shapes))
    if preset is None or len(shapes[0]) != 4 or len(shapes[-2]) != 2:
        return None
    num_classes, embed_dim = shapes[-2]
    sizes = {"embed_dim": embed_dim, "in_channels": shapes[0][1]}
    wanted = {}
    for conv, norm, kernel, bias in _units({**_arguments(preset), **sizes}):
        channels = kernel[:1]
        wanted[f"{conv}.weight"] = kernel
        if bias:
            wanted[f"{conv}.bias"] = channels
        for part in ("weight", "bias", "running_mean", "running_var"):
            wanted[f"{norm}.{part}"] = channels
        wanted[f"{norm}.{IGNORED}"] = ()
    wanted.update(
        {"head.weight": (num_classes, embed_dim), "head.bias": (num_classes,)}
    )
    return list(wanted) if list(wanted.values()) == shapes else None


def _read_stem(arrays):
    for stem, name in (("events", "max_embed1.embed_conv"), ("cifar", "proj_conv")):
        if f"patch_embed1.{name}.weight" in arrays:
            return stem
    return "imagenet"


def _read_mixer(arrays, block):
    if f"{block}.attn.q_conv.weight" in arrays:
        return "self"
    for name in (f"{block}.mixer.conv.weight", f"{block}.mixer.conv5.weight"):
        if name in arrays:
            return f"depthwise{kernel_shape(arrays, name, 3)[-1]}"
    return "identity"


class _Twin(Twin):
    """The model as functions of its weights, see `Twin`."""

    def logits(self, x):
        stem = getattr(self, f"embed_{self.arguments['stem']}")
        for stage, depth in enumerate(self.arguments["depths"], 1):
            name = f"patch_embed{stage}"
            x = stem(x, name) if stage == 1 else self.embed_stage(x, name)
            for i in range(depth):
                block, mixer = f"stage{stage}.{i}", self.arguments["mixers"][stage - 1]
                if mixer == "self":
                    x = x + self.self_attention(x, f"{block}.attn")
                elif mixer != "identity":
                    conv = "conv5" if mixer == "depthwise7" else "conv"
                    name = f"{block}.mixer.{conv}"
                    x = x + self.conv_bn(self.lif(x), name, f"{name}_bn")
                x = self.mlp(x, f"{block}.mlp")
        x = self.lif(x.flatten(3).mean(3))
        return self.head(x.mean(0))

    def embed_imagenet(self, x, name):
        s = self.lif(self.embed(x, f"{name}.embed1", 2))
        y = self.lif(self.embed(s, f"{name}.embed2", 2))
        return self.embed(y, f"{name}.embed3") + self.embed(s, f"{name}.embed4", 2)

    def embed_cifar(self, x, name):
        s = self.lif(self.unit(x, f"{name}.proj"))
        return self.embed(s, f"{name}.embed1") + self.embed(s, f"{name}.embed2")

    def embed_events(self, x, name):
        x = self.lif(self.unit(x, f"{name}.proj"))
        s = self.lif(self.pool(self.embed(x, f"{name}.max_embed1")))
        y = self.lif(self.pool(self.embed(s, f"{name}.max_embed2")))
        y = self.pool(self.embed(y, f"{name}.max_embed3"))
        return y + self.embed(s, f"{name}.embed1", 4)

    def embed_stage(self, x, name):
        s = self.lif(x)
        y = self.lif(self.pool(self.embed(s, f"{name}.max_embed1")))
        shortcut = self.pool(self.embed(s, f"{name}.max_embed2"))
        return self.embed(y, f"{name}.embed1") + shortcut

    def self_attention(self, x, name):
        s = self.lif(x)
        parts = [self.lif(self.unit(s, f"{name}.{part}")) for part in "qkv"]
        y = self.attention(parts, self.arguments["num_heads"], 0.125)
        return self.unit(self.lif(y, threshold=0.5), f"{name}.proj")

    def mlp(self, x, name):
        """The output of the MLP with its residual connections."""
        y = self.unit(self.lif(x), f"{name}.fc1")
        if y.shape == x.shape:
            x = y = x + y
        return x + self.unit(self.lif(y), f"{name}.fc2")

    def embed(self, x, name, stride=1):
        return self.unit(x, f"{name}.embed", stride)

    def unit(self, x, name, stride=1):
        return self.conv_bn(x, f"{name}_conv", f"{name}_bn", stride)


register_published_code(MaxFormerCode())

"""Checkpoints of SEW ResNet: tensor names, and the model in PyTorch."""

import dataclasses
import re
from typing import NamedTuple

from keras_qkformer.convert.entries import layer_entries, unit_entries
from keras_qkformer.convert.published_code import (
    PublishedCode,
    kernel_shape,
    read_classes,
    register_published_code,
)
from keras_qkformer.convert.torch_twin import Twin, run_twin
from keras_qkformer.models.sew_resnet import FAMILY
from keras_qkformer.published_data import IMAGENET_PIXELS

# Convolution and BatchNorm of a container. Later versions of SpikingJelly have no
# `module.` in these names.
_SHORT = re.compile(
    r"^((?:layer\d+\.\d+\.(?:conv\d|downsample\.0)|conv\.\d+\.(?:conv\.\d\.)?0)\.)"
    r"(?=[01]\.\w+$)"
)
_BLOCK = re.compile(r"^layer(\d)\.(\d{1,4})\.")
_STAGE = re.compile(r"^(layer|conv)\d*\.\d+\.")


class _Part(NamedTuple):
    """Names of a convolution and its BatchNorm, and of a neuron with a constant."""

    conv: str
    norm: str
    neuron: str | None = None


def _container(name, neuron=None):
    return _Part(f"{name}.module.0", f"{name}.module.1", neuron)


class SEWResNetCode(PublishedCode):
    """The authors' code of SEW ResNet: one file for ImageNet, one for events."""

    family = FAMILY
    title = "SEW ResNet"
    unseen = ("time_steps", "image_size", "static", "connect")
    interpolation = "bilinear"

    def likeness(self, arrays):
        arrays = self.renamed(arrays)
        kinds = {_STAGE.sub(r"\1.", n) for n in arrays if n.endswith((".weight", ".w"))}
        return max(
            len(kinds & expected) / len(kinds | expected) for expected in _kinds()
        )

    def renamed(self, arrays):
        return {_SHORT.sub(r"\1module.", name): a for name, a in arrays.items()}

    def read_sizes(self, arrays):
        has_stem = "conv1.weight" in arrays
        return {
            **(_read_imagenet(arrays) if has_stem else _read_events(arrays)),
            "num_classes": read_classes(arrays, "fc" if has_stem else "out"),
        }

    def extent(self, sizes):
        least = sizes["widths"][-1] * (sizes["num_classes"] or 0)
        least += 49 * (sizes["stem_width"] or 0)
        for width, depth in zip(sizes["widths"], sizes["depths"], strict=True):
            least += depth * (17 if sizes["bottleneck"] else 18) * width**2
        return sum(sizes["depths"]), least

    def complete(self, arguments):
        full = super().complete(arguments)
        return {**full, **{key: tuple(full[key]) for key in ("widths", "depths")}}

    def weight_map(self, model):
        backbone = model.backbone
        has_stem = backbone.stem_width is not None
        if backbone.neuron != ("if" if has_stem else "plif") or (
            backbone.bottleneck and not has_stem
        ):
            raise ValueError(
                "Checkpoints exist for models with a stem and neuron='if', and for "
                "those without stem and bottlenecks and with neuron='plif'. Received: "
                f"stem_width={backbone.stem_width}, bottleneck={backbone.bottleneck}, "
                f"neuron={backbone.neuron!r}"
            )
        entries = []
        parts = _parts(backbone.get_config())
        for layer, part in zip(_layers(backbone), parts, strict=True):
            entries += unit_entries(layer, part.conv, part.norm)
            if part.neuron is not None:
                (constant,) = layer_entries(layer.fire, part.neuron)
                entries.append(dataclasses.replace(constant, in_vector=True))
        if model.num_classes is not None:
            head = "fc" if has_stem else "out"
            entries += layer_entries(model.get_layer("head"), head, 2)
        return entries

    def pixels(self, backbone):
        return IMAGENET_PIXELS if backbone.static else None

    def crop(self, size):
        return 0.875

    def twin_logits(self, arrays, arguments, inputs):
        return run_twin(_Twin, arrays, arguments, inputs)


def _parts(arguments):
    """All units of a model in the order of its checkpoint."""
    parts, channels = [], None
    if arguments["stem_width"] is None:
        index = 0
        for width, depth in zip(arguments["widths"], arguments["depths"], strict=True):
            if width != channels:
                parts.append(_container(f"conv.{index}.0", f"conv.{index}.1"))
                index += 1
            for _ in range(depth):
                for name in (f"conv.{index}.conv.{unit}" for unit in range(2)):
                    parts.append(_container(f"{name}.0", f"{name}.1"))
                index += 1
            index += 1  # The pool.
            channels = width
        return parts
    parts, channels = [_Part("conv1", "bn1")], arguments["stem_width"]
    units, expansion = (3, 4) if arguments["bottleneck"] else (2, 1)
    for stage, depth in enumerate(arguments["depths"], 1):
        width = expansion * arguments["widths"][stage - 1]
        for block in range(depth):
            name = f"layer{stage}.{block}"
            parts += [_container(f"{name}.conv{i + 1}") for i in range(units)]
            if block == 0 and (stage > 1 or width != channels):
                parts.append(_container(f"{name}.downsample.0"))
        channels = width
    return parts


def _layers(backbone):
    """The `ConvBNLIF`s of a backbone in the order of `_parts`."""
    for layer in backbone.steps():
        if hasattr(layer, "units"):
            yield from layer.units
            if layer.shortcut is not None:
                yield layer.shortcut
        elif layer.weights:
            yield layer


def _kinds():
    """For each published structure, the names of its kernels, scales and constants."""
    for arguments in (
        {"stem_width": 1, "bottleneck": False},
        {"stem_width": 1, "bottleneck": True},
        {"stem_width": None},
    ):
        parts = _parts({"widths": (1, 2), "depths": (1, 1), **arguments})
        kinds = {"out.weight" if arguments["stem_width"] is None else "fc.weight"}
        for part in parts:
            names = [f"{part.conv}.weight", f"{part.norm}.weight"]
            names += [f"{part.neuron}.w"] if part.neuron else []
            kinds |= {_STAGE.sub(r"\1.", name) for name in names}
        yield kinds


def _read_imagenet(arrays):
    """Read the sizes of a model for ImageNet."""
    blocks = [match for match in map(_BLOCK.match, arrays) if match]
    stages = max((int(match[1]) for match in blocks), default=1)
    depths = [1] * max(stages, 1)
    for match in blocks:
        stage = int(match[1]) - 1
        depths[stage] = max(depths[stage], 1 + int(match[2]))
    names = (f"layer{i + 1}.0.conv1.module.0.weight" for i in range(len(depths)))
    stem_width, in_channels, *_ = kernel_shape(arrays, "conv1.weight", 4)
    return {
        "stem_width": stem_width,
        "in_channels": in_channels,
        "widths": tuple(kernel_shape(arrays, name, 4)[0] for name in names),
        "depths": tuple(depths),
        "bottleneck": "layer1.0.conv3.module.0.weight" in arrays,
        "neuron": "if",
    }


def _read_events(arrays):
    """Read the sizes of a model for events, whose modules are numbered through."""
    in_channels = kernel_shape(arrays, "conv.0.0.module.0.weight", 4)[1]
    widths, depths, index = [], [], 0
    while True:
        index += f"conv.{index}.0.module.0.weight" in arrays
        depth = 0
        while f"conv.{index + depth}.conv.0.0.module.0.weight" in arrays:
            depth += 1
        if not depth and widths:
            break
        last = f"conv.{index + max(depth, 1) - 1}.conv.1.0.module.0.weight"
        widths.append(kernel_shape(arrays, last, 4)[0])
        depths.append(depth)
        index += depth + 1  # The pool.
    return {
        "stem_width": None,
        "in_channels": in_channels,
        "widths": tuple(widths),
        "depths": tuple(depths),
        "bottleneck": False,
        "neuron": "plif",
    }


class _Twin(Twin):
    """The model as functions of its weights, see `Twin`."""

    def logits(self, x):
        if self.arguments["stem_width"] is None:
            return self.head(self.of_events(x).mean((0, 3, 4)), "out")
        return self.head(self.of_images(x).mean((0, 3, 4)), "fc")

    def of_images(self, x):
        # The authors' code repeats an image behind the first convolution.
        once = x[:1] if self.arguments["static"] else x
        current = self.conv_bn(once, "conv1", "bn1", 2).expand(len(x), *[-1] * 4)
        x = self.pool(self.neuron(current))
        for stage, depth in enumerate(self.arguments["depths"], 1):
            for i in range(depth):
                name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
                first, second, *third = (
                    f"{name}.conv{k}"
                    for k in range(1, 3 + self.arguments["bottleneck"])
                )
                y = self.unit(x, first, stride=1 if third else stride)
                y = self.unit(y, second, stride=stride if third else 1)
                y = self.unit(y, third[0]) if third else y
                down = f"{name}.downsample.0"
                has_down = f"{down}.module.0.weight" in self.weights
                x = self.connect(y, self.unit(x, down, stride) if has_down else x)
        return x

    def of_events(self, x):
        index = 0
        for depth in self.arguments["depths"]:
            if f"conv.{index}.0.module.0.weight" in self.weights:
                x = self.unit(x, f"conv.{index}.0", w=f"conv.{index}.1.w")
                index += 1
            for _ in range(depth):
                y = x
                for name in (f"conv.{index}.conv.{unit}" for unit in range(2)):
                    y = self.unit(y, f"{name}.0", w=f"{name}.1.w")
                x = self.connect(y, x)
                index += 1
            pooled = self.torch.nn.functional.max_pool2d(x.flatten(0, 1), 2)
            x = pooled.unflatten(0, x.shape[:2])
            index += 1
        return x

    def unit(self, x, name, stride=1, w=None):
        x = self.conv_bn(x, f"{name}.module.0", f"{name}.module.1", stride)
        return self.neuron(x, w)

    def neuron(self, x, w=None):
        """Spikes of neurons without a leak, or with a learnt one."""
        if w is None:
            return self.fire(x, lambda v, current: v + current)
        return self.lif(x, tau=1.0 + (-self.weights[w]).exp())

    def connect(self, spikes, shortcut):
        if self.arguments["connect"] == "add":
            return spikes + shortcut
        if self.arguments["connect"] == "and":
            return spikes * shortcut
        return shortcut * (1.0 - spikes)


register_published_code(SEWResNetCode())

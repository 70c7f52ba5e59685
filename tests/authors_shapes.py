"""The shapes of all tensors of the authors' models, written out by hand."""

import numpy as np


def authors_shapes(
    family, embed_dim, depths, mlp_ratio=4, num_classes=10, in_channels=3, **_
):
    """Names and shapes of a state dict of the authors' code, as a dict.

    Args are those of a preset. Later arguments, of which no shape depends, are ignored.
    """
    shapes = {}

    def unit(name, out, *kernel, bias=False):
        shapes[f"{name}_conv.weight"] = (out, *kernel)
        if bias:
            shapes[f"{name}_conv.bias"] = (out,)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}_bn.{part}"] = (out,)
        shapes[f"{name}_bn.num_batches_tracked"] = ()

    widths = [embed_dim // 2**i for i in reversed(range(len(depths)))]
    own, fc = ("attn", "fc") if family == "imagenet" else ("ssa", "mlp")
    for stage, (c, depth) in enumerate(zip(widths, depths, strict=True), 1):
        if stage == 1:
            rows, branch = {
                "imagenet": ((c // 2, c, c), c // 2),
                "cifar": ((c // 2, c), c // 2),
                "dvs": ((c // 8, c // 4, c // 2, c), c // 4),
            }[family]
            for i, out in enumerate(rows):
                before = in_channels if i == 0 else rows[i - 1]
                unit(f"patch_embed1.proj{i or ''}", out, before, 3, 3)
        else:
            branch = c // 2
            first = "proj" if family == "dvs" else "proj3"
            unit(f"patch_embed{stage}.{first}", c, c // 2, 3, 3)
            unit(f"patch_embed{stage}.proj4", c, c, 3, 3)
        unit(f"patch_embed{stage}.proj_res", c, branch, 1, 1)
        last = stage == len(depths)
        for block in range(depth):
            prefix = f"stage{stage}.{block}"
            for part in "qkv" if last else "qk":
                unit(f"{prefix}.{own if last else 'tssa'}.{part}", c, c, 1)
            unit(f"{prefix}.{own if last else 'tssa'}.proj", c, c, 1, bias=True)
            unit(f"{prefix}.mlp.{fc}1", c * mlp_ratio, c, 1, 1, bias=True)
            unit(f"{prefix}.mlp.{fc}2", c, c * mlp_ratio, 1, 1, bias=True)
    shapes["head.weight"] = (num_classes, embed_dim)
    shapes["head.bias"] = (num_classes,)
    return shapes


# File of the relatives' code -> names of the stem's units, the position unit if
# any, axes of kernels in attention and MLP, the MLP's names, whether Q, K and V have
# biases, and groups of tensors without effect.
_PROJ = ("proj_{}", "proj_{}1", "proj_{}2", "proj_{}3")
_SPIKINGFORMER = ("proj_{}", "proj1_{}", "proj2_{}", "proj3_{}", "proj4_{}")
_RELATIVES = {
    "spikformer/cifar10": (_PROJ, "rpe_{}", 2, 2, "fc", True, ("norms",)),
    "spikformer/imagenet": (_PROJ, "rpe_{}", 3, 4, "fc", False, ("norms",)),
    "spikformer/cifar10dvs": (_PROJ, "rpe_{}", 3, 3, "fc", False, ("norms", "events")),
    "cml/cifar10/CML_Spikformer": (
        ("block1_{}", "block2_{}", "block3_{}", "block4_{}"),
        *("rpe_{}", 2, 2, "fc", True, ("norms",)),
    ),
    "spikingformer/cifar10": (
        tuple(f"block{i}_{{}}" for i in range(5)),
        *(None, 3, 4, "mlp", False, ("norms",)),
    ),
    "spikingformer/imagenet": (_SPIKINGFORMER, None, 3, 4, "mlp", False, ("norms",)),
    "spike_driven": (_PROJ, "rpe_{}", 4, 4, "fc", False, ("talking_heads",)),
    "cml/cifar10": (_SPIKINGFORMER, None, 3, 4, "mlp", False, ("norms",)),
}


def relative_shapes(
    file,
    embed_dim,
    depth,
    num_classes,
    num_heads=None,
    mlp_ratio=4,
    in_channels=3,
    neuron="lif",
    **_,
):
    """Names and shapes of a state dict of the code of QKFormer's relatives.

    Args are a file of `_RELATIVES`, and those of a preset.
    """
    stem, position, attention_ndim, mlp_ndim, mlp, bias, unused = _RELATIVES[file]
    linear = "linear" if attention_ndim == 2 else "conv"
    shapes = {}

    def norm(name, out):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (out,)

    def unit(name, conv, out, *kernel, has_bias=False):
        shapes[f"{name.format(conv)}.weight"] = (out, *kernel)
        if has_bias:
            shapes[f"{name.format(conv)}.bias"] = (out,)
        norm(name.format("bn"), out)
        for part in ("running_mean", "running_var"):
            shapes[f"{name.format('bn')}.{part}"] = (out,)
        shapes[f"{name.format('bn')}.num_batches_tracked"] = ()

    c, hidden = embed_dim, embed_dim * mlp_ratio
    widths = (in_channels, c // 8, c // 4, c // 2, c, c)
    for i, name in enumerate(stem):
        unit(f"patch_embed.{name}", "conv", widths[i + 1], widths[i], 3, 3)
    if position:
        unit(f"patch_embed.{position}", "conv", c, c, 3, 3)
    for i in range(depth):
        if "norms" in unused:
            norm(f"block.{i}.norm1", c)
            norm(f"block.{i}.norm2", c)
        if "talking_heads" in unused:
            name = f"block.{i}.attn.talking_heads.weight"
            shapes[name] = (num_heads, num_heads, 1)
        ones = (1,) * (attention_ndim - 2)
        for part in "qkv":
            unit(f"block.{i}.attn.{part}_{{}}", linear, c, c, *ones, has_bias=bias)
        unit(f"block.{i}.attn.proj_{{}}", linear, c, c, *ones, has_bias=True)
        ones = (1,) * (mlp_ndim - 2)
        unit(f"block.{i}.mlp.{mlp}1_{{}}", linear, hidden, c, *ones, has_bias=True)
        unit(f"block.{i}.mlp.{mlp}2_{{}}", linear, c, hidden, *ones, has_bias=True)
    if "events" in unused:
        norm("norm", c)
        shapes["pos_embed"] = (1, 64, c)
    if neuron == "plif":
        shapes["head_lif.w"] = ()
        for name in (*stem, position):
            shapes[f"patch_embed.{name.format('lif')}.w"] = ()
        attention = ("shortcut", "q", "k", "v", "attn", "talking_heads")
        parts = [f"attn.{name}" for name in attention] + ["mlp.fc1", "mlp.fc2"]
        for i in range(depth):
            for part in parts:
                shapes[f"block.{i}.{part}_lif.w"] = ()
    shapes["head.weight"] = (num_classes, c)
    shapes["head.bias"] = (num_classes,)
    return shapes


def max_former_shapes(
    data, embed_dim, num_classes, depths=(1, 2, 7), in_channels=3, **_
):
    """Names and shapes of a state dict of Max-Former's code, as a dict.

    Args are `"imagenet"`, `"cifar"` or `"events"`, and those of a preset.
    """
    shapes = {}

    def unit(conv, norm, out, *kernel, bias=False):
        shapes[f"{conv}.weight"] = (out, *kernel)
        if bias:
            shapes[f"{conv}.bias"] = (out,)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (out,)
        shapes[f"{norm}.num_batches_tracked"] = ()

    def embed(stage, name, out, *kernel):
        name = f"patch_embed{stage}.{name}"
        unit(f"{name}_conv", f"{name}_bn", out, *kernel)

    widths = [embed_dim // 2**i for i in reversed(range(len(depths)))]
    c = widths[0]
    if data == "imagenet":
        embed(1, "embed1.embed", c // 2, in_channels, 3, 3)
        embed(1, "embed2.embed", c, c // 2, 3, 3)
        embed(1, "embed3.embed", c, c, 3, 3)
        embed(1, "embed4.embed", c, c // 2, 1, 1)
    elif data == "cifar":
        embed(1, "proj", c // 2, in_channels, 3, 3)
        embed(1, "embed1.embed", c, c // 2, 3, 3)
        embed(1, "embed2.embed", c, c // 2, 1, 1)
    else:
        embed(1, "proj", c // 8, in_channels, 3, 3)
        embed(1, "max_embed1.embed", c // 4, c // 8, 3, 3)
        embed(1, "max_embed2.embed", c // 2, c // 4, 3, 3)
        embed(1, "max_embed3.embed", c, c // 2, 3, 3)
        embed(1, "embed1.embed", c, c // 4, 1, 1)
    for stage, c in enumerate(widths[1:], 2):
        embed(stage, "max_embed1.embed", c, c // 2, 3, 3)
        embed(stage, "embed1.embed", c, c, 3, 3)
        embed(stage, "max_embed2.embed", c, c // 2, 1, 1)
    mixers = {
        "imagenet": (("conv5", 7), ("conv", 5), None),
        "cifar": (None, ("conv", 3), None),
        "events": (("conv", 3), None),
    }[data]
    for stage, (c, depth, mixer) in enumerate(zip(widths, depths, mixers, strict=True)):
        hidden = c if data == "events" else 4 * c
        for block in (f"stage{stage + 1}.{i}" for i in range(depth)):
            if mixer:
                name, size = f"{block}.mixer.{mixer[0]}", mixer[1]
                unit(name, f"{name}_bn", c, 1, size, size, bias=True)
            elif stage:  # The first stage for CIFAR has none.
                for part in ("q", "k", "v", "proj"):
                    name, bias = f"{block}.attn.{part}", part == "proj"
                    unit(f"{name}_conv", f"{name}_bn", c, c, 1, bias=bias)
            for name, out, before in (("fc1", hidden, c), ("fc2", c, hidden)):
                name = f"{block}.mlp.{name}"
                unit(f"{name}_conv", f"{name}_bn", out, before, 1, 1, bias=True)
    shapes["head.weight"] = (num_classes, embed_dim)
    shapes["head.bias"] = (num_classes,)
    return shapes


def sew_shapes(
    widths=(64, 128, 256, 512),
    depths=(3, 4, 6, 3),
    bottleneck=False,
    stem_width=64,
    num_classes=1000,
    in_channels=3,
    **_,
):
    """Names and shapes of a state dict of SEW ResNet's code, as a dict.

    Args are those of a preset.
    """
    shapes = {}

    def unit(conv, norm, out, *kernel):
        shapes[f"{conv}.weight"] = (out, *kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (out,)
        shapes[f"{norm}.num_batches_tracked"] = ()

    def container(name, *shape):
        unit(f"{name}.module.0", f"{name}.module.1", *shape)

    if stem_width is None:
        before, index = in_channels, 0
        for c, depth in zip(widths, depths, strict=True):
            if c != before:
                container(f"conv.{index}.0", c, before, 1, 1)
                shapes[f"conv.{index}.1.w"] = (1,)
                before, index = c, index + 1
            for block in range(index, index + depth):
                for i in (0, 1):
                    container(f"conv.{block}.conv.{i}.0", c, c, 3, 3)
                    shapes[f"conv.{block}.conv.{i}.1.w"] = (1,)
            index += depth + 1
        shapes["out.weight"] = (num_classes, before)
        shapes["out.bias"] = (num_classes,)
        return shapes
    unit("conv1", "bn1", stem_width, in_channels, 7, 7)
    before = stem_width
    for stage, (c, depth) in enumerate(zip(widths, depths, strict=True), 1):
        out = 4 * c if bottleneck else c
        for name in (f"layer{stage}.{block}" for block in range(depth)):
            if bottleneck:
                container(f"{name}.conv1", c, before, 1, 1)
                container(f"{name}.conv2", c, c, 3, 3)
                container(f"{name}.conv3", out, c, 1, 1)
            else:
                container(f"{name}.conv1", c, before, 3, 3)
                container(f"{name}.conv2", c, c, 3, 3)
            if name.endswith(".0") and (stage > 1 or before != out):
                container(f"{name}.downsample.0", out, before, 1, 1)
            before = out
    shapes["fc.weight"] = (num_classes, before)
    shapes["fc.bias"] = (num_classes,)
    return shapes


def random_arrays(shapes, seed=0):
    """Weights of such shapes with which neurons fire: float32, counters int64."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            arrays[name] = np.array(0, "int64")
        elif name.endswith("running_var") or name.endswith("_bn.weight"):
            arrays[name] = random.uniform(0.5, 1.5, shape).astype("float32")
        elif len(shape) > 1:
            scale = (2.0 / np.prod(shape[1:])) ** 0.5
            arrays[name] = random.standard_normal(shape, "float32") * np.float32(scale)
        else:
            arrays[name] = random.normal(0.0, 0.3, shape).astype("float32")
    return arrays

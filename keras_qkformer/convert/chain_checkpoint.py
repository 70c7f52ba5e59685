"""Checkpoints of the families that are one stem and a chain of blocks.

A family describes the forms in which its code was published: which models have which
tensor names. From these its checkpoints are recognized, loaded and written back.
"""

import abc
import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np

from keras_qkformer.convert.entries import layer_entries, unit_entries
from keras_qkformer.convert.published_code import (
    PublishedCode,
    kernel_shape,
    read_classes,
    read_ratio,
)
from keras_qkformer.convert.torch_twin import Twin, run_twin
from keras_qkformer.published_data import CIFAR_PIXELS, IMAGENET_PIXELS

HEAD = "head"
_KIND = re.compile(r"(conv|linear|bn)\d*\.weight$|^head\.weight$")
_BLOCK = re.compile(r"^block\.(\d{1,4})\.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """The tensor names of one published file of a family.

    A unit is a convolution and a BatchNorm; `{}` in its name stands for `conv`, or what
    `linear` says, and for `bn`.

    Attributes:
        models: tuple of dicts of arguments: the models that have these names. What all
            of them agree in, the names tell.
        stem: tuple of str, names of the units of the patch embedding, in order.
        position: str, name of the position unit, or `None`.
        mlp: pair of str, names of the MLP's units.
        linear: str, name of the convolution in units of attention and MLP.
        attention_ndim: int, number of axes of a kernel in attention.
        mlp_ndim: int, number of axes of a kernel in the MLP.
        assumed: dict from arguments that neither names nor shapes tell to the values
            that are written into the file.
        unused: function of a backbone that returns a dict from the names of tensors
            without effect to arrays with their initial values.
    """

    models: tuple
    stem: tuple
    position: str | None
    mlp: tuple
    linear: str = "conv"
    attention_ndim: int = 3
    mlp_ndim: int = 4
    assumed: Mapping = dataclasses.field(default_factory=dict)
    unused: Callable

    def parts(self):
        """Return triples of a unit's prefix, name of its convolution, and its axes."""
        parts = [("patch_embed.", unit, "conv", 4) for unit in self.stem]
        if self.position:
            parts.append(("patch_embed.", self.position, "conv", 4))
        for unit in ("q_{}", "k_{}", "v_{}", "proj_{}"):
            parts.append(("block.attn.", unit, self.linear, self.attention_ndim))
        parts += [("block.mlp.", unit, self.linear, self.mlp_ndim) for unit in self.mlp]
        return parts

    def kinds(self):
        """Return the names and ranks of all kernels and BatchNorm scales.

        Returns:
            Set of pairs. Blocks have no numbers.
        """
        kinds = {(f"{HEAD}.weight", 2)}
        for prefix, unit, conv, ndim in self.parts():
            kinds.add((f"{prefix}{unit.format(conv)}.weight", ndim))
            kinds.add((f"{prefix}{unit.format('bn')}.weight", 1))
        return kinds

    def has(self, arguments):
        """Whether a model with these arguments has these names."""
        return any(
            all(arguments[key] == value for key, value in model.items())
            for model in self.models
        )

    def told(self):
        """Return the arguments that the names tell."""
        first, *others = self.models
        return {
            key: value
            for key, value in first.items()
            if all(key in other and other[key] == value for other in others)
        }


def norm_defaults(backbone):
    """Return the LayerNorms `norm1` and `norm2` of the blocks, which have no effect.

    Args:
        backbone: backbone with `depth` and `embed_dim`.

    Returns:
        Dict from names to arrays with their initial values.
    """
    return {
        f"block.{i}.norm{k}.{part}": np.full(backbone.embed_dim, value, "float32")
        for i in range(backbone.depth)
        for k in (1, 2)
        for part, value in (("weight", 1.0), ("bias", 0.0))
    }


class ChainCode(PublishedCode):
    """Base class of the published code of families of one stem and a chain of blocks.

    A model has the layers `patch_embed`, a `SpikingPatchSplitting`, and `block1`,
    `block2`, ..., each a `SpikingBlock`.

    Attributes:
        forms: tuple of `Form`.
        has_neuron_weights: bool. Whether their code has neurons with learnable time
            constants, which `weight_map` then adds.
    """

    forms = ()
    has_neuron_weights = False

    def likeness(self, arrays):
        return max(_likeness(form, arrays) for form in self.forms)

    def read_sizes(self, arrays):
        form = self.form(arrays)
        blocks = {int(match[1]) for match in map(_BLOCK.match, arrays) if match}
        first, last = (
            kernel_shape(arrays, f"patch_embed.{unit.format('conv')}.weight", 2)
            for unit in (form.stem[0], form.stem[-1])
        )
        mlp = f"block.0.mlp.{form.mlp[0].format(form.linear)}.weight"
        return {
            **form.told(),
            "in_channels": first[1],
            "embed_dim": last[0],
            "depth": 1 + max(blocks, default=0),
            "mlp_ratio": read_ratio(arrays, mlp, 2),
            "num_classes": read_classes(arrays, HEAD),
        }

    def assumptions(self, arrays):
        reason = "written into the authors' code"
        form = self.form(arrays)
        return {key: (value, reason) for key, value in form.assumed.items()}

    def fits(self, arrays, arguments):
        return self.form(arrays).has(arguments)

    def weight_map(self, model):
        backbone = model.backbone
        form = self._form_of(backbone)
        embedding = backbone.get_layer("patch_embed")
        entries = []
        stem = list(zip(embedding.units, form.stem, strict=True))
        if form.position:
            stem.append((embedding.position, form.position))
        for unit, name in stem:
            name = f"patch_embed.{name}"
            entries += unit_entries(unit, name.format("conv"), name.format("bn"))
        for i in range(backbone.depth):
            block = backbone.get_layer(f"block{i + 1}")
            attention = {
                "q_{}": block.mix.query,
                "k_{}": block.mix.key,
                "v_{}": block.mix.value,
                "proj_{}": block.mix.proj,
            }
            mlp = dict(zip(form.mlp, (block.mlp.expand, block.mlp.reduce), strict=True))
            for part, units, ndim in (
                ("attn", attention, form.attention_ndim),
                ("mlp", mlp, form.mlp_ndim),
            ):
                for name, unit in units.items():
                    name = f"block.{i}.{part}.{name}"
                    conv, norm = name.format(form.linear), name.format("bn")
                    entries += unit_entries(unit, conv, norm, ndim)
        if model.num_classes is not None:
            entries += layer_entries(model.get_layer("head"), HEAD, 2)
        return entries

    def unused(self, model):
        return self._form_of(model.backbone).unused(model.backbone)

    def pixels(self, backbone):
        known = {16: IMAGENET_PIXELS, 4: CIFAR_PIXELS}
        return known.get(backbone.reduction) if backbone.static else None

    def twin_logits(self, arrays, arguments, inputs):
        form = self.form(arrays)

        def twin(*given):
            return self.make_twin(form, *given)

        return run_twin(twin, arrays, arguments, inputs)

    @abc.abstractmethod
    def make_twin(self, form, torch, weights, arguments):
        """Return a `ChainTwin` of these arguments."""

    def form(self, arrays):
        """Return the `Form` whose names match a checkpoint best."""
        return max(self.forms, key=lambda form: _likeness(form, arrays))

    def _form_of(self, backbone):
        arguments = backbone.get_config()
        neurons = ("lif", "plif") if self.has_neuron_weights else ("lif",)
        for form in self.forms:
            if form.has(arguments) and backbone.neuron in neurons:
                return form
        models = [model for form in self.forms for model in form.models]
        keys = sorted({key for model in models for key in model})
        received = {key: arguments[key] for key in (*keys, "neuron")}
        raise ValueError(
            f"Checkpoints exist for models of {' or '.join(neurons)} neurons, and of "
            f"{models}. Received: {received}"
        )


class ChainTwin(Twin):
    """Base class of such a family's model in plain PyTorch, see `Twin`.

    Args:
        form: `Form` of the names.
        *given: arguments of `Twin`.
    """

    def __init__(self, form, *given):
        super().__init__(*given)
        self.form = form

    def stem_unit(self, x, name):
        """Convolution and BatchNorm of a unit of the patch embedding."""
        return self._unit(x, f"patch_embed.{name}", "conv")

    def attention_unit(self, x, block, name):
        """Convolution and BatchNorm of a unit of attention."""
        return self._unit(x, f"block.{block}.attn.{name}", self.form.linear)

    def queries_keys_values(self, x, block):
        """What the neurons of Q, K and V receive."""
        return [self.attention_unit(x, block, f"{part}_{{}}") for part in "qkv"]

    def mlp_unit(self, x, block, name):
        """Convolution and BatchNorm of a unit of the MLP."""
        return self._unit(x, f"block.{block}.mlp.{name}", self.form.linear)

    def down(self, x, index):
        """Neuron and, in the last of four units, pooling: before it with CML."""
        if 2 ** (4 - index) > self.arguments["reduction"]:
            return self.lif(x)
        if self.arguments["downsampling"] == "cml":
            return self.lif(self.pool(x))
        return self.pool(self.lif(x))

    def _unit(self, x, name, conv):
        return self.conv_bn(x, name.format(conv), name.format("bn"))


def _likeness(form, arrays):
    """Number of names in common with a checkpoint, over that of both together."""
    kinds = {
        (_BLOCK.sub("block.", name), len(np.shape(array)))
        for name, array in arrays.items()
        if _KIND.search(name)
    }
    expected = form.kinds()
    return len(kinds & expected) / len(kinds | expected)

"""Checkpoints of the spike-driven Transformer: names, and the model in PyTorch."""

import numpy as np

from keras_qkformer.convert.chain_checkpoint import ChainCode, ChainTwin, Form
from keras_qkformer.convert.entries import layer_entries
from keras_qkformer.convert.published_code import register_published_code
from keras_qkformer.models.spike_driven_transformer import FAMILY

_TALKING_HEADS = "block.{}.attn.talking_heads.weight"


def _unused(backbone):
    """A convolution over the heads; with learnable constants, those of two neurons."""
    heads, blocks = backbone.num_heads, range(backbone.depth)
    names = [f"block.{i}.attn.attn_lif.w" for i in blocks]
    neurons = ["patch_embed.rpe_lif.w", *names] if backbone.neuron == "plif" else []
    return {
        **{name: np.zeros((), "float32") for name in neurons},
        **{
            _TALKING_HEADS.format(i): np.zeros((heads, heads, 1), "float32")
            for i in blocks
        },
    }


class SpikeDrivenTransformerCode(ChainCode):
    """The authors' code of the spike-driven Transformer, one file for all data."""

    family = FAMILY
    title = "the spike-driven Transformer"
    unseen = (*ChainCode.unseen, "reduction", "dilate", "tau")
    has_neuron_weights = True
    forms = (
        Form(
            models=({},),
            stem=("proj_{}", "proj_{}1", "proj_{}2", "proj_{}3"),
            position="rpe_{}",
            mlp=("fc1_{}", "fc2_{}"),
            attention_ndim=4,
            assumed={"tau": None},
            unused=_unused,
        ),
    )

    def read_sizes(self, arrays):
        sizes = super().read_sizes(arrays)
        has_constants = "head_lif.w" in arrays
        sizes["neuron"] = "plif" if has_constants else "lif"
        heads = arrays.get(_TALKING_HEADS.format(0))
        if heads is not None:
            sizes["num_heads"] = max(np.shape(heads), default=0)
        return sizes

    def weight_map(self, model):
        backbone = model.backbone
        neurons = {"head_lif": model.get_layer("head_neuron")}
        embedding = backbone.get_layer("patch_embed")
        for i, unit in enumerate(embedding.units[:-1]):
            neurons[f"patch_embed.proj_lif{i or ''}"] = unit.fire
        neurons["patch_embed.proj_lif3"] = embedding.position_neuron
        for i in range(backbone.depth):
            block = backbone.get_layer(f"block{i + 1}")
            attention = {
                "shortcut": block.mix.input_neuron,
                "q": block.mix.query.fire,
                "k": block.mix.key.fire,
                "v": block.mix.value.fire,
                "talking_heads": block.mix.attention_neuron,
            }
            mlp = {"fc1": block.mlp.input_neuron, "fc2": block.mlp.hidden_neuron}
            for part, named in (("attn", attention), ("mlp", mlp)):
                for name, neuron in named.items():
                    neurons[f"block.{i}.{part}.{name}_lif"] = neuron
        entries = super().weight_map(model)
        for name, neuron in neurons.items():
            entries += layer_entries(neuron, name)
        return entries

    def crop(self, size):
        # Of 8-768, from 320 to 288 px.
        return 0.95 if size <= 224 else 0.9

    def make_twin(self, *given):
        return _Twin(*given)


class _Twin(ChainTwin):
    """The model as functions of its weights, see `ChainTwin`."""

    def logits(self, x):
        *units, last = self.form.stem
        pools = [2 ** (4 - i) <= self.arguments["reduction"] for i in range(4)]
        for unit, has_pool in zip(units, pools[:-1], strict=True):
            x = self.neuron(self.stem_unit(x, unit), f"patch_embed.{unit}")
            x = self.pool(x) if has_pool else x
        x = self.stem_unit(x, last)
        x = self.pool(x) if pools[-1] else x
        spikes = self.neuron(x, f"patch_embed.{last}")
        x = x + self.stem_unit(spikes, self.form.position)
        for i in range(self.arguments["depth"]):
            x = x + self.spike_driven_attention(x, i)
            x = self.mlp(x, i)
        x = self.neuron(x.flatten(3).mean(3), "head_{}")
        return self.head(x.mean(0))

    def neuron(self, x, name, threshold=1.0):
        """Spikes of a neuron, which may have a time constant of its own."""
        w = self.weights.get(f"{name.format('lif')}.w")
        return self.lif(x, threshold, None if w is None else 1.0 + (-w).exp())

    def spike_driven_attention(self, x, block):
        name = f"block.{block}.attn.{{}}_{{{{}}}}"
        spikes = self.neuron(x, name.format("shortcut"))
        q, k, v = (
            self.neuron(y, name.format(part))
            for part, y in zip(
                "qkv", self.queries_keys_values(spikes, block), strict=True
            )
        )
        # (time, batch, heads, tokens, channels of a head)
        heads = self.arguments["num_heads"]
        q, k, v = (
            part.flatten(3).unflatten(2, (heads, -1)).transpose(3, 4)
            for part in (q, self.widen(k), self.widen(v))
        )
        total = self.widen(k * v).sum(3, keepdim=True)
        mask = self.neuron(total, name.format("talking_heads"), 0.5)
        y = self.widen(q * mask).transpose(3, 4).reshape(x.shape)
        return self.attention_unit(y, block, "proj_{}")

    def widen(self, x):
        """Maxima over 3x3 of the last two axes, if the model has them."""
        if not self.arguments["dilate"]:
            return x
        maps = x.reshape(-1, 1, *x.shape[-2:])
        return self.torch.nn.functional.max_pool2d(maps, 3, 1, 1).reshape(x.shape)

    def mlp(self, x, block):
        """The MLP with its shortcut, or with one for each unit."""
        first, second = self.form.mlp
        name = f"block.{block}.mlp.{{}}"
        hidden = self.mlp_unit(self.neuron(x, name.format(first)), block, first)
        if hidden.shape == x.shape:
            x = hidden = x + hidden
        spikes = self.neuron(hidden, name.format(second))
        return x + self.mlp_unit(spikes, block, second)


register_published_code(SpikeDrivenTransformerCode())

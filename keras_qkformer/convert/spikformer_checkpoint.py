"""Checkpoints of Spikformer, also with CML: tensor names, and the model in PyTorch."""

import numpy as np

from keras_qkformer.convert.chain_checkpoint import (
    ChainCode,
    ChainTwin,
    Form,
    norm_defaults,
)
from keras_qkformer.convert.published_code import register_published_code
from keras_qkformer.models.spikformer import FAMILY

_STEM = ("proj_{}", "proj_{}1", "proj_{}2", "proj_{}3")
_MLP = ("fc1_{}", "fc2_{}")
_CIFAR = {"reduction": 4, "static": True, "attention_bias": True}
_OTHERS = {"reduction": 16, "attention_bias": False}


def _unused_of_events(backbone):
    """What the model for events has beside `norm_defaults`: a last norm, positions."""
    height, width = (n // backbone.reduction for n in backbone.image_size)
    width = height * width
    return {
        **norm_defaults(backbone),
        "norm.weight": np.ones(backbone.embed_dim, "float32"),
        "norm.bias": np.zeros(backbone.embed_dim, "float32"),
        "pos_embed": np.zeros((1, width, backbone.embed_dim), "float32"),
    }


class SpikformerCode(ChainCode):
    """The authors' code of Spikformer, and that of CML for CIFAR.

    The code of CML for ImageNet and events was not published; a model of ours with
    `downsampling="cml"` takes the names of the same model without.
    """

    family = FAMILY
    title = "Spikformer"
    unseen = (*ChainCode.unseen, "downsampling", "attention_scale", "tau")
    forms = (
        Form(
            models=({**_CIFAR, "downsampling": "spikes"},),
            stem=_STEM,
            position="rpe_{}",
            mlp=_MLP,
            linear="linear",
            attention_ndim=2,
            mlp_ndim=2,
            assumed={"attention_scale": 0.125, "tau": None},
            unused=norm_defaults,
        ),
        Form(
            models=({**_CIFAR, "downsampling": "cml"},),
            stem=("block1_{}", "block2_{}", "block3_{}", "block4_{}"),
            position="rpe_{}",
            mlp=_MLP,
            linear="linear",
            attention_ndim=2,
            mlp_ndim=2,
            assumed={"attention_scale": 0.125, "tau": None},
            unused=norm_defaults,
        ),
        Form(
            models=({**_OTHERS, "static": True},),
            stem=_STEM,
            position="rpe_{}",
            mlp=_MLP,
            assumed={
                "attention_scale": 0.125,
                "tau": None,
                "time_steps": 4,
                "downsampling": "spikes",
            },
            unused=norm_defaults,
        ),
        Form(
            models=({**_OTHERS, "static": False},),
            stem=_STEM,
            position="rpe_{}",
            mlp=_MLP,
            mlp_ndim=3,
            assumed={
                "attention_scale": 0.25,
                "tau": None,
                "downsampling": "spikes",
                "image_size": 128,
            },
            unused=_unused_of_events,
        ),
    )

    def make_twin(self, *given):
        return _Twin(*given)


class _Twin(ChainTwin):
    """The model as functions of its weights, see `ChainTwin`."""

    def logits(self, x):
        for i, name in enumerate(self.form.stem):
            x = self.down(self.stem_unit(x, name), i)
        x = x + self.lif(self.stem_unit(x, self.form.position))
        heads, scale = (self.arguments[k] for k in ("num_heads", "attention_scale"))
        for i in range(self.arguments["depth"]):
            parts = [self.lif(y) for y in self.queries_keys_values(x, i)]
            y = self.lif(self.attention(parts, heads, scale), threshold=0.5)
            x = x + self.lif(self.attention_unit(y, i, "proj_{}"))
            y = x
            for name in self.form.mlp:
                y = self.lif(self.mlp_unit(y, i, name))
            x = x + y
        return self.head(x.flatten(3).mean(3).mean(0))


register_published_code(SpikformerCode())

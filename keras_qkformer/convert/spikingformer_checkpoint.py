"""Checkpoints of Spikingformer, also with CML: names, and the model in PyTorch."""

from keras_qkformer.convert.chain_checkpoint import (
    ChainCode,
    ChainTwin,
    Form,
    norm_defaults,
)
from keras_qkformer.convert.published_code import register_published_code
from keras_qkformer.models.spikingformer import FAMILY

_MLP = ("mlp1_{}", "mlp2_{}")


class SpikingformerCode(ChainCode):
    """The authors' code of Spikingformer, and that of CML."""

    family = FAMILY
    title = "Spikingformer"
    unseen = (*ChainCode.unseen, "reduction", "downsampling", "tau")
    forms = (
        Form(
            models=({"reduction": 4, "static": True, "downsampling": "spikes"},),
            stem=tuple(f"block{i}_{{}}" for i in range(5)),
            position=None,
            mlp=_MLP,
            assumed={"tau": None},
            unused=norm_defaults,
        ),
        # CML for CIFAR has the names that all code for ImageNet and events has.
        Form(
            models=(
                {"reduction": 16},
                {"reduction": 4, "static": True, "downsampling": "cml"},
            ),
            stem=("proj_{}", *(f"proj{i}_{{}}" for i in range(1, 5))),
            position=None,
            mlp=_MLP,
            unused=norm_defaults,
        ),
    )

    def make_twin(self, *given):
        return _Twin(*given)


class _Twin(ChainTwin):
    """The model as functions of its weights, see `ChainTwin`."""

    def logits(self, x):
        x = self.stem_unit(x, self.form.stem[0])
        for i, name in enumerate(self.form.stem[1:]):
            x = self.stem_unit(self.down(x, i), name)
        for i in range(self.arguments["depth"]):
            s = self.lif(x)
            parts = [self.lif(y) for y in self.queries_keys_values(s, i)]
            y = self.attention(parts, self.arguments["num_heads"], 0.125)
            x = x + self.attention_unit(self.lif(y, threshold=0.5), i, "proj_{}")
            y = x
            for name in self.form.mlp:
                y = self.mlp_unit(self.lif(y), i, name)
            x = x + y
        return self.head(x.flatten(3).mean(3).mean(0))


register_published_code(SpikingformerCode())

"""QKFormer in plain PyTorch, inference only, to verify converted weights."""

from keras_qkformer.convert.torch_twin import Twin, run_twin

# Family -> units of the stem, units of the later embeddings, the units of both that
# pool, the stem unit after which the shortcut branches off, and the shortcut's stride.
_PLANS = {
    "imagenet": (
        ("proj", "proj1", "proj2"),
        ("proj3", "proj4"),
        ("proj", "proj1", "proj3"),
        "proj",
        2,
    ),
    "cifar": (("proj", "proj1"), ("proj3", "proj4"), ("proj4",), "proj", 1),
    "dvs": (
        ("proj", "proj1", "proj2", "proj3"),
        ("proj", "proj4"),
        ("proj1", "proj2", "proj3", "proj4"),
        "proj1",
        4,
    ),
}


def twin_logits(arrays, arguments, inputs):
    """Compute the logits of a checkpoint in PyTorch, in float64.

    Args:
        arrays: dict from the authors' names to arrays.
        arguments: dict of all arguments of `QKFormerBackbone`, within the published
            code: token and self-attention, LIF neurons of time constant 2.
        inputs: array as our models take it, `(batch, height, width, channels)` for
            images or `(batch, time, height, width, channels)` for frames.

    Returns:
        Array `(batch, classes)`, or `(batch, channels)` without a head.

    Raises:
        ImportError: without PyTorch.
    """
    return run_twin(_Twin, arrays, arguments, inputs)


class _Twin(Twin):
    """The model as functions of its weights."""

    def __init__(self, torch, weights, arguments):
        super().__init__(torch, weights, arguments)
        self.potentials = arguments["residual"] == "pre_activation"
        plan = _PLANS[arguments["family"]]
        self.stem, self.stage, self.pooled, self.branch, self.stride = plan

    def logits(self, x):
        for stage, depth in enumerate(self.arguments["depths"], 1):
            if stage == 1:
                x = self.embed_image(x)
            else:
                x = self.embed_stage(x, f"patch_embed{stage}")
            heads = self.arguments["num_heads"]
            heads = heads if isinstance(heads, int) else heads[stage - 1]
            attend = {"token": self.token_attention, "self": self.self_attention}[
                self.arguments["attention"][stage - 1]
            ]
            for i in range(depth):
                block = f"stage{stage}.{i}"
                x = x + attend(x, self.attention_name(block), heads)
                x = self.mlp(x, f"{block}.mlp")
        x = x.flatten(3).mean(3)
        if self.potentials:
            x = self.lif(x)
        return self.head(x.mean(0))

    def attention_name(self, block):
        for name in ("attn", "tssa", "ssa"):
            if f"{block}.{name}.q_conv.weight" in self.weights:
                return f"{block}.{name}"
        raise ValueError(f"A block must have attention. Received: none in {block}")

    def embed_image(self, x):
        for name in self.stem:
            x = self.embed_unit(x, "patch_embed1", name, name == self.stem[-1])
            if name == self.branch:
                branch = x
        return x + self.shortcut(branch, "patch_embed1", self.stride)

    def embed_stage(self, x, embedding):
        if self.potentials:
            x = self.lif(x)
        branch = x
        for name in self.stage:
            x = self.embed_unit(x, embedding, name, name == self.stage[-1])
        return x + self.shortcut(branch, embedding, 2)

    def embed_unit(self, x, embedding, name, is_last):
        x = self.unit(x, f"{embedding}.{name}", pool=name in self.pooled)
        return x if is_last and self.potentials else self.lif(x)

    def shortcut(self, x, embedding, stride):
        if not self.arguments["deformed_shortcut"]:
            return 0.0
        rpe = self.potentials and embedding == "patch_embed1"
        x = self.unit(x, f"{embedding}.{'rpe' if rpe else 'proj_res'}", stride)
        return x if self.potentials else self.lif(x)

    def token_attention(self, x, name, heads):
        if self.potentials:
            x = self.lif(x)
        q, k = (self.lif(self.unit(x, f"{name}.{part}")) for part in "qk")
        q, k = (y.unflatten(2, (heads, -1)) for y in (q, k))
        attention = self.lif(q.sum(3, keepdim=True), threshold=0.5)
        x = self.unit((attention * k).flatten(2, 3), f"{name}.proj")
        return x if self.potentials else self.lif(x)

    def self_attention(self, x, name, heads):
        if self.potentials:
            x = self.lif(x)
        parts = [self.lif(self.unit(x, f"{name}.{part}")) for part in "qkv"]
        y = self.attention(parts, heads, 0.125)
        x = self.unit(self.lif(y, threshold=0.5), f"{name}.proj")
        if self.potentials:
            return x
        if self.arguments["membrane_state"] == "batch":
            # Potentials carry over from sample to sample: time and batch are one axis.
            return self.lif(x.flatten(0, 1)).reshape(x.shape)
        return self.lif(x)

    def mlp(self, x, name):
        """The output of the MLP with its residual connections."""
        unit = "fc" if f"{name}.fc1_conv.weight" in self.weights else "mlp"
        first, second = f"{name}.{unit}1", f"{name}.{unit}2"
        if not self.potentials:
            y = self.lif(self.unit(x, first))
            return x + self.lif(self.unit(y, second))
        y = self.unit(self.lif(x), first)
        if y.shape == x.shape:
            x = y = x + y
        return x + self.unit(self.lif(y), second)

    def unit(self, x, name, stride=1, pool=False):
        """Convolution, BatchNorm and optional pooling of every time step."""
        conv, norm = (self.half(name, half) for half in ("conv", "bn"))
        y = self.conv_bn(x, conv, norm, stride)
        return self.pool(y) if pool else y

    def half(self, name, half):
        """The name of the convolution or BatchNorm of a unit."""
        number = name.removeprefix("patch_embed1.proj")
        if self.potentials and number.isdecimal():
            return f"patch_embed1.proj_{half}{number}"
        return f"{name}_{half}"

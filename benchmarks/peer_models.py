"""QKFormer in plain PyTorch on SpikingJelly's layers, as users run it without us.

It is written from the equations of the paper, in the authors' formulation: tensors are
`(T, B, C, H, W)`; convolution, BatchNorm, pooling and neuron are separate layers; 1x1
convolutions are `Conv1d` over the tokens; images are repeated over time before the
first convolution. Its weights correspond one to one to those of our presets. Unlike in
the authors' code, no state carries over from sample to sample.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn


def lif(v_threshold=1.0):
    """Return the LIF neuron of the model.

    Args:
        v_threshold: float. Potential at which it fires.
    """
    return neuron.LIFNode(
        tau=2.0,
        v_threshold=v_threshold,
        detach_reset=True,
        surrogate_function=surrogate.Sigmoid(),
        step_mode="m",
    )


class _ConvUnit(nn.Sequential):
    """Convolution, BatchNorm, perhaps pooling, neuron."""

    def __init__(self, channels, filters, kernel_size=3, stride=1, pool=False):
        parts = [
            layer.Conv2d(
                channels,
                filters,
                kernel_size,
                stride,
                padding=kernel_size // 2,
                bias=False,
                step_mode="m",
            ),
            layer.BatchNorm2d(filters, step_mode="m"),
        ]
        if pool:
            parts.append(layer.MaxPool2d(3, stride=2, padding=1, step_mode="m"))
        super().__init__(*parts, lif())


class _LinearUnit(nn.Sequential):
    """Linear map over the channels of the tokens, BatchNorm, neuron."""

    def __init__(self, channels, filters, bias=False):
        super().__init__(
            layer.Conv1d(channels, filters, 1, bias=bias, step_mode="m"),
            layer.BatchNorm1d(filters, step_mode="m"),
            lif(),
        )


class _PatchEmbedding(nn.Module):
    """A main path of units, and a strided 1x1 shortcut around its last units."""

    def __init__(self, channels, plan, shortcut_from):
        super().__init__()
        units, inputs = [], channels
        for filters, pool in plan:
            units.append(_ConvUnit(inputs, filters, pool=pool))
            inputs = filters
        self.before = nn.Sequential(*units[:shortcut_from])
        self.main = nn.Sequential(*units[shortcut_from:])
        self.shortcut = _ConvUnit(
            plan[shortcut_from - 1][0] if shortcut_from else channels,
            plan[-1][0],
            kernel_size=1,
            stride=2 ** sum(pool for _, pool in plan[shortcut_from:]),
        )

    def forward(self, x):
        x = self.before(x)
        return self.main(x) + self.shortcut(x)


class TokenAttention(nn.Module):
    """Q-K token attention on `(T, B, C, N)`."""

    summed = 3  # The channels of a head.

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key = (_LinearUnit(channels, channels) for _ in range(2))
        self.attend = lif(0.5)
        self.proj = _LinearUnit(channels, channels, bias=True)

    def forward(self, x):
        query, key = (
            unit(x).unflatten(2, (self.heads, -1)) for unit in (self.query, self.key)
        )
        mask = self.attend(query.sum(self.summed, keepdim=True))
        return self.proj((mask * key).flatten(2, 3))


class ChannelAttention(TokenAttention):
    """Q-K channel attention: the sum is over the tokens."""

    summed = 4


class SelfAttention(nn.Module):
    """Spiking self-attention on `(T, B, C, N)`, `K^T V` first, as published."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (
            _LinearUnit(channels, channels) for _ in range(3)
        )
        self.attend = lif(0.5)
        self.proj = _LinearUnit(channels, channels, bias=True)

    def forward(self, x):
        query, key, value = (
            unit(x).unflatten(2, (self.heads, -1)).transpose(3, 4)
            for unit in (self.query, self.key, self.value)
        )
        y = self.mix(query, key.transpose(3, 4), value)
        return self.proj(self.attend(y.transpose(3, 4).flatten(2, 3)))

    def mix(self, query, key, value):
        return query @ (key @ value) * 0.125


class DenseSelfAttention(SelfAttention):
    """Self-attention with the N x N matrix, whose memory the paper compares."""

    def mix(self, query, key, value):
        return (
            (query * 0.125) @ key @ value
        )  # Exact; scaling later needs another N x N matrix.


class _Block(nn.Module):
    def __init__(self, channels, heads, mlp_ratio, attention):
        super().__init__()
        self.attention = attention(channels, heads)
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(
            _LinearUnit(channels, hidden, bias=True),
            _LinearUnit(hidden, channels, bias=True),
        )

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


class PlainQKFormer(nn.Module):
    """One of our presets in plain PyTorch.

    Args:
        arguments: the `arguments` of a preset of `keras_qkformer.models`.

    Call arguments:
        x: images `(B, C, H, W)` or event frames `(T, B, C, H, W)`.
    """

    def __init__(self, arguments):
        super().__init__()
        width = arguments["embed_dim"]
        depths = arguments.get("depths", (1, 2, 7))
        self.time_steps = arguments.get("time_steps", 4)
        self.static = arguments.get("static", True)
        channels = arguments.get("in_channels", 3)
        self.embeddings, self.stages = nn.ModuleList(), nn.ModuleList()
        for stage, depth in enumerate(depths):
            filters = width // 2 ** (len(depths) - 1 - stage)
            self.embeddings.append(
                _embedding(arguments["family"], stage == 0, channels, filters)
            )
            last = stage == len(depths) - 1
            attention = SelfAttention if last else TokenAttention
            self.stages.append(
                nn.Sequential(
                    *(
                        _Block(
                            filters,
                            arguments["num_heads"],
                            arguments.get("mlp_ratio", 4),
                            attention,
                        )
                        for _ in range(depth)
                    )
                )
            )
            channels = filters
        self.head = nn.Linear(width, arguments["num_classes"])

    def forward(self, x):
        functional.reset_net(self)
        if self.static:
            x = x.unsqueeze(0).repeat(self.time_steps, 1, 1, 1, 1)
        for embedding, stage in zip(self.embeddings, self.stages, strict=True):
            x = embedding(x)
            x = stage(x.flatten(3)).unflatten(3, x.shape[3:])
        return self.head(x.flatten(3).mean(3).mean(0))


def _embedding(family, stem, channels, c):
    if family == "imagenet":
        plan = [(c, True), (c, False)]
        return _PatchEmbedding(
            channels, [(c // 2, True), *plan] if stem else plan, int(stem)
        )
    if stem and family == "dvs":
        plan = [(c // 8, False), (c // 4, True), (c // 2, True), (c, True)]
        return _PatchEmbedding(channels, plan, 2)
    if stem:
        return _PatchEmbedding(channels, [(c // 2, False), (c, False)], 1)
    return _PatchEmbedding(channels, [(c, False), (c, True)], 0)


def count_parameters(model):
    """Return the number of trainable parameters.

    Args:
        model: `torch.nn.Module`.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training_step(model, x, labels, optimizer):
    """Run one optimizer step on the cross-entropy and return the loss.

    Args:
        model: `torch.nn.Module` that gives logits.
        x: tensor that the model takes.
        labels: int tensor `(batch,)`.
        optimizer: `torch.optim.Optimizer`.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(model(x), labels)
    loss.backward()
    optimizer.step()
    return loss

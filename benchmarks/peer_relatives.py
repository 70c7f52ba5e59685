"""Spikformer, Spikingformer and the spike-driven Transformer, as in `peer_models`.

They are written from the equations of the papers, on SpikingJelly's layers, for images.
Tensors are `(T, B, C, H, W)`, in blocks `(T, B, C, N)`. Their weights correspond one to
one, and in the same order, to those of our presets.
"""

from spikingjelly.activation_based import functional, layer
from torch import nn

from benchmarks.peer_models import lif

UNITS = 4


def _conv_bn(channels, filters):
    return nn.Sequential(
        layer.Conv2d(channels, filters, 3, padding=1, bias=False, step_mode="m"),
        layer.BatchNorm2d(filters, step_mode="m"),
    )


def _linear_bn(channels, filters, bias=False):
    return nn.Sequential(
        layer.Conv1d(channels, filters, 1, bias=bias, step_mode="m"),
        layer.BatchNorm1d(filters, step_mode="m"),
    )


def _pool():
    return layer.MaxPool2d(3, stride=2, padding=1, step_mode="m")


def _sequence(*parts):
    """A chain of the parts that are there."""
    return nn.Sequential(*(part for part in parts if part is not None))


class _SelfAttention(nn.Module):
    """Spiking self-attention on spikes `(T, B, C, N)`, without the last neuron."""

    def __init__(self, channels, heads, bias, scale):
        super().__init__()
        self.heads, self.scale = heads, scale
        self.query, self.key, self.value = (
            nn.Sequential(_linear_bn(channels, channels, bias), lif()) for _ in range(3)
        )
        self.attend = lif(0.5)
        self.proj = _linear_bn(channels, channels, bias=True)

    def forward(self, x):
        query, key, value = (
            unit(x).unflatten(2, (self.heads, -1)).transpose(3, 4)
            for unit in (self.query, self.key, self.value)
        )
        y = query @ (key.transpose(3, 4) @ value) * self.scale
        return self.proj(self.attend(y.transpose(3, 4).flatten(2, 3)))


class _SpikeDrivenAttention(nn.Module):
    """Spike-driven attention on spikes `(T, B, C, N)`: masks, and no product."""

    def __init__(self, channels, heads, *_):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (
            nn.Sequential(_linear_bn(channels, channels), lif()) for _ in range(3)
        )
        self.attend = lif(0.5)
        self.proj = _linear_bn(channels, channels, bias=True)

    def forward(self, x):
        query, key, value = (unit(x) for unit in (self.query, self.key, self.value))
        mask = self.attend((key * value).sum(3, keepdim=True))
        return self.proj(query * mask)


class _Block(nn.Module):
    """Attention and MLP; the neurons stand behind the units, or before them."""

    def __init__(self, arguments, attention, before):
        super().__init__()
        width = arguments["embed_dim"]
        hidden = int(width * arguments.get("mlp_ratio", 4))
        mix = attention(
            width,
            arguments["num_heads"],
            arguments.get("attention_bias", False),
            arguments.get("attention_scale", 0.125),
        )
        first, second = (
            _linear_bn(width, hidden, bias=True),
            _linear_bn(hidden, width, bias=True),
        )
        if before:
            self.mix = nn.Sequential(lif(), mix)
            self.mlp = nn.Sequential(lif(), first, lif(), second)
        else:
            self.mix = nn.Sequential(mix, lif())
            self.mlp = nn.Sequential(first, lif(), second, lif())

    def forward(self, x):
        x = x + self.mix(x)
        return x + self.mlp(x)


class PlainRelative(nn.Module):
    """One of our presets of these families in plain PyTorch.

    Args:
        arguments: the `arguments` of a preset of `keras_qkformer.models`, for images.
        attention: class of the attention layer.
        before: bool. Whether neurons of blocks stand before their units.

    Call arguments:
        x: images `(B, C, H, W)`.
    """

    def __init__(self, arguments, attention=_SelfAttention, before=False):
        super().__init__()
        width = arguments["embed_dim"]
        self.time_steps = arguments.get("time_steps", 4)
        reduction = arguments.get("reduction", 16)
        # Which of the units pool.
        pools = [2 ** (UNITS - i) <= reduction for i in range(UNITS)]
        channels = arguments.get("in_channels", 3)
        self.stem, self.position = self.make_stem(channels, width, pools)
        self.blocks = nn.Sequential(
            *(
                _Block(arguments, attention, before)
                for _ in range(arguments.get("depth", 8))
            )
        )
        self.head_neuron = nn.Identity()
        self.head = nn.Linear(width, arguments["num_classes"])

    def make_stem(self, channels, width, pools):
        """The chain of units, and the position unit, which is added to its output."""
        raise NotImplementedError

    def forward(self, x):
        functional.reset_net(self)
        x = self.stem(x.unsqueeze(0).repeat(self.time_steps, 1, 1, 1, 1))
        if self.position is not None:
            x = x + self.position(x)
        x = self.blocks(x.flatten(3)).mean(3)
        return self.head(self.head_neuron(x).mean(0))


class PlainSpikformer(PlainRelative):
    """Spikformer, see `PlainRelative`."""

    def make_stem(self, channels, width, pools):
        units = []
        for i, pool in enumerate(pools):
            filters = width // 2 ** (UNITS - 1 - i)
            units += [_conv_bn(channels, filters), lif(), _pool() if pool else None]
            channels = filters
        return _sequence(*units), nn.Sequential(_conv_bn(width, width), lif())


class PlainSpikingformer(PlainRelative):
    """Spikingformer, see `PlainRelative`."""

    def __init__(self, arguments):
        super().__init__(arguments, before=True)

    def make_stem(self, channels, width, pools):
        filters = [width // 8, width // 4, width // 2, width, width]
        units = [_conv_bn(channels, filters[0])]
        for i, pool in enumerate(pools):
            units += [
                lif(),
                _pool() if pool else None,
                _conv_bn(filters[i], filters[i + 1]),
            ]
        return _sequence(*units), None


class PlainSpikeDrivenTransformer(PlainRelative):
    """Spike-driven Transformer, see `PlainRelative`."""

    def __init__(self, arguments):
        super().__init__(arguments, _SpikeDrivenAttention, before=True)
        self.head_neuron = lif()

    def make_stem(self, channels, width, pools):
        units = []
        for i, pool in enumerate(pools):
            filters, last = width // 2 ** (UNITS - 1 - i), i == UNITS - 1
            unit, pool = _conv_bn(channels, filters), _pool() if pool else None
            # The last unit pools potentials, the others spikes.
            units += [unit, pool] if last else [unit, lif(), pool]
            channels = filters
        return _sequence(*units), nn.Sequential(lif(), _conv_bn(width, width))

"""Builds the graph of a classifier for OpenVINO, layer by layer.

Maps are tensors `(batch, channels, height, width)` of one time step: what a layer needs
is then still in the cache, none cuts or joins steps, and no other layout exists between
input and logits. A unit whose input is whole numbers, spikes or sums of them, can have
weights of 8 bits: the runtime then multiplies in 8 bits, and rounds only the weights.

A layer of one's own needs a rule, see `rule`.
"""

import collections
import dataclasses
from types import MappingProxyType

import numpy as np
import openvino as ov
from openvino import opset13 as op

from keras_qkformer import layers
from keras_qkformer.layers.residual_block import ResidualBlock
from keras_qkformer.serving.unit_weights import LARGEST

_RULES = {}


@dataclasses.dataclass(frozen=True)
class Maps:
    """A tensor of the graph.

    Attributes:
        node: `openvino.Output`, or a node with one: `(batch, ...)`.
        largest: int, or `None` if the values are not whole numbers from 0. The largest
            possible value.
    """

    node: object
    largest: int | None = None

    @property
    def shape(self):
        """Shape without the first axis."""
        _, *others = _output(self.node).get_partial_shape()
        return [each.get_length() for each in others]


def rule(kind):
    """Return a decorator that registers how a kind of layer is added to a graph.

    Args:
        kind: class of layers. Subclasses without a rule of their own use it, too.

    Returns:
        Decorator of a function `add(graph, layer, x) -> Maps`, with a `GraphBuilder`,
        the layer and its input, `Maps`.
    """

    def register(function):
        _RULES[kind] = function
        return function

    return register


class GraphBuilder:
    """Adds layers to a graph, once for every time step.

    Args:
        weights: `UnitWeights`.
        states: dict from neurons to nodes `(batch, ...)`: their potentials before the
            first step. Others start at rest.

    Attributes:
        states: the same after the last step that was added.
        spikes: dict from neurons to lists of nodes `(batch, ...)`: their spikes at each
            step.
    """

    def __init__(self, weights, states=MappingProxyType({})):
        self.weights = weights
        self.states = dict(states)
        self.spikes = collections.defaultdict(list)
        self._constants, self._currents = {}, {}

    def add(self, layer, x, **options):
        """Add a layer.

        Args:
            layer: built layer.
            x: `Maps`. Its input.
            **options: passed to the rule of the layer.

        Returns:
            `Maps`.

        Raises:
            ValueError: if there is no rule for the layer.
        """
        for kind in type(layer).__mro__:
            if kind in _RULES:
                return _RULES[kind](self, layer, x, **options)
        raise ValueError(
            "A layer must have a rule in serving.openvino_graph to be exported to "
            f"OpenVINO. Received: {type(layer).__name__}"
        )

    def fire(self, neuron, current, is_scaled=False):
        """Add a neuron.

        Args:
            neuron: neuron layer.
            current: node `(batch, ...)`: its input.
            is_scaled: bool. Whether the input is multiplied by `input_gain` already.

        Returns:
            `Maps` of spikes.
        """
        dynamics = Dynamics(neuron, is_scaled)
        v = self.states.get(neuron, dynamics.at_rest)
        spike, self.states[neuron] = dynamics.step(v, current)
        self.spikes[neuron].append(spike)
        return Maps(spike, 1)

    def convolve(self, unit, x, gain=1.0):
        """Add the convolution of a unit, with its folded BatchNorm.

        Args:
            unit: `ConvBNLIF`.
            x: `Maps`.
            gain: float > 0. Factor of the result.

        Returns:
            Node.
        """
        if unit not in self._constants:
            self._constants[unit] = self._weights(unit, x.largest, np.float32(gain))
        weights, offset, is_whole = self._constants[unit]
        node = x.node
        if is_whole:
            # Scale 1: this tells the runtime that the values are whole numbers.
            low, high = _float(0), _float(LARGEST)
            node = op.fake_quantize(node, low, high, low, high, LARGEST + 1)
        around = [unit.kernel_size // 2] * 2
        multiply = op.group_convolution if unit.depthwise else op.convolution
        y = multiply(node, weights, [unit.strides] * 2, around, around, [1, 1])
        return op.add(y, offset)

    def current(self, unit, x, gain=1.0):
        """Add what goes into the neuron of a unit: convolved, normalized and pooled.

        Args:
            unit: `ConvBNLIF`.
            x: `Maps`. The same at every step if the unit repeats an image.
            gain: float > 0. Factor of the result: the weights bear it.

        Returns:
            Node.
        """
        if unit in self._currents:
            return self._currents[unit]
        y = self.convolve(unit, x, gain)
        y = _pool(y) if unit.max_pool else y
        if unit.time_steps is not None:
            self._currents[unit] = y
        return y

    def _weights(self, unit, largest, gain):
        """Nodes of weights and offset, and whether the weights are of 8 bits."""
        found = self.weights.of(unit, largest)
        is_whole = found.scale is not None
        if is_whole:
            scale = op.constant((found.scale * gain).reshape(-1, 1, 1, 1))
            weights = op.multiply(op.convert(op.constant(found.kernel), "f32"), scale)
        else:
            weights = op.constant(found.kernel * gain)
        if unit.depthwise:
            grouped = op.constant(np.array([-1, 1, 1, *found.kernel.shape[2:]]))
            weights = op.reshape(weights, grouped, False)
        offset = op.constant((found.offset * gain).reshape(1, -1, 1, 1))
        return weights, offset, is_whole


def input_gain(neuron):
    """Return by what a neuron multiplies its input: dh/dx.

    Args:
        neuron: neuron layer.

    Returns:
        float.
    """
    equations, decay = neuron.equations()
    return float(equations.input_gain(decay)) if equations.leak is not None else 1.0


class Dynamics:
    """The equations of a neuron, see `ops.neuron`, as few operations as they allow."""

    def __init__(self, neuron, is_scaled):
        self.equations, decay = neuron.equations()
        leak = self.equations.leak
        self.rest = self.equations.rest
        self.at_rest = _float(self.rest) if self.rest else None
        # h = keep * v + shift + gain * x
        self.gain = 1.0 if is_scaled else input_gain(neuron)
        self.keep = 1.0 if leak is None else 1.0 - float(self.equations.gain(decay))
        self.shift = (1.0 - self.keep) * self.rest

    def step(self, v, x):
        """Return the spikes, and the potentials after them."""
        h = x if self.gain == 1 else op.multiply(x, _float(self.gain))
        if v is not None:
            kept = v if self.keep == 1 else op.multiply(v, _float(self.keep))
            h = op.add(kept, h)
            h = op.add(h, _float(self.shift)) if self.shift else h
        threshold = _float(self.equations.v_threshold)
        fires = op.greater_equal(h, threshold)
        spike = op.select(fires, _float(1), _float(0))
        if self.equations.v_reset is None:
            return spike, op.subtract(h, op.multiply(threshold, spike))
        return spike, op.select(fires, _float(self.rest), h)


def _float(value):
    return op.constant(np.float32(value))


def _output(node):
    return node.output(0) if isinstance(node, ov.Node) else node


def _shaped(node, *shape):
    """Reshape; -1 stands for the first axis."""
    return op.reshape(node, op.constant(np.array(shape)), False)


def _pool(node, size=3):
    """Maxima of windows with stride 2, see `ops.spatial.max_pool2d`."""
    before = [1, 1] if size == 3 else [0, 0]
    pooled = op.max_pool(node, [2, 2], [1, 1], before, [0, 0], [size, size])
    return pooled.output(0)


def _filter(node):
    """Maxima within 3x3, which keep the size."""
    pad = [1, 1]
    return op.max_pool(node, pad, pad, pad, pad, [3, 3]).output(0)


def _sum(x, y):
    are_whole = x.largest is not None and y.largest is not None
    largest = x.largest + y.largest if are_whole else None
    return Maps(op.add(x.node, y.node), largest)


@rule(layers.IF)
def _neuron(graph, neuron, x):
    return graph.fire(neuron, x.node)


@rule(layers.ConvBNLIF)
def _unit(graph, unit, x, neuron=None):
    fire = unit.fire if neuron is None else neuron
    y = graph.current(unit, x, 1.0 if fire is None else input_gain(fire))
    return Maps(y) if fire is None else graph.fire(fire, y, is_scaled=True)


@rule(ResidualBlock)
def _block(graph, block, x):
    for branch in block.branches():
        x = _sum(x, graph.add(branch, x))
    return x


@rule(layers.SpikingMLP)
def _mlp(graph, mlp, x):
    if not mlp.pre_activation:
        return graph.add(mlp.reduce, graph.add(mlp.expand, x))
    spikes = graph.add(mlp.input_neuron, x)
    if not mlp.inner_shortcut or mlp.expand.filters != x.shape[0]:
        hidden = graph.add(mlp.expand, spikes, neuron=mlp.hidden_neuron)
        return graph.add(mlp.reduce, hidden)
    y = graph.add(mlp.expand, spikes)
    hidden = graph.add(mlp.hidden_neuron, _sum(x, y))
    return _sum(y, graph.add(mlp.reduce, hidden))


def _input(graph, layer, x):
    return x if layer.input_neuron is None else graph.add(layer.input_neuron, x)


def _factors(graph, layer, x):
    x = _input(graph, layer, x)
    return [graph.add(getattr(layer, name), x) for name in layer.units]


@rule(layers.TokenQKAttention)
def _token(graph, layer, x):
    query, key = _factors(graph, layer, x)
    channels, height, width = query.shape
    heads = layer.num_heads

    def split(node):
        return _shaped(node, -1, heads, channels // heads, height, width)

    sums = op.reduce_sum(split(query.node), 2, keep_dims=False)
    mask = graph.add(layer.attention_neuron, Maps(sums))
    mask = _shaped(mask.node, -1, heads, 1, height, width)
    masked = op.multiply(split(key.node), mask)
    masked = _shaped(masked, -1, channels, height, width)
    return graph.add(layer.proj, Maps(masked, 1))


def _over_tokens(graph, layer, node):
    """A mask of channels: the attention neuron on sums over the tokens."""
    sums = op.reduce_sum(node, [2, 3], keep_dims=True)
    return graph.add(layer.attention_neuron, Maps(sums)).node


@rule(layers.ChannelQKAttention)
def _channel(graph, layer, x):
    query, key = _factors(graph, layer, x)
    mask = _over_tokens(graph, layer, query.node)
    return graph.add(layer.proj, Maps(op.multiply(mask, key.node), 1))


@rule(layers.SpikeDrivenAttention)
def _spike_driven(graph, layer, x):
    query, key, value = _factors(graph, layer, x)
    channels, height, width = query.shape

    def over_plane(node):
        return _filter(node) if layer.dilate else node

    def over_heads(node):
        if not layer.dilate:
            return node
        heads = layer.num_heads
        maps = _shaped(node, -1, heads, channels // heads, height * width)
        return _shaped(_filter(maps), -1, channels, height, width)

    both = over_heads(op.multiply(over_plane(key.node), over_plane(value.node)))
    mask = _over_tokens(graph, layer, both)
    masked = over_heads(op.multiply(query.node, mask))
    return graph.add(layer.proj, Maps(masked, 1))


@rule(layers.SpikingSelfAttention)
def _self(graph, layer, x):
    factors = _factors(graph, layer, x)
    channels, height, width = factors[0].shape
    heads = layer.num_heads
    sizes = -1, heads, channels // heads, height * width
    query, key, value = (_shaped(each.node, *sizes) for each in factors)
    context = op.matmul(value, key, False, True)  # V^T K, channels of a head squared
    y = op.matmul(op.multiply(context, _float(layer.scale)), query, False, False)
    y = _shaped(y, -1, channels, height, width)
    spikes = graph.add(layer.attention_neuron, Maps(y))
    return graph.add(layer.proj, spikes)


@rule(layers.PatchEmbedding)
def _embedding(graph, layer, x):
    x = branch = _input(graph, layer, x)
    for i, unit in enumerate(layer.main):
        if i == layer.shortcut_from:
            branch = x
        x = graph.add(unit, x)
    return x if layer.shortcut is None else _sum(x, graph.add(layer.shortcut, branch))


@rule(layers.SpikingPatchSplitting)
def _splitting(graph, layer, x):
    for unit, pool in zip(layer.units, layer.pools, strict=True):
        x = graph.add(unit, x)
        if pool == "spikes":
            x = dataclasses.replace(x, node=_pool(x.node))
    if layer.position is None:
        return x
    y = x if layer.position_neuron is None else graph.add(layer.position_neuron, x)
    return _sum(x, graph.add(layer.position, y))


@rule(layers.DepthwiseMixer)
def _depthwise(graph, layer, x):
    return graph.add(layer.unit, graph.add(layer.input_neuron, x))


@rule(layers.SpikeMaxPool)
def _spike_pool(graph, layer, x):
    return dataclasses.replace(x, node=_pool(x.node, layer.size))


@rule(layers.SEWBlock)
def _sew(graph, block, x):
    y = x
    for unit in block.units:
        y = graph.add(unit, y)
    shortcut = x if block.shortcut is None else graph.add(block.shortcut, x)
    if block.connect == "add":
        return _sum(y, shortcut)
    factor = y.node if block.connect == "and" else op.subtract(_float(1), y.node)
    both = op.multiply(factor, shortcut.node)
    return Maps(both, shortcut.largest)

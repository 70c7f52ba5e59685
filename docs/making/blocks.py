"""Draws a block of each family from the model itself.

A layer's `call` gets a symbol; what it does with it becomes a graph of layers and
operations, in which attention and MLP are opened and what only changes shapes is left
out. So a picture can't show what the model does not do.
"""

import html
import itertools

import keras

from keras_qkformer.layers import ConvBNLIF, SpikeMaxPool, SpikingMLP
from keras_qkformer.layers.attention import SpikingAttention
from keras_qkformer.layers.depthwise_mixer import DepthwiseMixer
from keras_qkformer.layers.lif import IF
from keras_qkformer.models import SpikingClassifier

# Picture -> (preset, name of the layer in its backbone).
BLOCKS = {
    "qkformer_token": ("qkformer_4_384_cifar10", "stage1_block1"),
    "qkformer_self": ("qkformer_4_384_cifar10", "stage3_block1"),
    "qkformer_embedding": ("qkformer_4_384_cifar10", "patch_embed2"),
    "spikformer": ("spikformer_4_384_cifar10", "block1"),
    "spikingformer": ("spikingformer_4_384_cifar10", "block1"),
    "spike_driven_transformer": ("spike_driven_transformer_2_512_cifar10", "block1"),
    "max_former_early": ("max_former_10_384_imagenet", "stage1_block1"),
    "max_former_late": ("max_former_10_384_imagenet", "stage3_block1"),
    "sew_resnet": ("sew_resnet_18_imagenet", "stage2_block1"),
}
OPENED = (SpikingAttention, SpikingMLP, DepthwiseMixer)
TIMES = "\u00d7"
# What an operation is called, if it has two inputs or is a sum; others are left out.
SIGNS = {"Add": "+", "Multiply": TIMES, "Sum": "Σ", "Einsum": "product"}


class Graph:
    """What a layer does: nodes `(label, note, kind of its output)`, and edges."""

    def __init__(self, kind):
        self.nodes, self.edges = [("input", "", kind)], []

    def add(self, label, note, kind, sources):
        """Add a node and return its number."""
        self.nodes.append((label, note, kind))
        number = len(self.nodes) - 1
        self.edges += [(source, number) for source in dict.fromkeys(sources)]
        return number

    def trace(self, layer, source, shape):
        """Add the nodes of a layer's `call`; return the number of the last one."""
        inputs = keras.Input(shape[1:])
        outputs = layer.call(inputs)
        made = {id(inputs): source}
        for operation in keras.Function(inputs, outputs).operations:
            node = operation._inbound_nodes[-1]
            sources = [made[id(x)] for x in node.input_tensors]
            if not sources:
                continue  # The input.
            if isinstance(operation, OPENED):
                last = self.trace(operation, sources[0], node.input_tensors[0].shape)
            else:
                last = self._leaf(operation, sources, node.arguments.kwargs)
            made |= {id(x): last for x in node.output_tensors}
        return made[id(outputs)]

    def _leaf(self, operation, sources, options):
        kinds = {self.nodes[source][2] for source in sources}
        if isinstance(operation, ConvBNLIF):
            fires = operation.fire is not None or options.get("neuron") is not None
            kind = "spikes" if fires else "real"
            return self.add(operation.name, _unit(operation, fires), kind, sources)
        if isinstance(operation, IF):
            note = f"threshold {operation.v_threshold:g}"
            return self.add("neuron", note, "spikes", sources)
        if isinstance(operation, SpikeMaxPool):
            return self.add("pool", f"max 3{TIMES}3", *kinds, sources)
        sign = SIGNS.get(type(operation).__name__)
        if sign is None or (sign != "Σ" and len(sources) < 2):
            return sources[0]
        if sign == TIMES and kinds == {"spikes"}:
            return self.add(sign, "", "spikes", sources)
        return self.add(sign, "", "real" if "real" in kinds else "counts", sources)


def _unit(unit, fires):
    size = (
        "linear"
        if unit.kernel_size == 1
        else f"{unit.kernel_size}{TIMES}{unit.kernel_size}"
    )
    size += " depthwise" * unit.depthwise + f", stride {unit.strides}" * (
        unit.strides > 1
    )
    return " · ".join([size, "BN", *["pool"] * unit.max_pool, *["SN"] * fires])


def block_graph(preset, name):
    """Return the graph of a layer of a preset's backbone."""
    backbone = SpikingClassifier.from_preset(preset).backbone
    layer = backbone.get_layer(name)
    graph = Graph("real" if backbone.has_potentials else "counts")
    last = graph.trace(layer, 0, layer.input.shape)
    graph.add("output", "", graph.nodes[last][2], [last])
    return graph


def placed(graph):
    """Return rows of nodes, top to bottom: list of lists of numbers, and the ways.

    A way is an edge through numbers; where it passes a row without a node of its own, a
    further number, from `len(graph.nodes)` on, keeps a place for it.
    """
    rank = [0] * len(graph.nodes)
    for source, goal in graph.edges:  # In order, so that sources come first.
        rank[goal] = max(rank[goal], rank[source] + 1)
    rows = [[] for _ in range(max(rank) + 1)]
    for number, row in enumerate(rank):
        rows[row].append(number)
    ways, free = [], len(graph.nodes)
    for source, goal in graph.edges:
        way = [source]
        for row in range(rank[source] + 1, rank[goal]):
            rows[row].append(free)
            way.append(free)
            free += 1
        ways.append([*way, goal])
    for _ in range(8):
        for step in (1, -1):
            _sort(rows[::step], [way[::step] for way in ways])
    return rows, ways


def _sort(rows, ways):
    """Order each row by the mean place of what leads there."""
    for before, row in itertools.pairwise(rows):
        place = {number: i - len(before) / 2 for i, number in enumerate(before)}
        means = {}
        for way in ways:
            for a, b in itertools.pairwise(way):
                if a in place and b in row:
                    means.setdefault(b, []).append(place[a])
        row.sort(key=lambda n: sum(means.get(n, [0])) / len(means.get(n, [0])))


BOX, THIN, TALL, STEP, MARGIN = 138, 34, 40, 66, 8


def svg(graph, title):
    """Return the picture as SVG that takes its colours from the page."""
    rows, ways = placed(graph)
    boxes = len(graph.nodes)

    def width(number):
        is_sign = number < boxes and graph.nodes[number][0] in ("+", TIMES, "Σ")
        return THIN if number >= boxes or is_sign else BOX

    totals = [sum(width(n) + 14 for n in row) - 14 for row in rows]
    middle = max(totals) / 2 + MARGIN
    centre = {}
    for y, (row, total) in enumerate(zip(rows, totals, strict=True)):
        x = middle - total / 2
        for number in row:
            centre[number] = (x + width(number) / 2, y * STEP + TALL / 2 + MARGIN)
            x += width(number) + 14
    for way in ways:  # What passes rows without a node goes straight down.
        if passing := way[1:-1]:
            side = max if centre[passing[0]][0] >= middle else min
            x = side(centre[number][0] for number in passing)
            centre |= {number: (x, centre[number][1]) for number in passing}
    size = (2 * middle, (len(rows) - 1) * STEP + TALL + 2 * MARGIN)
    parts = []
    for way in ways:
        kind = graph.nodes[way[0]][2]
        points = [centre[number] for number in way]
        path = f"M{points[0][0]:.0f} {points[0][1] + TALL / 2:.0f}"
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            y1, y2 = y1 + TALL / 2, y2 - TALL / 2
            half = (y1 + y2) / 2
            path += f"C{x1:.0f} {half:.0f} {x2:.0f} {half:.0f} {x2:.0f} {y2:.0f}"
            path += (
                f"L{x2:.0f} {y2 + TALL:.0f}"
                if (x2, y2 + TALL / 2) != points[-1]
                else ""
            )
        parts.append(f'<path class="way {kind}" d="{path}"/>')
    for number, (label, note, kind) in enumerate(graph.nodes):
        parts.append(_node(*centre[number], width(number), label, note, kind))
    return (
        f'<svg class="block" viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" '
        f'width="{size[0]:.0f}" role="img" aria-label="{html.escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )


def _node(x, y, width, label, note, kind):
    text = html.escape(label)
    if width == THIN:
        radius = THIN / 2
        return (
            f'<circle class="{kind}" cx="{x:.0f}" cy="{y:.0f}" r="{radius:g}"/>'
            f'<text class="sign" x="{x:.0f}" y="{y + 6:.0f}">{text}</text>'
        )
    if label in ("input", "output"):
        return f'<text class="end" x="{x:.0f}" y="{y + 4:.0f}">{text}</text>'
    second = (
        f'<text class="unit" x="{x:.0f}" y="{y + 13:.0f}">{html.escape(note)}</text>'
    )
    return (
        f'<rect class="{kind}" x="{x - width / 2:.0f}" y="{y - TALL / 2:.0f}" '
        f'width="{width}" height="{TALL}" rx="7"/>'
        f'<text x="{x:.0f}" y="{y - 2 if note else y + 4:.0f}">{text}</text>{second}'
    )


def write_blocks(folder):
    """Write a picture of each of `BLOCKS`, `<name>.svg`."""
    for name, (preset, layer) in BLOCKS.items():
        graph = block_graph(preset, layer)
        title = f"What {layer} of {preset} computes, drawn from its code"
        (folder / f"{name}.svg").write_text(svg(graph, title))

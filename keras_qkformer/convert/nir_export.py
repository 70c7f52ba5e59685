"""Export Keras models to the Neuromorphic Intermediate Representation."""

import collections
import os
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_qkformer.convert.nir_import import DT, package, pair
from keras_qkformer.files import whole_file
from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.layers.lif import IF, LIF, ParametricLIF

_NAMED = 10  # Layers that an error names.
_OVER_TIME = (IF, keras.layers.Reshape, keras.layers.Permute)
_OF_MAPS = (
    *(keras.layers.Conv2D, keras.layers.ZeroPadding2D),
    keras.layers.AveragePooling2D,
)


def export_nir(model: keras.Model, path: str | os.PathLike, dt: float = 1e-4) -> None:
    """Write a Keras model as a NIR file, for simulators and neuromorphic hardware.

    The inverse of `import_nir`. NIR can say `IF`, `LIF` and `ParametricLIF` with hard
    reset, `ConvBNLIF` without pooling, `Dense` and `EinsumDense` over the last axis,
    `Conv2D`, `ZeroPadding2D`, `AveragePooling2D` and `Flatten` within
    `TimeDistributed`, BatchNorm right behind a `Dense` or `Conv2D` (folded into it),
    `Reshape` to one axis, `Rescaling` (with an offset only before a `LIF`) and `Add`.
    It has no products of activations, so no attention, no max pooling and no mean over
    time: no family of this library fits whole, and the error names the layers that do
    not.

    A neuron of `tau` steps gets `tau * dt`, `r = 1` (`tau` without `decay_input`) and
    `v_leak = v_reset`; `IF` gets `r = 1 / dt`. Its threshold is the next smaller
    number, because NIR fires above the threshold and this library at it.

    Args:
        model: functional or sequential `keras.Model` from `(batch, time, height, width,
            channels)` or `(batch, time, features)`.
        path: str or path of the file.
        dt: float > 0. Length of a time step in seconds, which the file's metadata hold
            too. snnTorch reads files for 1e-4.

    Raises:
        ValueError: if NIR can't say a layer; the first ten are named.
        OSError: if the file can't be written.
        ImportError: without the package `nir`.
    """
    nir = package()
    if not dt > 0:
        raise ValueError(f"dt must be above 0. Received: dt={dt}")
    walk = _Walk(nir, float(dt))
    for tensor in model.inputs:
        node = nir.Input({"input": _nir_shape(tensor)})
        walk.values[id(tensor)] = _Value(walk.add(tensor.name, node, []))
    for tensor in model.outputs:
        try:
            value = walk.scaled(walk.visit(tensor), tensor)
            if not value.is_plain:
                raise ValueError("in another order than NIR's")
            walk.add("output", nir.Output({"output": _nir_shape(tensor)}), [value])
        except ValueError as error:
            walk.refused.append(f"an output, {error}")
    walk.refused += [
        f"'{name}', a BatchNormalization of what another layer reads, too"
        for tensor, name in walk.folded.items()
        if walk.reads[tensor] > 1
    ]
    if walk.refused:
        more = len(walk.refused) - _NAMED
        told = "; ".join(walk.refused[:_NAMED]) + (f"; and {more} more" * (more > 0))
        raise ValueError(f"NIR must be able to say every layer. Received: {told}")
    graph = nir.NIRGraph(walk.nodes, walk.edges, metadata={DT: float(dt)})
    with whole_file(Path(path)) as place:
        nir.write(place, graph)


class _Value(NamedTuple):
    """What a tensor is in the graph.

    Attributes:
        name: str. The node that makes it.
        rows: int array, or `None`: if it was flattened with the channels last, which
            of its numbers NIR has in each place.
        padding: pair of int. Rows and columns of zeros that the next node must add.
        channels_first: bool. Whether the channels are the first axis, as in NIR.
        gain: float. Factor of a Rescaling that no node has yet.
        offset: float. What the Rescaling adds.
    """

    name: str
    rows: np.ndarray | None = None
    padding: tuple = (0, 0)
    channels_first: bool = False
    gain: float = 1.0
    offset: float = 0.0

    @property
    def is_plain(self):
        return self.rows is None and not any(self.padding) and not self.channels_first


class _Walk:
    """Turns layers into nodes, from a model's outputs back to its inputs.

    Args:
        nir: the package.
        dt: float. Length of a time step.

    Attributes:
        nodes: dict from names to nodes.
        edges: list of pairs of names.
        values: dict from the id of a tensor to its `_Value`.
        reads: counter of how many layers read a tensor, by its id.
        folded: dict from the id of a tensor to the name of the BatchNorm that was
            folded into what makes it.
        refused: list of str. Layers that NIR can't say, and why.
    """

    def __init__(self, nir, dt):
        self.nir, self.dt = nir, dt
        self.nodes, self.edges, self.values, self.refused = {}, [], {}, []
        self.reads, self.folded = collections.Counter(), {}

    def add(self, name, node, values):
        """Add a node with a name of its own, and edges to it; return the name."""
        name = wanted = name.replace("/", "_")
        count = 1
        while name in self.nodes:
            name, count = f"{wanted}_{count}", count + 1
        self.nodes[name] = node
        self.edges += [(value.name, name) for value in values]
        return name

    def visit(self, tensor):
        """Return the `_Value` of a tensor, after adding what makes it."""
        self.reads[id(tensor)] += 1
        if id(tensor) not in self.values:
            history = tensor._keras_history
            layer = history.operation
            inputs = layer._inbound_nodes[history.node_index].input_tensors
            given = [self.visit(each) for each in inputs]
            self.values[id(tensor)] = self._made(layer, given, inputs, tensor)
        return self.values[id(tensor)]

    def _made(self, layer, given, inputs, tensor):
        if isinstance(layer, keras.Model):
            return self._nested(layer, given, tensor)
        each = isinstance(layer, keras.layers.TimeDistributed)
        inner = layer.layer if each else layer
        try:
            if isinstance(inner, keras.layers.Flatten) and not each:
                raise ValueError("which flattens time, too")
            if isinstance(inner, _OVER_TIME) and each:
                raise ValueError("which must not be within TimeDistributed")
            if isinstance(inner, _OF_MAPS) and not each:
                raise ValueError("which must be within TimeDistributed")
            if not isinstance(inner, IF | keras.layers.Rescaling):
                given = [self.scaled(*each) for each in zip(given, inputs, strict=True)]
            for kinds, make in _MAKERS.items():
                if isinstance(inner, kinds):
                    return make(self, inner, given, inputs[0], layer.name)
            raise ValueError(f"a {type(inner).__name__}")
        except ValueError as error:
            self.refused.append(f"'{layer.name}', {error}")
            return _Value(given[0].name)

    def _nested(self, model, given, tensor):
        """A model within a model: its layers, with these inputs."""
        outside, self.values = self.values, {}
        for inside, value in zip(model.inputs, given, strict=True):
            self.values[id(inside)] = value
        value = self.visit(model.outputs[tensor._keras_history.tensor_index])
        self.values = outside
        return value

    def _nothing(self, layer, given, x, name):
        return given[0]

    def _sum(self, layer, given, x, name):
        """A node that changes nothing: several edges into one are their sum."""
        if not all(value.is_plain for value in given):
            raise ValueError("whose inputs are not in NIR's order")
        if len({value.name for value in given}) < len(given):
            raise ValueError("which adds a tensor to itself")
        ones = np.ones(_nir_shape(x), "float32")
        return _Value(self.add(name, self.nir.Scale(ones), given))

    def _scale(self, layer, given, x, name):
        if np.ndim(layer.scale) or np.ndim(layer.offset):
            raise ValueError("a Rescaling of each channel")
        gain, offset = given[0].gain * layer.scale, given[0].offset * layer.scale
        return given[0]._replace(gain=gain, offset=offset + layer.offset)

    def scaled(self, value, x):
        """The value with a node for its gain, unless that is 1."""
        if value.offset:
            raise ValueError("behind a Rescaling with an offset")
        if value.gain == 1.0:
            return value
        if any(value.padding) or value.channels_first:
            raise ValueError("behind a Rescaling of padding or a Permute")
        scale = np.full(
            _nir_shape(x), value.gain, keras.backend.standardize_dtype(x.dtype)
        )
        name = self.add(f"{value.name}_scale", self.nir.Scale(scale), [value])
        return value._replace(name=name, gain=1.0)

    def _neuron(self, layer, given, x, name):
        (value,) = given
        if any(value.padding) or value.channels_first:
            raise ValueError("behind padding or a Permute")
        if layer.v_reset is None:
            raise ValueError("a neuron with soft reset")
        shape, dtype = _nir_shape(x), _dtype(layer)

        def everywhere(value):
            return np.full(shape, value, dtype)

        below = np.nextafter(np.asarray(layer.v_threshold, dtype), -np.inf, dtype=dtype)
        reset = everywhere(layer.v_reset)
        potentials = dict(v_threshold=everywhere(below), v_reset=reset)
        if isinstance(layer, LIF | ParametricLIF):
            steps = _steps(layer)
            r = 1.0 if layer.decay_input else steps
            node = self.nir.LIF(
                tau=everywhere(steps * self.dt),
                r=everywhere(r * value.gain),
                v_leak=everywhere(layer.v_reset + r * value.offset),
                **potentials,
            )
        else:
            if value.offset:
                raise ValueError("an IF behind a Rescaling with an offset")
            node = self.nir.IF(r=everywhere(value.gain / self.dt), **potentials)
        return _Value(self.add(name, node, given), value.rows)

    def _dense(self, layer, given, x, name):
        if isinstance(layer, keras.layers.EinsumDense):
            inputs, kernel, outputs = layer.equation.replace("->", ",").split(",")
            if inputs[:-1] != outputs[:-1] or kernel != inputs[-1] + outputs[-1]:
                raise ValueError("an EinsumDense over another axis than the last")
        _check_linear(layer)
        if len(x.shape) != 3 or any(given[0].padding):
            raise ValueError("a Dense of more than one axis")
        weight = _array(layer.kernel).T
        if given[0].rows is not None:
            weight = weight[:, given[0].rows]
        bias = 0 if layer.bias is None else _array(layer.bias)
        node = self.nir.Affine(weight=weight, bias=weight[:, 0] * 0 + bias)
        return _Value(self.add(name, node, given))

    def _conv(self, layer, given, x, name):
        if layer.data_format != "channels_last":
            raise ValueError("a convolution with the channels first")
        _check_linear(layer)
        padding = given[0].padding
        if layer.padding == "same":
            own = _same_padding(layer, x)
            padding = tuple(a + b for a, b in zip(padding, own, strict=True))
        bias = None if layer.bias is None else _array(layer.bias)
        return self._convolution(layer, layer.kernel, bias, padding, given, x, name)

    def _convolution(self, conv, kernel, bias, padding, given, x, name):
        if given[0].channels_first or given[0].rows is not None:
            raise ValueError("a convolution behind a Permute or Flatten")
        weight = np.transpose(_array(kernel), (3, 2, 0, 1))
        # Without the rows and columns that a ZeroPadding2D has added.
        size = [
            int(n) - 2 * own
            for n, own in zip(x.shape[2:4], given[0].padding, strict=True)
        ]
        node = self.nir.Conv2d(
            input_shape=tuple(size),
            weight=np.ascontiguousarray(weight),
            stride=pair(conv.strides),
            padding=tuple(padding),
            dilation=pair(conv.dilation_rate),
            groups=conv.groups,
            bias=weight[:, 0, 0, 0] * 0 + (0 if bias is None else bias),
        )
        # The package takes the height of a kernel for its width, too, and the channels
        # of a group for all.
        node.input_type = {"input": np.array([int(x.shape[-1]), *size])}
        node.output_type = {"output": np.array([len(weight), *_output_size(node)])}
        return _Value(self.add(name, node, given))

    def _unit(self, layer, given, x, name):
        """A convolution, its BatchNorm, which is folded, and a neuron."""
        if layer.max_pool:
            raise ValueError("a max pooling")
        if layer.time_steps is not None and layer.time_steps != 1:
            raise ValueError("which repeats its input over time")
        padding = (pair(layer.kernel_size)[0] // 2,) * 2
        if any(given[0].padding):
            raise ValueError("behind a ZeroPadding2D")
        conv = layer.conv
        bias = _array(conv.bias) if layer.use_bias else None
        value = self._convolution(conv, conv.kernel, bias, padding, given, x, name)
        self._fold(value, layer.norm)
        if layer.fire is None:
            return value
        if not isinstance(layer.fire, IF):
            raise ValueError(f"a neuron of the kind {type(layer.fire).__name__}")
        shape = layer.compute_output_shape(x.shape)
        inside = keras.KerasTensor(shape, x.dtype)
        return self._neuron(layer.fire, [value], inside, f"{name}_neuron")

    def _norm(self, layer, given, x, name):
        axis = layer.axis if layer.axis >= 0 else layer.axis + len(x.shape)
        node = self.nodes[given[0].name]
        foldable = isinstance(node, self.nir.Affine | self.nir.Conv2d)
        if not foldable or axis != len(x.shape) - 1:
            raise ValueError("a BatchNormalization not behind a Dense or Conv2D")
        self.folded[id(x)] = name
        return self._fold(given[0], layer)

    def _fold(self, value, norm):
        node = self.nodes[value.name]
        deviation = np.sqrt(_array(norm.moving_variance) + norm.epsilon)
        gamma = 1 if norm.gamma is None else _array(norm.gamma)
        beta = 0 if norm.beta is None else _array(norm.beta)
        gain = gamma / deviation
        node.bias = (node.bias - _array(norm.moving_mean)) * gain + beta
        node.weight = node.weight * gain.reshape(-1, *[1] * (node.weight.ndim - 1))
        return value

    def _pad(self, layer, given, x, name):
        (top, bottom), (left, right) = layer.padding
        if (top, left) != (bottom, right):
            raise ValueError("a ZeroPadding2D of two sides")
        before = given[0].padding
        return given[0]._replace(padding=(before[0] + top, before[1] + left))

    def _pool(self, layer, given, x, name):
        if layer.padding != "valid" or layer.data_format != "channels_last":
            raise ValueError("an AveragePooling2D with padding or the channels first")
        if given[0].channels_first:
            raise ValueError("a pooling behind a Permute")
        node = self.nir.AvgPool2d(
            kernel_size=np.array(layer.pool_size),
            stride=np.array(layer.strides),
            padding=np.array(given[0].padding),
        )
        return _Value(self.add(name, node, given))

    def _permute(self, layer, given, x, name):
        axes = len(x.shape) - 2
        if tuple(layer.dims) != (1, axes + 1, *range(2, axes + 1)):
            raise ValueError("a Permute to another order than NIR's")
        return given[0]._replace(channels_first=True)

    def _flatten(self, layer, given, x, name):
        shape = [int(n) for n in x.shape[2:]]
        if isinstance(layer, keras.layers.Reshape):
            if tuple(layer.target_shape) not in (
                (x.shape[1], int(np.prod(shape))),
                (x.shape[1], -1),
            ):
                raise ValueError("a Reshape to more than one axis, or over time")
        if any(given[0].padding):
            raise ValueError("a Flatten behind padding")
        if len(shape) == 1:
            return given[0]
        rows = None
        if not given[0].channels_first:
            order = np.arange(np.prod(shape)).reshape(shape)
            rows = np.moveaxis(order, -1, 0).ravel()
            shape = [shape[-1], *shape[:-1]]
        node = self.nir.Flatten({"input": np.array(shape)}, 0, len(shape) - 1)
        return _Value(self.add(name, node, given), rows)


_MAKERS = {
    (keras.layers.Dropout, keras.layers.Identity): _Walk._nothing,
    keras.layers.Add: _Walk._sum,
    ConvBNLIF: _Walk._unit,
    IF: _Walk._neuron,
    (keras.layers.Dense, keras.layers.EinsumDense): _Walk._dense,
    keras.layers.Conv2D: _Walk._conv,
    keras.layers.ZeroPadding2D: _Walk._pad,
    keras.layers.AveragePooling2D: _Walk._pool,
    keras.layers.BatchNormalization: _Walk._norm,
    keras.layers.Rescaling: _Walk._scale,
    keras.layers.Permute: _Walk._permute,
    (keras.layers.Flatten, keras.layers.Reshape): _Walk._flatten,
}


def _steps(layer):
    """The time constant of a neuron, in time steps."""
    if isinstance(layer, LIF):
        return layer.tau
    return 1.0 + float(np.exp(-_array(layer.w).astype("float64")))


def _check_linear(layer):
    if layer.activation is not keras.activations.linear:
        raise ValueError("which has an activation")


def _same_padding(conv, x):
    """Rows and columns of zeros that Keras adds on each side."""
    padding = []
    for axis in range(2):
        stride = pair(conv.strides)[axis]
        size = (pair(conv.kernel_size)[axis] - 1) * pair(conv.dilation_rate)[axis] + 1
        length = int(x.shape[2 + axis])
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        if total % 2:
            raise ValueError("which pads one side more than the other")
        padding.append(total // 2)
    return padding


def _output_size(node):
    sizes = []
    for axis in range(2):
        size = (node.weight.shape[2 + axis] - 1) * node.dilation[axis] + 1
        length = node.input_shape[axis] + 2 * node.padding[axis] - size
        sizes.append(length // node.stride[axis] + 1)
    return sizes


def _nir_shape(tensor):
    """A tensor's shape without batch and time, channels first."""
    if len(tensor.shape) < 3:
        raise ValueError("without an axis of time")
    *rest, channels = (int(n) for n in tensor.shape[2:])
    return np.array([channels, *rest])


def _array(variable):
    return ops.convert_to_numpy(variable)


def _dtype(layer):
    return "float64" if layer.compute_dtype == "float64" else "float32"

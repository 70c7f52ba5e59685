"""Import networks in the Neuromorphic Intermediate Representation as Keras models."""

import os
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.layers.lif import IF, LIF
from keras_qkformer.printable import printable
from keras_qkformer.weights_limits import most_bytes

MOST_OBJECTS = 10_000
MOST_STEPS = 1 << 15
"""Below this are the sizes, strides and paddings of a node, in rows and columns."""
MOST_VALUES = 1 << 31
"""Fewer values than this has an input of a network."""
DT = "dt"
"""Name of the time step in the metadata of the graphs that `export_nir` writes."""


def import_nir(
    path: str | os.PathLike,
    time_steps: int,
    dt: float | None = None,
    dtype: str | None = None,
    **neuron,
) -> keras.Model:
    """Read a network from a NIR file as a Keras model that runs and trains here.

    NIR describes neurons in continuous time; a model runs in steps of `dt` by the
    forward Euler method, with a hard reset after each step. A node

        LIF: tau dv/dt = v_leak - v + r I,    spike if v > v_threshold, then v = v_reset

    becomes a `LIF` layer of `tau / dt` time steps, after a `Rescaling` of its input if
    `r` or `v_leak` need one, and `IF` likewise, whose input is multiplied by `r dt`.
    NIR fires above the threshold and this library at it, so the layer's threshold is
    the next larger number of its dtype. Neurons start at `v_reset`; NIR leaves that
    open.

    `Affine` and `Linear` become `EinsumDense`, `Conv2d` and the pools a
    `TimeDistributed` layer (padding counts as zeros, as in PyTorch), `Flatten` a
    `Permute` to NIR's order and a `Reshape`, `Scale` a `Rescaling`. Several edges into
    a node are an `Add`.

    Args:
        path: str or path of the file.
        time_steps: int > 0. Time steps of the model's input.
        dt: float > 0. Length of a time step, in the unit of the file's `tau`
            (seconds): snnTorch writes for 1e-4, Norse for 1e-3. `None` for that in
            the file's metadata, which `export_nir` writes.
        dtype: Keras dtype, or `None` for the default.
        **neuron: arguments of all neurons, such as `surrogate` and `alpha`.

    Returns:
        `keras.Model` from `(batch, time_steps, height, width, channels)`, or
        `(batch, time_steps, features)`, to a tensor of that form.

    Raises:
        ValueError: if the file is damaged or too large; a node is of another kind, has
            neurons that differ, or is in a loop; or there is no `dt`.
        ImportError: without the package `nir`.

    Reference:
        [Pedersen et al., 2024](https://www.nature.com/articles/s41467-024-52259-9).
    """
    graph = _read(path)
    if dt is None:
        dt = graph.metadata.get(DT)
    is_number = np.ndim(dt) == 0 and np.asarray(dt).dtype.kind in "biuf"
    if not (is_number and 0 < float(dt) < np.inf):
        raise ValueError(
            "NIR is continuous in time, so a model needs dt, the length of a time "
            f"step, above 0. Received: dt={printable(str(dt), 100)}"
        )
    dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    builder = _Builder(float(dt), dtype, neuron)
    sources = {name: [] for name in graph.nodes}
    for before, after in graph.edges:
        if not {before, after} <= {*sources}:
            raise ValueError(
                "Every edge must join two nodes. "
                f"Received: {_told(before)} to {_told(after)}"
            )
        sources[after].append(before)
    tensors, inputs = {}, []
    for name in _in_order(sources):
        node = graph.nodes[name]
        if type(node).__name__ == "Input":
            shape = _keras_shape(name, node.input_type["input"])
            tensors[name] = keras.Input((time_steps, *shape), name=_name(name))
            inputs.append(tensors[name])
            continue
        given = [tensors[source] for source in sources[name]]
        if not given:
            raise ValueError(f"Every node must have an input. Received: {_told(name)}")
        x = given[0] if len(given) == 1 else keras.layers.Add(dtype=dtype)(given)
        tensors[name] = builder.build(name, node, x)
    outputs = [
        tensors[name]
        for name, node in graph.nodes.items()
        if type(node).__name__ == "Output"
    ]
    if not (inputs and outputs):
        raise ValueError(
            "A graph must have an Input and an Output. "
            f"Received: {len(inputs)} and {len(outputs)}"
        )
    if len(inputs) == len(outputs) == 1:
        return keras.Model(inputs[0], outputs[0])
    return keras.Model(inputs, outputs)


class _Builder:
    """Makes the layers of nodes.

    Args:
        dt: float. Length of a time step.
        dtype: dtype policy of the layers.
        neuron: dict of arguments of the neurons.
    """

    def __init__(self, dt, dtype, neuron):
        self.dt, self.dtype, self.neuron = dt, dtype, neuron

    def build(self, name, node, x):
        """Apply the layers of a node to a tensor."""
        make = getattr(self, f"_{type(node).__name__.lower()}", None)
        if make is None or type(node).__name__.startswith("_"):
            raise ValueError(
                "Nodes that become layers are Affine, AvgPool2d, Conv2d, Flatten, IF, "
                "LIF, Linear, Scale and SumPool2d. "
                f"Received: {_told(name)}, a {type(node).__name__}"
            )
        try:
            return make(node, x, _name(name))
        except ValueError as error:
            reason = printable(" ".join(str(error).split()), 300)  # Keras's have lines.
            raise ValueError(
                f"Node {_told(name)} can't become a layer: {reason}"
            ) from error

    def _output(self, node, x, name):
        return x

    def _affine(self, node, x, name):
        weights = [_numbers(node, "weight", 2).T, _numbers(node, "bias", 1)]
        return self._dense(weights, x, name)

    def _linear(self, node, x, name):
        return self._dense([_numbers(node, "weight", 2).T], x, name)

    def _dense(self, weights, x, name):
        if len(x.shape) != 3:
            raise ValueError(f"its input must have one axis, not {len(x.shape) - 2}")
        _check_inputs(len(weights[0]), x)
        layer = keras.layers.EinsumDense(
            "btc,cd->btd",
            (None, weights[0].shape[1]),
            bias_axes="d" if len(weights) > 1 else None,
            dtype=self.dtype,
            name=name,
        )
        return _with_weights(layer, weights, x)

    def _conv2d(self, node, x, name):
        kernel = np.transpose(_numbers(node, "weight", 4), (2, 3, 1, 0))
        strides, dilation = _pair(node, "stride"), _pair(node, "dilation")
        groups, _ = _pair(node, "groups")
        _check_inputs(kernel.shape[2] * groups, x)
        if max(strides) > 1 and max(dilation) > 1:
            raise ValueError("Keras has no convolution with strides and dilation")
        padding = _text(node.padding)
        if isinstance(padding, str):
            if padding == "same" and max(strides) > 1:
                raise ValueError("padding 'same' with strides is not defined")
        else:
            x, padding = self._padded(x, _pair(node, "padding", 0), name), "valid"
        conv = keras.layers.Conv2D(
            kernel.shape[-1],
            kernel.shape[:2],
            strides,
            padding,
            "channels_last",
            dilation,
            groups=groups,
            dtype=self.dtype,
        )
        layer = keras.layers.TimeDistributed(conv, dtype=self.dtype, name=name)
        return _with_weights(layer, [kernel, _numbers(node, "bias", 1)], x)

    def _padded(self, x, padding, name):
        if not any(padding):
            return x
        pad = keras.layers.ZeroPadding2D(padding, "channels_last", dtype=self.dtype)
        layer = keras.layers.TimeDistributed(
            pad, dtype=self.dtype, name=f"{name}_padding"
        )
        return layer(x)

    def _avgpool2d(self, node, x, name):
        x = self._padded(x, _pair(node, "padding", 0), name)
        size, strides = _pair(node, "kernel_size"), _pair(node, "stride")
        pool = keras.layers.AveragePooling2D(
            size, strides, "valid", "channels_last", dtype=self.dtype
        )
        return keras.layers.TimeDistributed(pool, dtype=self.dtype, name=name)(x)

    def _sumpool2d(self, node, x, name):
        x = self._avgpool2d(node, x, name)
        count = float(np.prod(_pair(node, "kernel_size")))
        return self._rescaled(x, count, 0.0, f"{name}_sum")

    def _flatten(self, node, x, name):
        axes = len(x.shape) - 2
        first, _ = _pair(node, "start_dim", 0)
        last = _pair(node, "end_dim", -1)[0] % axes
        if axes == 1:
            return x
        if (first, last) != (0, axes - 1):
            raise ValueError(
                f"it must flatten axes 0 to {axes - 1}, not {first} to {last}"
            )
        order = (1, axes + 1, *range(2, axes + 1))  # NIR has the channels first.
        x = keras.layers.Permute(order, dtype=self.dtype, name=f"{name}_order")(x)
        size = int(np.prod(x.shape[2:]))
        return keras.layers.Reshape((x.shape[1], size), dtype=self.dtype, name=name)(x)

    def _scale(self, node, x, name):
        return self._rescaled(x, _uniform(node, "scale"), 0.0, name)

    def _rescaled(self, x, scale, offset, name):
        if (scale, offset) == (1.0, 0.0):
            return x
        return keras.layers.Rescaling(scale, offset, dtype=self.dtype, name=name)(x)

    def _if(self, node, x, name):
        x = self._rescaled(x, _uniform(node, "r") * self.dt, 0.0, f"{name}_current")
        return IF(**self._common(node), name=name)(x)

    def _lif(self, node, x, name):
        steps = _uniform(node, "tau") / self.dt
        if not steps > 1:
            raise ValueError(f"its tau must be greater than dt={self.dt}")
        gain = _uniform(node, "r")
        offset = _uniform(node, "v_leak") - _uniform(node, "v_reset")
        # An input that r makes up for is written as such, as snnTorch has it.
        decays = not np.isclose(gain, steps, rtol=1e-6, atol=0.0)
        if not decays:
            gain, offset = 1.0, offset / steps
        x = self._rescaled(x, gain, offset, f"{name}_current")
        return LIF(
            **self._common(node), tau=steps, decay_input=bool(decays), name=name
        )(x)

    def _common(self, node):
        threshold = np.asarray(_uniform(node, "v_threshold"), self._wide())
        return {
            "v_threshold": float(np.nextafter(threshold, np.inf)),
            "v_reset": _uniform(node, "v_reset"),
            "dtype": self.dtype,
            **self.neuron,
        }

    def _wide(self):
        return "float64" if self.dtype.compute_dtype == "float64" else "float32"


def package():
    """Import the package of NIR.

    Returns:
        The module.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import nir  # Optional.
    except ImportError as error:
        raise ImportError(
            "Files of NIR need the package nir: pip install nir"
        ) from error
    return nir


def _read(path):
    """Read a file with the package, once it is known to be bounded."""
    nir, path = package(), Path(path)
    if not path.is_file():
        raise ValueError(f"A NIR file must exist. Received: {os.fspath(path)!r}")
    try:
        _check_bounds(path)
        # Its check of types refuses kernels that are no squares, and groups.
        graph = nir.read(path, type_check=False)
    except Exception as error:  # The package asserts, and HDF5 raises any kind.
        raise ValueError(
            f"A NIR file must be whole. Received: '{printable(str(path))}': "
            f"{printable(' '.join(str(error).split()) or type(error).__name__, 300)}"
        ) from error
    if not isinstance(graph, nir.NIRGraph):
        raise ValueError(
            f"A NIR file must hold a graph. Received: a {type(graph).__name__}"
        )
    return graph


def _check_bounds(path):
    """Raise `ValueError` if a file refers to others, or would unpack to too much."""
    import h5py

    most = most_bytes(path.stat().st_size)
    with h5py.File(path, "r") as file:
        groups, objects, size = [file], 0, 0
        while groups:
            group = groups.pop()
            for name in group:
                objects += 1
                if objects > MOST_OBJECTS:
                    raise ValueError(f"more than {MOST_OBJECTS:,} objects")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError("it refers to another place")
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                    continue
                if item.external or item.is_virtual:
                    raise ValueError("it refers to another file")
                size += item.nbytes
                if item.dtype.hasobject:
                    size += _bytes_of_texts(item)
                if size > most:
                    raise ValueError(f"its arrays have more than {most:,} bytes")


def _bytes_of_texts(item):
    """How much memory texts of any length take, each read alone.

    A file holds a long text once, however many places of an array refer to it.
    """
    if item.size > MOST_OBJECTS:
        raise ValueError(f"more than {MOST_OBJECTS:,} texts")
    return sum(len(item[place]) for place in np.ndindex(item.shape))


def _in_order(sources):
    """The names of nodes, each after its sources."""
    done, order = set(), []
    while len(order) < len(sources):
        ready = [n for n in sources if n not in done and done >= {*sources[n]}]
        if not ready:
            left = sorted({*sources} - done)
            raise ValueError(
                "A graph must have no loops: recurrent layers can't be imported. "
                f"Received: {_told(left[0])} in one"
            )
        done |= {*ready}
        order += ready
    return order


def _numbers(node, name, axes=None):
    """A parameter as an array of numbers: a file may hold anything under its name."""
    values = np.asarray(getattr(node, name))
    if values.dtype.kind not in "biuf":
        raise ValueError(f"its {name} must be numbers, not of the type {values.dtype}")
    if axes not in (None, values.ndim):
        raise ValueError(f"its {name} must have {axes} axes, not {values.ndim}")
    return values


def _pair(node, name, least=1):
    """A parameter as two int, which may be one number."""
    values = _numbers(node, name).ravel()
    if not (
        values.size in (1, 2)
        and np.all(values == np.floor(values))
        and np.all((values >= least) & (values < MOST_STEPS))
    ):
        raise ValueError(
            f"its {name} must be one or two whole numbers from {least}, below "
            f"{MOST_STEPS:,}, not {printable(str(values), 100)}"
        )
    return pair(values)


def _check_inputs(wanted, x):
    """Raise `ValueError` before Keras makes weights for an input of another size."""
    if wanted != x.shape[-1]:
        raise ValueError(f"its weight must take {x.shape[-1]} channels, not {wanted}")


def _uniform(node, name):
    """The one value of a parameter."""
    values = _numbers(node, name).astype("float64")
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"its {name} must be finite")
    if np.ptp(values):
        raise ValueError(
            f"its {name} must be the same for all neurons, which share one in a layer "
            f"here, not from {values.min():.6g} to {values.max():.6g}"
        )
    return float(values.flat[0])


def _with_weights(layer, weights, x):
    x = layer(x)
    layer.set_weights(weights)
    return x


def _keras_shape(name, shape):
    """A shape of NIR, channels first, as Keras has it, channels last."""
    values = np.asarray(shape)
    if not (
        values.ndim == 1
        and values.size
        and values.dtype.kind in "iuf"
        and np.all((values >= 1) & (values == np.floor(values)))
        and np.prod(values, dtype="float64") < MOST_VALUES
    ):
        raise ValueError(
            "The shape of an input must be whole numbers above 0, of fewer than "
            f"{MOST_VALUES:,} values. Received: {printable(str(shape), 100)} for "
            f"{_told(name)}"
        )
    first, *rest = map(int, values)
    return (*rest, first)


def pair(value):
    """Return a height and a width, which may be one number, as two int.

    Args:
        value: int, or array or tuple of one or two.
    """
    values = [int(n) for n in np.ravel(value)]
    return tuple(values * 2 if len(values) == 1 else values)


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def _name(name):
    """The name of a node as that of a layer."""
    return printable(name, 100).replace("/", "_")


def _told(name):
    return f"'{printable(name, 100)}'"

"""A residual block that connects spikes element by element: SEW ResNet's."""

import dataclasses

import keras
from keras import ops

from keras_qkformer.layers.computation import Selection
from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.layers.neurons import serialize_neuron

# Connection -> function of the spikes of the branch and of the shortcut.
_CONNECT = {
    "add": ops.add,
    "and": ops.multiply,
    "iand": lambda spikes, shortcut: shortcut * (1.0 - spikes),
}
CONNECTIONS = tuple(_CONNECT)


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SEWBlock(keras.layers.Layer):
    """Spike-element-wise block: the spikes of a branch meet those of a shortcut.

        A = SN(BN(conv3x3(SN(BN(conv3x3(x))))))
        A = SN(BN(conv1x1(SN(BN(conv3x3(SN(BN(conv1x1(x)))))))))     bottleneck
        s = x, or SN(BN(conv1x1(x))) where size or channels change
        output = A + s, A * s or s * (1 - A)               "add", "and", "iand"

    No neuron follows the connection, so that a block whose A is 0 (or 1 with `"and"`)
    passes its input on, and gradients of a deep chain neither vanish nor explode. With
    `"add"` the output counts spikes, with the others it is spikes again.

    BatchNorm and the neuron behind it run as one operation everywhere.

    Differences from the source: none intended.

    Args:
        filters: int > 0. Channels of the convolutions, and of the output; of a
            bottleneck's output four times as many.
        strides: int > 0. By what the first 3x3 convolution, and the shortcut, divide
            height and width, rounded up.
        bottleneck: bool. Whether two 1x1 convolutions surround one of 3x3.
        connect: `"add"`, `"and"` or `"iand"`.
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        `(batch, time, height / strides, width / strides, filters)`, sizes rounded up,
        with four times the filters in a bottleneck.

    Raises:
        ValueError: if `connect` is unknown.

    Example:
    >>> SEWBlock(8, strides=2)(np.ones((1, 4, 7, 6, 4), "float32")).shape
    (1, 4, 4, 3, 8)

    Reference:
        [Fang et al., 2021](https://arxiv.org/abs/2102.04159).
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        bottleneck: bool = False,
        connect: str = "add",
        neuron: str | keras.layers.Layer | dict = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if connect not in CONNECTIONS:
            raise ValueError(
                f"connect must be one of {CONNECTIONS}. Received: connect={connect!r}"
            )
        self.filters = filters
        self.strides = strides
        self.bottleneck = bottleneck
        self.connect = connect
        self.neuron = serialize_neuron(neuron)
        plan = [(filters, 3, strides), (filters, 3, 1)]
        if bottleneck:
            plan = [(filters, 1, 1), (filters, 3, strides), (4 * filters, 1, 1)]
        self.units = [self._unit(f"unit{i}", *sizes) for i, sizes in enumerate(plan)]
        self.shortcut = None

    def _unit(self, name, *sizes):
        return ConvBNLIF(*sizes, neuron=self.neuron, dtype=self.dtype_policy, name=name)

    def build(self, input_shape):
        shape = input_shape
        for unit in self.units:
            unit.build(_padded(unit, shape))
            shape = unit.compute_output_shape(_padded(unit, shape))
        if shape[2:] != tuple(input_shape[2:]):
            self.shortcut = self._unit("shortcut", shape[-1], 1, self.strides)
            self.shortcut.build(_padded(self.shortcut, input_shape))

    def call(self, inputs, training=None):
        x = inputs
        for unit in self.units:
            x = _run(unit, x, training)
        shortcut = inputs
        if self.shortcut is not None:
            shortcut = _run(self.shortcut, inputs, training)
        return _CONNECT[self.connect](x, shortcut)

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        found = [each for unit in self.units for each in unit.computations()]
        entries = found[-1].outputs
        if self.shortcut is not None:
            (shortcut,) = self.shortcut.computations()
            found.append(dataclasses.replace(shortcut, shares_input=True))
        if self.connect != "add":
            # Both factors; the first unit keeps the input, if that is one.
            count = 1 if self.shortcut is None else 2
            found.append(Selection(kept=count * entries))
        return found

    def compute_output_shape(self, input_shape):
        for unit in self.units:
            input_shape = unit.compute_output_shape(_padded(unit, input_shape))
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "bottleneck": self.bottleneck,
            "connect": self.connect,
            "neuron": self.neuron,
        }


def _run(unit, x, training):
    """Run a unit on a map of any size.

    Where its strides do not divide the size, rows and columns of zeros are added, which
    the padding of the convolution would read there anyway.
    """
    rows, columns = (-n % unit.strides for n in x.shape[2:4])
    if rows or columns:
        x = ops.pad(x, ((0, 0), (0, 0), (0, rows), (0, columns), (0, 0)))
    return unit(x, training=training)


def _padded(unit, shape):
    """A shape whose height and width are multiples of the unit's strides."""
    batch, time, height, width, channels = shape
    height, width = (n + -n % unit.strides for n in (height, width))
    return (batch, time, height, width, channels)

"""Operations of a built layer on one example, counted over all its time steps."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution:
    """One convolution, padded so that only its strides change the size of the map.

    Attributes:
        path: str. Path of the layer that computes it.
        input_shape: tuple `(time, height, width, channels)`, height and width multiples
            of the strides.
        filters: int. Output channels.
        kernel_size: odd int. Rows and columns of the kernel.
        strides: int.
        depthwise: bool. Whether every channel is convolved alone.
        use_bias: bool.
        repeats: int. By how many time steps its output is repeated, for an image that
            passes the convolution once.
        pooled: int. Entries that training keeps for a max pooling after it: its output
            if the neuron follows, its input if it pools the neuron's spikes. 0 without
            a pooling.
        shares_input: bool. Whether an earlier convolution takes the same input.
    """

    path: str
    input_shape: tuple
    filters: int
    kernel_size: int = 1
    strides: int = 1
    depthwise: bool = False
    use_bias: bool = False
    repeats: int = 1
    pooled: int = 0
    shares_input: bool = False

    @property
    def inputs(self):
        """Entries of the input."""
        time, height, width, channels = self.input_shape
        return time * height * width * channels

    @property
    def positions(self):
        """Number of positions to which the kernel is applied."""
        time, height, width, _ = self.input_shape
        return time * (height // self.strides) * (width // self.strides)

    @property
    def outputs(self):
        """Entries of the output."""
        return self.positions * self.filters

    @property
    def weights(self):
        """Entries of the kernel."""
        channels = 1 if self.depthwise else self.input_shape[-1]
        return self.kernel_size**2 * channels * self.filters

    @property
    def macs(self):
        """Number of multiply-accumulates."""
        return self.positions * self.weights

    @property
    def kept(self):
        """Entries that training keeps for the backward pass.

        They are the input, unless an earlier convolution keeps it, the output, which
        BatchNorm and neuron need, and what pooling adds.
        """
        return (0 if self.shares_input else self.inputs) + self.outputs + self.pooled

    def fan_out(self):
        """Count the weights that one entry of the input meets, at every position.

        Returns:
            int64 array `(height, width)`: smaller at borders, where the kernel reaches
            beyond the map, and between strides.
        """
        _, height, width, _ = self.input_shape
        rows, columns = (self._reached(size) for size in (height, width))
        filters = 1 if self.depthwise else self.filters
        return np.outer(rows, columns) * filters

    def _reached(self, size):
        """How many applications of the kernel read each of `size` rows or columns."""
        around = self.kernel_size // 2
        starts = np.arange(0, size, self.strides) - around
        read = (starts[:, None] + np.arange(self.kernel_size)).ravel()
        return np.bincount(read[(read >= 0) & (read < size)], minlength=size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """A product of two tensors without weights, as in attention, for every head.

    Attributes:
        path: str. Path of the layer that computes it, with the names of the factors.
        factors: pair of str. Names under which the layer tells the factors, see
            `operation_scope`.
        steps: int. Number of time steps.
        tokens: int.
        heads: int.
        head_dim: int. Channels of a head.
        kept: int. Entries that training keeps for the backward pass.
    """

    path: str
    factors: tuple
    steps: int
    tokens: int
    heads: int
    head_dim: int
    kept: int

    @property
    def macs(self):
        """Number of multiply-accumulates."""
        return self.steps * self.tokens * self.heads * self.head_dim**2


@dataclasses.dataclass(frozen=True)
class Selection:
    """A choice among spikes without arithmetic, as pooling or AND.

    Attributes:
        kept: int. Entries that training keeps for the backward pass.
        macs: int. Number of multiply-accumulates, which is 0.
    """

    kept: int
    macs: int = 0

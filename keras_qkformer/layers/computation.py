"""Operations of a built layer on one example, counted over all its time steps."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution.

    Attributes:
        inputs: int. Entries of the input.
        outputs: int. Entries of the output.
        weights: int. Entries of the kernel.
        positions: int. Number of positions to which the kernel is applied.
        pooled: int. Entries that training keeps for a max pooling after it: its output
            if the neuron follows, its input if it pools the neuron's spikes. 0 without
            a pooling.
        shares_input: bool. Whether an earlier convolution takes the same input.
    """

    inputs: int
    outputs: int
    weights: int
    positions: int
    pooled: int = 0
    shares_input: bool = False

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


@dataclasses.dataclass(frozen=True)
class Product:
    """A product of tensors without weights, as in attention.

    Attributes:
        macs: int. Number of multiply-accumulates; 0 if one factor only selects.
        kept: int. Entries that training keeps for the backward pass.
    """

    macs: int
    kept: int


@dataclasses.dataclass(frozen=True)
class Selection:
    """A choice among spikes without arithmetic, as pooling or AND.

    Attributes:
        kept: int. Entries that training keeps for the backward pass.
        macs: int. Number of multiply-accumulates, which is 0.
    """

    kept: int
    macs: int = 0

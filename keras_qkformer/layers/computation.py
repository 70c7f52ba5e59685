"""What a built layer computes on one example, over all its time steps: numbers."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution.

    Attributes:
        inputs: int. Entries of the input.
        outputs: int. Entries of the output.
        weights: int. Entries of the kernel.
        positions: int. How often the kernel is applied.
        pooled: int. Entries that a max pooling behind it gives, 0 without one.
        shares_input: bool. Whether one that was named before takes the same input.
    """

    inputs: int
    outputs: int
    weights: int
    positions: int
    pooled: int = 0
    shares_input: bool = False

    @property
    def macs(self):
        """Multiply-accumulates."""
        return self.positions * self.weights

    @property
    def kept(self):
        """Entries that training keeps for the backward pass.

        Input and output, which BatchNorm and neuron keep, and what pooling gives.
        """
        return (0 if self.shares_input else self.inputs) + self.outputs + self.pooled


@dataclasses.dataclass(frozen=True)
class Product:
    """A product of tensors without weights, as in attention.

    Attributes:
        macs: int. Multiply-accumulates; 0 where one factor only selects.
        kept: int. Entries that training keeps for the backward pass.
    """

    macs: int
    kept: int

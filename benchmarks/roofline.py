"""The least time a model can take on a machine: its arithmetic and its traffic.

Counted from the layers of a Keras model, per image, in multiply-accumulates (MACs) and
bytes of `itemsize` per value. With `in` and `out` the entries of a convolution's input
and output over all steps (an image that is repeated over time passes its first
convolution once), and P the parameters of all convolutions and the head:

    inference   MACs = conv + attention + head            bytes = in + out, + P once
    training    MACs = 3 (conv + attention + head) - first conv
                bytes = 3 in + 2 out - first in, + 6 P once, in float32

Training reads the input again for the gradient of the weights, reads the gradient of
the output and writes that of the input, which the first convolution does not need; its
MACs are those of the forward pass, twice more for the two gradients. AdamW reads and
writes the weights and two moments. BatchNorm, pooling and neurons are counted as fused
into the convolutions: real programs move more.

    floor = max(MACs / rate, bytes / rate of a large copy)

where the rate is that of a large matrix product or 3x3 convolution, the higher one.
"""

import dataclasses
import math

from keras_qkformer.layers import PatchEmbedding
from keras_qkformer.layers.qkformer_block import QKFormerBlock


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution on one image, over all its time steps.

    Attributes:
        inputs: int. Entries of the input.
        outputs: int. Entries of the output.
        weights: int. Entries of the kernel.
        positions: int. How often the kernel is applied.
    """

    inputs: int
    outputs: int
    weights: int
    positions: int

    @property
    def macs(self):
        """Multiply-accumulates."""
        return self.positions * self.weights


def convolutions(model):
    """All convolutions of a `QKFormerClassifier`, in order."""
    found = []
    for layer in model.backbone.layers:
        if isinstance(layer, PatchEmbedding):
            shape = layer.input.shape
            for i, unit in enumerate(layer.main):
                if layer.shortcut is not None and i == layer.shortcut_from:
                    found.append(_of_unit(layer.shortcut, shape))
                found.append(_of_unit(unit, shape))
                shape = unit.compute_output_shape(shape)
        elif isinstance(layer, QKFormerBlock):
            shape = layer.input.shape
            channels = shape[-1]
            hidden = int(channels * layer.mlp_ratio)
            square = _convolution(shape, shape[1:-1], 1, channels)
            found += [square] * (4 if layer.attention == "self" else 3)
            found.append(_convolution(shape, shape[1:-1], 1, hidden))
            found.append(_convolution((*shape[:-1], hidden), shape[1:-1], 1, channels))
    return found


def _of_unit(unit, shape):
    time, height, width = shape[1:4]
    size = (time, height // unit.strides, width // unit.strides)
    return _convolution(shape, size, unit.kernel_size, unit.filters)


def _convolution(shape, size, kernel_size, filters):
    positions = math.prod(size)
    return Convolution(
        inputs=math.prod(shape[1:]),
        outputs=positions * filters,
        weights=kernel_size**2 * shape[-1] * filters,
        positions=positions,
    )


def attention_macs(model):
    """MACs of `K^T V` and `Q (K^T V)` of one image; Q-K attention has none."""
    total = 0
    for layer in model.backbone.layers:
        if isinstance(layer, QKFormerBlock) and layer.attention == "self":
            *positions, channels = layer.input.shape[1:]
            total += 2 * math.prod(positions) * channels * channels // layer.num_heads
    return total


def counts(model, itemsize=4):
    """MACs and fewest bytes of one image, and the bytes of a whole step.

    Args:
        model: a `QKFormerClassifier`.
        itemsize: int. Bytes of a value: 4 in float32, 2 in mixed precision.

    Returns:
        Dictionary from `"inference"` and `"training step"` to a dictionary with
        `macs_per_image`, `bytes_per_image` and `bytes_per_step`.
    """
    convs = convolutions(model)
    head = model.backbone.embed_dim * (model.num_classes or 0)
    weights = sum(c.weights for c in convs) + head
    macs = sum(c.macs for c in convs) + attention_macs(model) + head
    inputs = sum(c.inputs for c in convs)
    outputs = sum(c.outputs for c in convs)
    first = convs[0]
    return {
        "inference": {
            "macs_per_image": macs,
            "bytes_per_image": itemsize * (inputs + outputs),
            "bytes_per_step": itemsize * weights,
        },
        "training step": {
            "macs_per_image": 3 * macs - first.macs,
            "bytes_per_image": itemsize * (3 * inputs + 2 * outputs - first.inputs),
            "bytes_per_step": 4 * 6 * weights,
        },
    }


def kept_entries(model):
    """Entries of one image that training keeps for the backward pass.

    The input of every convolution (one for those that share it) and its output, which
    BatchNorm and neuron keep; what pooling gives, which the neuron after it keeps; and
    of attention the factors of its products and the potentials of its neuron.
    """
    total = 0
    for layer in model.backbone.layers:
        if isinstance(layer, PatchEmbedding):
            shape = layer.input.shape
            for i, unit in enumerate(layer.main):
                convolution = _of_unit(unit, shape)
                if layer.shortcut is not None and i == layer.shortcut_from:
                    total += _of_unit(layer.shortcut, shape).outputs
                total += convolution.inputs + convolution.outputs
                if unit.max_pool:
                    total += convolution.outputs // 4
                shape = unit.compute_output_shape(shape)
        elif isinstance(layer, QKFormerBlock):
            one = math.prod(layer.input.shape[1:])
            hidden = int(one * layer.mlp_ratio)
            # Input, three potentials, three factors, the neuron's potentials and its
            # spikes, the projection; or two potentials, the keys, what of them passes.
            attention = 10 if layer.attention == "self" else 6
            # Input, potentials and spikes of the hidden layer, potentials.
            total += attention * one + one + 2 * hidden + one
    return total


def held_bytes(model, batch, itemsize=2):
    """Bytes a training step must hold: weights, gradients, AdamW, what is kept.

    Args:
        model: a `QKFormerClassifier`.
        batch: int. Examples on this device.
        itemsize: int. Bytes of a kept value: 2 in mixed precision.
    """
    weights = sum(math.prod(v.shape) for v in model.trainable_variables)
    return 4 * 4 * weights + batch * itemsize * kept_entries(model)

"""Counts a model's arithmetic, memory traffic, and the values that training keeps.

Counts are per image, in multiply-accumulates (MACs) and in values of `itemsize` bytes,
from the layers' own descriptions. `in` and `out` are the entries of a convolution's
input and output over all time steps (an image that is repeated over time passes the
first convolution once); P counts the parameters of all convolutions and the head:

    inference   MACs = conv + attention + head            bytes = in + out, + P once
    training    MACs = 3 (conv + attention + head) - first conv
                bytes = 3 in + 2 out - first in, + 6 P once, in float32

The backward pass reads the input again for the gradient of the weights, reads the
gradient of the output, and writes the gradient of the input, which the first
convolution does not need. Each of the two gradients costs as many MACs as the forward
pass. AdamW reads and writes the weights and two moments. BatchNorm, pooling and neurons
are assumed to be fused into the convolutions: real programs move more bytes.
"""

import math

from keras_qkformer.layers.computation import Convolution


def convolutions(model):
    """Return all convolutions of a classifier's backbone, in order.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        List of `keras_qkformer.layers.computation.Convolution`.

    Raises:
        ValueError: if a layer does not describe what it computes.
    """
    found = model.backbone.computations()
    return [each for each in found if isinstance(each, Convolution)]


def attention_macs(model):
    """Count the MACs of attention's products for one image; Q-K attention has none.

    Args:
        model: a `SpikingClassifier`.
    """
    found = model.backbone.computations()
    return sum(each.macs for each in found if not isinstance(each, Convolution))


def counts(model, itemsize=4):
    """Count MACs and least bytes, per image and per step, by the module's formulas.

    Args:
        model: a `SpikingClassifier`.
        itemsize: int. Bytes per value: 4 in float32, 2 in mixed precision.

    Returns:
        Dictionary from `"inference"` and `"training step"` to a dictionary with
        `macs_per_image`, `bytes_per_image`, and `bytes_per_step`, which does not depend
        on the batch size.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=1)
    >>> counts(model)["inference"]["macs_per_image"]
    21777664
    """
    convs = convolutions(model)
    *_, features = model.backbone.output.values()
    head = features.shape[-1] * (model.num_classes or 0)
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
    """Count the values that training keeps for the backward pass of one image.

    Kept are the input of every convolution (once if several share it); its output, for
    BatchNorm and the neuron; the output of pooling, for the neuron after it; and in
    attention the factors of the products and the potentials of the neuron.

    Args:
        model: a `SpikingClassifier`.
    """
    return sum(each.kept for each in model.backbone.computations())


def held_bytes(model, batch, itemsize=2):
    """Count the bytes a training step must hold in memory.

    These are weights, gradients and AdamW's two moments in float32, and the values kept
    for the backward pass.

    Args:
        model: a `SpikingClassifier`.
        batch: int > 0. Examples on this device.
        itemsize: int. Bytes per kept value: 4 in float32, 2 in mixed precision.
    """
    weights = sum(math.prod(v.shape) for v in model.trainable_variables)
    return 4 * 4 * weights + batch * itemsize * kept_entries(model)

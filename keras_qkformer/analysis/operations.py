"""What a model computes: its arithmetic, its traffic, and what training keeps.

Counted per image from what the layers say of themselves, in multiply-accumulates (MACs)
and bytes of `itemsize` per value. With `in` and `out` the entries of a convolution's
input and output over all steps (an image that is repeated over time passes its first
convolution once), and P the parameters of all convolutions and the head:

    inference   MACs = conv + attention + head            bytes = in + out, + P once
    training    MACs = 3 (conv + attention + head) - first conv
                bytes = 3 in + 2 out - first in, + 6 P once, in float32

Training reads the input again for the gradient of the weights, reads the gradient of
the output and writes that of the input, which the first convolution does not need; its
MACs are those of the forward pass, twice more for the two gradients. AdamW reads and
writes the weights and two moments. BatchNorm, pooling and neurons are counted as fused
into the convolutions: real programs move more.
"""

import math

from keras_qkformer.layers.computation import Convolution


def convolutions(model):
    """All convolutions of a classifier's backbone, in order.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        List of `keras_qkformer.layers.computation.Convolution`.

    Raises:
        ValueError: if a layer does not say what it computes.
    """
    found = model.backbone.computations()
    return [each for each in found if isinstance(each, Convolution)]


def attention_macs(model):
    """MACs of the products in attention, of one image; Q-K attention has none."""
    found = model.backbone.computations()
    return sum(each.macs for each in found if not isinstance(each, Convolution))


def counts(model, itemsize=4):
    """MACs and fewest bytes of one image, and the bytes of a whole step.

    Args:
        model: a `SpikingClassifier`.
        itemsize: int. Bytes of a value: 4 in float32, 2 in mixed precision.

    Returns:
        Dictionary from `"inference"` and `"training step"` to a dictionary with
        `macs_per_image`, `bytes_per_image` and `bytes_per_step`.

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
    """Entries of one image that training keeps for the backward pass.

    The input of every convolution (one for those that share it) and its output, which
    BatchNorm and neuron keep; what pooling gives, which the neuron after it keeps; and
    of attention the factors of its products and the potentials of its neuron.
    """
    return sum(each.kept for each in model.backbone.computations())


def held_bytes(model, batch, itemsize=2):
    """Bytes a training step must hold: weights, gradients, AdamW, what is kept.

    Args:
        model: a `SpikingClassifier`.
        batch: int. Examples on this device.
        itemsize: int. Bytes of a kept value: 2 in mixed precision.
    """
    weights = sum(math.prod(v.shape) for v in model.trainable_variables)
    return 4 * 4 * weights + batch * itemsize * kept_entries(model)

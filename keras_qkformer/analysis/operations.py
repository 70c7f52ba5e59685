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

import dataclasses
import math

from keras_qkformer.layers.computation import Convolution, Product


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """A convolution, the head, or a product of attention, on one example.

    Attributes:
        path: str. Path of its layer, such as `"stage1_block1/mlp/expand"`.
        kind: `"convolution"`; `"dense"`, a linear layer over the channels; or
            `"product"`.
        stage: str. Stage whose features it leads to, or `"head"`.
        parameters: int. Entries of its kernel and bias.
        steps: int. Time steps of the model.
        macs: int. Multiply-accumulates of all time steps, without biases. Zeros around
            the map count. An image counts as often as the published code passes it.
        macs_once: int. The same, with an image passing once, as it does here.
        biases: int. Additions of biases, as often as for `macs`.
        inputs: int. Entries of its input, of both factors of a product.
        outputs: int. Entries of its output.
        factors: tuple of str. Names under which its layer tells what goes into it, see
            `layers.operation_scope`.
        is_first: bool. Whether it takes the input of the model.
        is_head: bool. Whether it gives the logits.
        has_rate: bool. Whether its input comes from spikes. Where no neuron stands
            between potentials and the head, its input is a mean of potentials.
        source: `Convolution` or `Product`; `None` for the head.
    """

    path: str
    kind: str
    stage: str
    parameters: int
    steps: int
    macs: int
    macs_once: int
    biases: int
    inputs: int
    outputs: int
    factors: tuple = ("inputs",)
    is_first: bool = False
    is_head: bool = False
    has_rate: bool = True
    source: object = None

    @property
    def macs_of_one_step(self):
        """Multiply-accumulates of the same layer in a network without time."""
        if self.source is None:
            return self.macs_once
        is_product = isinstance(self.source, Product)
        steps = self.source.steps if is_product else self.source.input_shape[0]
        return self.macs_once // steps


def operations(model):
    """List the operations of a classifier with arithmetic, in order.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        List of `Operation`.

    Raises:
        ValueError: if a layer does not describe what it computes.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> first, *_, head = operations(model)
    >>> first.path, first.macs, first.macs_once, head.macs
    ('patch_embed1/unit0', 36864, 18432, 1280)
    """
    backbone = model.backbone
    found = []
    for stage, computations in backbone.computations_by_stage().items():
        shared = {"stage": stage, "steps": backbone.time_steps}
        for each in computations:
            if isinstance(each, Convolution):
                repeats = each.repeats if backbone.repeats_image else 1
                found.append(_of_convolution(each, repeats, not found, shared))
            elif isinstance(each, Product):
                found.append(_of_product(each, shared))
    if model.num_classes is not None:
        *_, features = backbone.output.values()
        channels, classes = features.shape[-1], model.num_classes
        found.append(
            Operation(
                path="head",
                kind="dense",
                stage="head",
                parameters=(channels + 1) * classes,
                steps=backbone.time_steps,
                macs=channels * classes,
                macs_once=channels * classes,
                biases=classes,
                inputs=channels,
                outputs=classes,
                is_head=True,
                has_rate=not backbone.has_potentials
                or backbone.head_neuron() is not None,
            )
        )
    return found


def _of_convolution(convolution, repeats, is_first, shared):
    filters = convolution.filters if convolution.use_bias else 0
    is_linear = convolution.kernel_size == convolution.strides == 1
    return Operation(
        path=convolution.path,
        kind="dense" if is_linear and not convolution.depthwise else "convolution",
        parameters=convolution.weights + filters,
        macs=convolution.macs * repeats,
        macs_once=convolution.macs,
        biases=convolution.positions * filters * repeats,
        inputs=convolution.inputs,
        outputs=convolution.outputs,
        is_first=is_first,
        source=convolution,
        **shared,
    )


def _of_product(product, shared):
    heads = product.steps * product.heads
    rows, columns = product.tokens * product.head_dim, product.head_dim**2
    takes_context = "context" in product.factors
    return Operation(
        path=product.path,
        kind="product",
        parameters=0,
        macs=product.macs,
        macs_once=product.macs,
        biases=0,
        inputs=heads * (rows + (columns if takes_context else rows)),
        outputs=heads * (rows if takes_context else columns),
        factors=product.factors,
        source=product,
        **shared,
    )


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

"""Spiking self-attention without softmax, and the authors' state across a batch."""

import warnings

import keras
from keras import ops

from keras_qkformer.layers.attention import SpikingAttention, check_heads
from keras_qkformer.layers.computation import Product
from keras_qkformer.layers.neurons import neuron_for
from keras_qkformer.layers.operation_scope import record_operation

MEMBRANE_STATES = ("sample", "batch")


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikingSelfAttention(SpikingAttention):
    """Spiking self-attention: Q (K^T V) on spikes, without softmax.

    With SN a neuron over time and BN a batch normalization, for every head:

        Q, K, V = SN(BN(x W)), one W each
        Y = SN(scale * Q (K^T V))                           threshold 0.5
        output = SN(BN(Y Wp + b))

    K^T V is computed first, so the cost is linear in the number of tokens. The scale
    does not depend on the size of the heads.

    Differences from the source: in the authors' code, the potentials of the output
    neuron carry over from one sample of the batch to the next, because time and batch
    reach it as one axis. So a prediction depends on the other samples and their order.
    Here every sample starts at rest; `membrane_state="batch"` restores their behaviour.

    Args:
        num_heads: int > 0. Divides the channels of the input.
        membrane_state: `"sample"`, or `"batch"` for the authors' behaviour. `"batch"`
            exists to check their weights and numbers; it warns and can't be exported.
        pre_activation: bool. If true, the layer starts with a neuron and ends without
            one, so that its input and output are potentials (MS-QKFormer). It excludes
            `membrane_state="batch"`.
        scale: float > 0. Factor of the product. With a power of two, the order of the
            products changes nothing.
        use_bias: bool. Whether the units of Q, K and V have a bias, as in Spikformer's
            code for CIFAR. BatchNorm cancels it; it exists for checkpoints.
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if `num_heads` does not divide the channels, `scale` is not above 0,
            `membrane_state` is unknown, or it is `"batch"` together with
            `pre_activation`.

    Example:
    >>> SpikingSelfAttention(num_heads=2)(np.ones((1, 4, 8, 8, 16), "float32")).shape
    (1, 4, 8, 8, 16)

    Reference:
        [Zhou et al., 2023](https://arxiv.org/abs/2209.15425); `Spiking_Self_Attention`
        of the authors' code.
    """

    units = ("query", "key", "value")

    def __init__(
        self,
        num_heads: int,
        membrane_state: str = "sample",
        scale: float = 0.125,
        use_bias: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not scale > 0:
            raise ValueError(f"scale must be above 0. Received: scale={scale}")
        if membrane_state not in MEMBRANE_STATES:
            raise ValueError(
                f"membrane_state must be one of {MEMBRANE_STATES}. "
                f"Received: membrane_state={membrane_state!r}"
            )
        if membrane_state == "batch":
            if self.pre_activation:
                raise ValueError(
                    "membrane_state='batch' needs the neuron at the end of the "
                    "attention, which pre_activation=True leaves out."
                )
            warnings.warn(
                "membrane_state='batch' reproduces a defect of the authors' code: a "
                "prediction depends on the other samples of its batch. Use it only to "
                "check published weights.",
                stacklevel=2,
            )
        self.num_heads = num_heads
        self.membrane_state = membrane_state
        self.scale = scale
        self.use_bias = use_bias

    def build(self, input_shape):
        check_heads(self.num_heads, input_shape[-1])
        super().build(input_shape)
        if self.membrane_state == "batch":
            self.output_neuron = neuron_for(self, "output_neuron")
            self.output_neuron.build((1, None, *input_shape[2:]))

    def projection_neuron(self):
        return None if self.membrane_state == "batch" else super().projection_neuron()

    def call(self, inputs, training=None):
        x = inputs if self.input_neuron is None else self.input_neuron(inputs)
        shape = time, height, width, channels = x.shape[1:]
        heads = (height * width, self.num_heads, channels // self.num_heads)
        spikes = [
            unit(x, training=training) for unit in (self.query, self.key, self.value)
        ]
        query, key, value = (ops.reshape(y, (-1, *heads)) for y in spikes)
        context = ops.einsum("bnhd,bnhe->bhde", key, value)
        record_operation(
            self, context=context, **dict(zip(self.units, spikes, strict=True))
        )
        # The scale is applied to the small K^T V, which is exact for a power of two.
        y = ops.einsum("bnhd,bhde->bnhe", query, self.scale * context)
        y = self.proj(
            self.attention_neuron(ops.reshape(y, (-1, *shape))), training=training
        )
        if self.membrane_state == "sample":
            return y
        # Time first, batch second, then read as one long sequence of one sample.
        y = ops.reshape(ops.swapaxes(y, 0, 1), (1, -1, height, width, channels))
        y = ops.reshape(self.output_neuron(y), (time, -1, height, width, channels))
        return ops.swapaxes(y, 0, 1)

    def products(self, unit):
        time, height, width, channels = unit.input_shape
        sizes = {
            "steps": time,
            "tokens": height * width,
            "heads": self.num_heads,
            "head_dim": channels // self.num_heads,
        }
        return [
            Product(
                path=f"{self.path}/{'_'.join(factors)}",
                factors=factors,
                # Together Q, K and V, and the input of the attention neuron.
                kept=2 * unit.outputs,
                **sizes,
            )
            for factors in (("key", "value"), ("query", "context"))
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "membrane_state": self.membrane_state,
            "scale": self.scale,
            "use_bias": self.use_bias,
        }

"""The smallest family: it trains, streams, saves, exports and is counted."""

import keras

from keras_qkformer.layers import LIF, ConvBNLIF, SpikingSelfAttention
from keras_qkformer.models import (
    Preset,
    SpikingBackbone,
    register_family,
    spiking_input,
)


@keras.saving.register_keras_serializable(package="tests")
class ToyBackbone(SpikingBackbone):
    """A convolution, self-attention and a convolution that gives potentials."""

    has_potentials = True

    def __init__(
        self,
        image_size: int | tuple[int, int],
        in_channels: int = 1,
        static: bool = True,
        time_steps: int = 2,
        width: int = 8,
        dtype=None,
        **kwargs,
    ):
        inputs, x, image_size = spiking_input(
            image_size, in_channels, static, time_steps
        )
        repeats = time_steps if static else None
        x = ConvBNLIF(width, time_steps=repeats, dtype=dtype, name="stem")(x)
        x = SpikingSelfAttention(2, dtype=dtype, name="attention")(x)
        x = ConvBNLIF(2 * width, neuron=None, dtype=dtype, name="last")(x)
        arguments = {
            "image_size": image_size,
            "in_channels": in_channels,
            "static": static,
            "time_steps": time_steps,
            "width": width,
        }
        super().__init__(inputs, {"stage1": x}, arguments, dtype, **kwargs)

    def head_neuron(self):
        return LIF(v_threshold=0.05)


PRESET = Preset(
    family="toy",
    description="A toy for 8 px images",
    source="this test",
    parameters=1770,
    arguments={"image_size": 8, "num_classes": 10},
)
register_family("toy", ToyBackbone, presets={"toy": PRESET})

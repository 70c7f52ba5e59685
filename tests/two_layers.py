"""A network of which every spike is known from its input."""

import numpy as np

from keras_qkformer.layers import ConvBNLIF
from keras_qkformer.models import SpikingBackbone, spiking_input


class TwoLayers(SpikingBackbone):
    """Two channels, of which the second never fires, then a 3x3 convolution."""

    def __init__(self):
        inputs, x, size = spiking_input((4, 5), 1, False, 3)
        x = ConvBNLIF(2, 1, neuron="if", name="copy")(x)
        x = ConvBNLIF(3, 3, neuron="if", name="spread")(x)
        arguments = dict(image_size=size, in_channels=1, static=False, time_steps=3)
        super().__init__(inputs, {"stage1": x}, arguments)
        copy, spread = (self.get_layer(name) for name in ("copy", "spread"))
        copy.conv.kernel.assign(np.reshape([2.0, -2.0], (1, 1, 1, 2)))
        # Its channels fire where a spike is near, nowhere, and everywhere.
        kernel = np.zeros((3, 3, 2, 3))
        kernel[:, :, 0, 0] = 2.0
        spread.conv.kernel.assign(kernel)
        spread.norm.beta.assign([0.0, 0.0, 2.0])

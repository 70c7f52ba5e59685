"""What the backbones of all families share."""

from types import MappingProxyType

import keras
from keras import ops

from keras_qkformer.models.arguments import check

# Over the axis `model` of a mesh: the units that widen by their outputs, those that
# follow by their inputs, so that between the two nothing has to be sent.
_WIDENING = r"(mlp/expand|attention/(query|key|value))"
_LAYOUT = {
    rf"{_WIDENING}/conv/kernel": (None, None, None, "model"),
    rf"{_WIDENING}/conv/bias": ("model",),
    rf"{_WIDENING}/norm/.*": ("model",),
    r"(mlp/reduce|attention/proj)/conv/kernel": (None, None, "model", None),
}


class SpikingBackbone(keras.Model):
    """Base of all backbones: images or event frames in, the features of stages out.

    A family is one subclass, whose constructor builds a functional model and hands it
    to this one. Its layers form a chain, each taking what the one before it gives, so
    that streaming can run them one time step at a time; a residual connection is inside
    a layer. Register the subclass with Keras, and the family with `register_family`.

    Args:
        inputs: Keras tensor, the input, see `spiking_input`.
        features: dict from the names of stages, the last one last, to Keras tensors
            `(batch, time_steps, height, width, channels)`.
        arguments: dict of all arguments of the subclass but `dtype`, as they are after
            its checks. They become its attributes and its config. `image_size`, as a
            pair, `in_channels`, `static` and `time_steps` must be among them.
        dtype: a dtype or policy, or `None` for the global policy. That of the layers is
            up to the subclass.
        **kwargs: passed to `keras.Model`.

    Attributes:
        layout: dict from patterns of variables' paths to axes of a mesh, for layers
            that several devices may hold together. A family changes it where it has
            layers other than our attention, named `attention`, and `SpikingMLP`, named
            `mlp`.
        membrane_state: `"sample"`: a prediction never depends on the other samples of
            its batch. What is anything else can't be streamed, exported, or trained on
            several devices.
        has_potentials: bool. Whether features are potentials, and not numbers of
            spikes.
    """

    layout = MappingProxyType(_LAYOUT)
    membrane_state = "sample"
    has_potentials = False

    def __init__(self, inputs, features, arguments, dtype=None, **kwargs):
        super().__init__(inputs=inputs, outputs=features, **kwargs)
        self._arguments = tuple(arguments)
        for name, value in arguments.items():
            setattr(self, name, value)
        self.dtype_policy = keras.dtype_policies.get(dtype)

    def steps(self):
        """Its layers in order, each taking what the one before it gives.

        Raises:
            ValueError: if they are no such chain.
        """
        steps = [x for x in self.layers if not isinstance(x, keras.layers.InputLayer)]
        *_, features = self.output.values()
        given = [layer.output for layer in steps]
        taken = [*(layer.input for layer in steps[1:]), features]
        for layer, ours, theirs in zip(steps, given, taken, strict=True):
            if ours is not theirs:
                raise ValueError(
                    "The layers of a backbone must form a chain, with residual "
                    "connections inside of layers. Received: something else takes the "
                    f"output of {layer.name!r}"
                )
        return steps

    def computations(self):
        """What its layers compute, in order, see `layers.computation`.

        Raises:
            ValueError: if a layer with weights does not say what it computes.
        """
        found = []
        for layer in self.steps():
            if hasattr(layer, "computations"):
                found += layer.computations()
            elif layer.weights:
                raise ValueError(
                    "A layer with weights must have a method computations() for its "
                    f"operations to be counted. Received: {layer!r}"
                )
        return found

    @property
    def attention_heads(self):
        """The numbers of heads of its attention layers, as a sorted list."""
        layers = self._flatten_layers(include_self=False)
        return sorted({x.num_heads for x in layers if hasattr(x, "num_heads")})

    def head_neuron(self):
        """The neuron behind the mean over tokens, or `None`.

        Some families with potentials as features have one there.
        """

    def preset_arguments(self):
        """The arguments that make this backbone again, as JSON holds them."""
        values = {name: getattr(self, name) for name in self._arguments}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            **self.preset_arguments(),
            "dtype": self.dtype_policy.name,
        }


def spiking_input(image_size, in_channels, static, time_steps):
    """The input of a backbone.

    Args:
        image_size: int or (height, width), in pixels.
        in_channels: int > 0.
        static: bool. If true, the input is images, shown for `time_steps` steps; if
            not, it has one frame per time step.
        time_steps: int > 0.

    Returns:
        `(inputs, x, image_size)`: the Keras input, the tensor
        `(batch, time, height, width, channels)` to go on with, which has one time step
        for images, and the pair (height, width).

    Raises:
        ValueError: if a value is out of range.
    """
    height, width = (
        (image_size, image_size) if isinstance(image_size, int) else image_size
    )
    check(
        height > 0 and width > 0,
        "image_size must be above 0",
        image_size=(height, width),
    )
    check(in_channels > 0, "in_channels must be above 0", in_channels=in_channels)
    check(
        isinstance(time_steps, int) and time_steps > 0,
        "time_steps must be a whole number above 0",
        time_steps=time_steps,
    )
    image_shape = (height, width, in_channels)
    if static:
        inputs = keras.Input(image_shape, name="images")
        return inputs, ops.expand_dims(inputs, 1), (height, width)
    inputs = keras.Input((time_steps, *image_shape), name="frames")
    return inputs, inputs, (height, width)


def stochastic_depth_rates(drop_path, blocks):
    """Rates that grow linearly from 0 in the first block to `drop_path` in the last."""
    return [drop_path * i / max(blocks - 1, 1) for i in range(blocks)]

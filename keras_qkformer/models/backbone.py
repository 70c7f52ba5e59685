"""The base class of all backbones, and the functions that families share."""

from types import MappingProxyType
from typing import Any

import keras
from keras import ops

from keras_qkformer.models.spiking_model import SpikingModel
from keras_qkformer.presets.ranges import DOWNSAMPLINGS, UNITS, check_input, pair

# The axis `model` of a mesh splits widening units by their outputs and the units after
# them by their inputs, so that devices exchange nothing between the two.
_WIDENING = r"(mlp/expand|attention/(query|key|value))"
_LAYOUT = {
    rf"{_WIDENING}/conv/kernel": (None, None, None, "model"),
    rf"{_WIDENING}/conv/bias": ("model",),
    rf"{_WIDENING}/norm/.*": ("model",),
    r"(mlp/reduce|attention/proj)/conv/kernel": (None, None, "model", None),
}


class SpikingBackbone(SpikingModel):
    """Base class of all backbones: map images or event frames to features per stage.

    A family is one subclass. Its constructor builds a functional model and passes it to
    this constructor. The layers form a chain, in which each takes the output of the one
    before, so that streaming can run them one time step at a time; residual connections
    are inside of layers. Register the subclass with Keras, and the family with
    `register_family`.

    Args:
        inputs: Keras tensor. Input of the model, see `spiking_input`.
        features: dict from stage names, in order, to Keras tensors
            `(batch, time_steps, height, width, channels)`.
        arguments: dict of the checked arguments of the subclass, all but `dtype`. They
            become its attributes and its config. They must include `image_size` (as a
            pair), `in_channels`, `static` and `time_steps`.
        dtype: dtype or policy of the backbone, or `None` for the global policy. The
            subclass passes it to the layers.
        **kwargs: passed to `keras.Model`.

    Attributes:
        layout: dict from regular expressions of variable paths to tuples of mesh axes,
            for variables that may be split over devices. The default covers attention
            layers named `attention` and `SpikingMLP`s named `mlp`; a family with other
            layers overrides it.
        membrane_state: `"sample"` if a prediction never depends on the other samples of
            its batch. With any other value, the model can't be streamed, exported, or
            trained on several devices.
        has_potentials: bool. Whether the features are potentials instead of numbers of
            spikes.
        repeats_image: bool. Whether the published code passes an image through the
            first convolution at every time step. Here it passes once, to the same
            effect; papers count its operations as often as their code computes them.
    """

    layout = MappingProxyType(_LAYOUT)
    membrane_state = "sample"
    has_potentials = False
    repeats_image = True

    def __init__(
        self,
        inputs: Any,
        features: dict[str, Any],
        arguments: dict[str, Any],
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs,
    ):
        super().__init__(inputs=inputs, outputs=features, **kwargs)
        self._arguments = tuple(arguments)
        for name, value in arguments.items():
            setattr(self, name, value)
        self.dtype_policy = keras.dtype_policies.get(dtype)

    def steps(self) -> list[keras.layers.Layer]:
        """Return the layers in order; each takes the output of the one before.

        Returns:
            list of layers, without the input layer.

        Raises:
            ValueError: if the layers do not form a chain.
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

    def stage_ends(self) -> dict:
        """Return the layers whose output is the features of a stage.

        Returns:
            Dict from layers, in order, to stage names.
        """
        stages = {id(feature): stage for stage, feature in self.output.items()}
        return {
            layer: stages[id(layer.output)]
            for layer in self.steps()
            if id(layer.output) in stages
        }

    def computations(self) -> list:
        """List the operations of the layers in order, see `layers.computation`.

        Raises:
            ValueError: if a layer with weights has no method `computations`.
        """
        stages = self.computations_by_stage().values()
        return [each for found in stages for each in found]

    def computations_by_stage(self) -> dict[str, list]:
        """Group the operations by the stage whose features they lead to.

        Returns:
            Dict from stage names, in order, to lists, see `computations`.
        """
        ends, found, current = self.stage_ends(), {}, []
        for layer in self.steps():
            if hasattr(layer, "computations"):
                current += layer.computations()
            elif layer.weights:
                raise ValueError(
                    "A layer with weights must have a method computations() for its "
                    f"operations to be counted. Received: {layer!r}"
                )
            if layer in ends:
                found[ends[layer]], current = current, []
        return found

    @property
    def attention_heads(self) -> list[int]:
        """Sorted list of the numbers of heads in the attention layers."""
        layers = self._flatten_layers(include_self=False)
        return sorted({x.num_heads for x in layers if hasattr(x, "num_heads")})

    def head_neuron(self) -> keras.layers.Layer | None:
        """Return the neuron that follows the mean over tokens, or `None`.

        Some families whose features are potentials have one there.
        """

    def preset_arguments(self) -> dict[str, Any]:
        """Return the arguments that make this backbone again, as JSON can hold them."""
        values = {name: getattr(self, name) for name in self._arguments}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            **self.preset_arguments(),
            "dtype": self.dtype_policy.name,
        }


def spiking_input(
    image_size: int | tuple[int, int], in_channels: int, static: bool, time_steps: int
) -> tuple[Any, Any, tuple[int, int]]:
    """Make the input of a backbone.

    Args:
        image_size: int or (height, width), in pixels.
        in_channels: int > 0.
        static: bool. If true, the input is an image, shown for `time_steps` time steps;
            if false, it has one frame per time step.
        time_steps: int > 0.

    Returns:
        `(inputs, x, image_size)`: the Keras input; the tensor
        `(batch, time, height, width, channels)` for the first layer, with one time step
        for images; and the pair (height, width).

    Raises:
        ValueError: if a value is out of range.
    """
    check_input(image_size, in_channels, time_steps)
    height, width = pair(image_size)
    image_shape = (height, width, in_channels)
    if static:
        inputs = keras.Input(image_shape, name="images")
        return inputs, ops.expand_dims(inputs, 1), (height, width)
    inputs = keras.Input((time_steps, *image_shape), name="frames")
    return inputs, inputs, (height, width)


def stochastic_depth_rates(drop_path: float, blocks: int) -> list[float]:
    """Return rates that grow linearly from 0 in the first block to `drop_path`.

    Args:
        drop_path: float in [0, 1). Rate of the last block.
        blocks: int > 0. Number of blocks.

    Returns:
        list of `blocks` floats.
    """
    return [drop_path * i / max(blocks - 1, 1) for i in range(blocks)]


def stem_pools(reduction, downsampling):
    """Return what each unit of a stem pools, see `SpikingPatchSplitting`.

    Args:
        reduction: int. Power of 2, up to `2**UNITS`. The last units pool.
        downsampling: `"spikes"`, or `"cml"` to pool potentials.

    Returns:
        tuple with `None`, `"spikes"` or `"potentials"` for each of the `UNITS` units.
    """
    count = reduction.bit_length() - 1
    return (None,) * (UNITS - count) + (DOWNSAMPLINGS[downsampling],) * count

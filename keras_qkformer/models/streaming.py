"""A classifier one time step at a time: frame and state in, logits and state out."""

from typing import NamedTuple

import keras
from keras import ops

from keras_qkformer.layers.lif import IF
from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.models.classifier import SpikingClassifier
from keras_qkformer.ops.normalization import wide_dtype

# A stream is for inference, where nothing is dropped.
_LEFT_OUT = (keras.layers.InputLayer, keras.layers.Dropout)


class StateEntry(NamedTuple):
    """One tensor of a state: its shape without the batch, type, and value at rest."""

    shape: tuple
    dtype: str
    rest: float


@keras.saving.register_keras_serializable(package="keras_qkformer")
class StreamingClassifier(keras.layers.Layer):
    """A classifier as a pure function of one frame and the state before it.

    With f the model for one time step and v its potentials:

        y[t], v[t] = f(frame[t], v[t-1])
        logits[t] = logits[t-1] + (y[t] - logits[t-1]) / t

    So after t frames the logits are those of the whole sequence of t frames, for every
    t, also beyond the `time_steps` of the model. It shares the layers and weights of
    the model, runs in inference mode only, and keeps nothing between calls.

    The state is a flat dictionary of tensors, batch first. Its size depends on the
    model and the batch, not on the number of frames; samples don't see each other:

        steps               int32 (batch,)             frames so far
        mean                (batch, num_classes)       the logits so far
        NEURON              (batch, ...)               potentials of these neurons

    where NEURON is the place of the neurons, such as `patch_embed1_unit0` or
    `stage1_block1_attention_query`, and all but `steps` are float32 or wider.

    Differences from the source: the authors' code has no such mode.

    Args:
        model: a built `SpikingClassifier`.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        frame: one time step. For a model of event frames the next one; for one of
            images the image, again at every step, or the next one of a film.
        state: dict from `initial_state`, `reset` or the call before.

    Input shape:
        `(batch, height, width, in_channels)`, and the state.

    Output shape:
        Pair of logits `(batch, num_classes)`, pooled features `(batch, channels)` if
        the model has no head, and the state.

    Raises:
        ValueError: if `model` is no such model or has `membrane_state="batch"`, or
            frame or state does not fit it.

    Example:
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=3)
    >>> stream = models.StreamingClassifier(model)
    >>> image, state = np.ones((2, 8, 8, 1), "float32"), stream.initial_state(2)
    >>> for _ in range(3):
    ...     logits, state = stream(image, state)
    >>> np.allclose(*map(ops.convert_to_numpy, (logits, model(image))), atol=1e-5)
    True
    """

    def __init__(self, model, **kwargs):
        # The state stays as wide as it is, whatever type the model computes in.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(model, SpikingClassifier):
            raise ValueError(f"model must be a SpikingClassifier. Received: {model!r}")
        backbone = model.backbone
        if backbone.membrane_state != "sample":
            raise ValueError(
                "A model must keep every sample's state to itself to be streamed. "
                f"Received: membrane_state={backbone.membrane_state!r}"
            )
        backbone.steps()  # Raises if they are no chain.
        self.model = model
        dtype = keras.backend.standardize_dtype(model.output.dtype)
        self.state_spec = {
            "steps": StateEntry((), "int32", 0),
            "mean": StateEntry(model.output_shape[1:], dtype, 0.0),
        }
        self.neurons = {}
        for layer in reversed(model._flatten_layers()):
            if isinstance(layer, IF):
                name = layer.path.removesuffix("/neuron").replace("/", "_")
                _, _, *shape = layer.get_build_config()["input_shape"]
                rest = 0.0 if layer.v_reset is None else layer.v_reset
                dtype = wide_dtype(layer.compute_dtype)
                self.state_spec[name] = StateEntry(tuple(shape), dtype, rest)
                self.neurons[name] = layer

    def initial_state(self, batch_size):
        """The state before the first frame: every neuron at rest.

        Args:
            batch_size: int > 0.
        """
        return {
            name: ops.full((batch_size, *shape), rest, dtype)
            for name, (shape, dtype, rest) in self.state_spec.items()
        }

    def reset(self, state, samples):
        """A state in which some samples of the batch are before their first frame.

        Args:
            state: dict, see above.
            samples: bool array `(batch,)`: which.
        """
        samples = ops.cast(samples, "bool")
        return {
            name: ops.where(
                ops.reshape(samples, (-1, *(1 for _ in shape))),
                ops.full_like(state[name], rest),
                state[name],
            )
            for name, (shape, _, rest) in self.state_spec.items()
        }

    def call(self, frame, state):
        self._check(frame, state)
        backbone = self.model.backbone
        x = ops.expand_dims(ops.cast(frame, backbone.input.dtype), 1)
        states = {neuron: state[name] for name, neuron in self.neurons.items()}
        with neuron_scope(states):
            for layer in backbone.steps():
                x = layer(x, training=False)
            for layer in self.model.layers:
                if layer is not backbone and not isinstance(layer, _LEFT_OUT):
                    x = layer(x)
        steps = state["steps"] + 1
        share = ops.cast(ops.expand_dims(steps, -1), x.dtype)
        mean = state["mean"] + (x - state["mean"]) / share
        potentials = {name: states[neuron] for name, neuron in self.neurons.items()}
        return mean, {"steps": steps, "mean": mean, **potentials}

    def compute_output_spec(self, frame, state):
        self._check(frame, state)
        state = {
            name: keras.KerasTensor((frame.shape[0], *shape), dtype)
            for name, (shape, dtype, _) in self.state_spec.items()
        }
        return state["mean"], state

    def get_config(self):
        config = super().get_config()
        return {**config, "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})

    def _check(self, frame, state):
        backbone = self.model.backbone
        expected = (*backbone.image_size, backbone.in_channels)
        if tuple(frame.shape[1:]) != expected:
            raise ValueError(
                f"frame must have the shape (batch, {', '.join(map(str, expected))}). "
                f"Received: {tuple(frame.shape)}"
            )
        if state.keys() != self.state_spec.keys():
            raise ValueError(
                "state must be one of initial_state, reset or the call before. "
                f"Missing: {sorted(self.state_spec.keys() - state.keys())}, "
                f"unknown: {sorted(state.keys() - self.state_spec.keys())}"
            )
        for name, (shape, _, _) in self.state_spec.items():
            if tuple(state[name].shape) != (frame.shape[0], *shape):
                raise ValueError(
                    f"state[{name!r}] must have the shape "
                    f"{(frame.shape[0], *shape)}. "
                    f"Received: {tuple(state[name].shape)}"
                )


@keras.saving.register_keras_serializable(package="keras_qkformer")
class StreamingQKFormer(StreamingClassifier):
    """`StreamingClassifier` by its name of when there was one family.

    Not the same class under two names: files of weights have the name of the class.
    """

"""A classifier that takes one time step per call, with its state in and out."""

from typing import Any, NamedTuple

import keras
import numpy.typing as npt
from keras import ops

from keras_qkformer.layers.former_names import former_path
from keras_qkformer.layers.lif import IF
from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.models.classifier import SpikingClassifier
from keras_qkformer.ops.normalization import wide_dtype

# A stream is for inference, which has no dropout.
_LEFT_OUT = (keras.layers.InputLayer, keras.layers.Dropout)


class StateEntry(NamedTuple):
    """One tensor of a state: its shape without the batch, dtype, and value at rest."""

    shape: tuple
    dtype: str
    rest: float


@keras.saving.register_keras_serializable(package="keras_qkformer")
class StreamingClassifier(keras.layers.Layer):
    """A classifier as a pure function of one frame and the previous state.

    With f the model for one time step and v its potentials:

        y[t], v[t] = f(frame[t], v[t-1])
        logits[t] = logits[t-1] + (y[t] - logits[t-1]) / t

    So after t frames the logits equal those of the whole sequence of t frames, for any
    t, even beyond the `time_steps` of the model. The stream shares layers and weights
    with the model, runs in inference mode only, and stores nothing between calls.

    The state is a flat dictionary of tensors, batch first. Its size depends on the
    model and the batch, not on the number of frames. Samples do not affect each other.

        steps               int32 (batch,)             number of frames so far
        mean                (batch, num_classes)       logits so far
        NEURON              (batch, ...)               potentials of a neuron layer

    NEURON is the path of the neuron layer, such as `patch_embed1_unit0` or
    `stage1_block1_attention_query`. All tensors but `steps` are float32 or wider.

    Differences from the source: the authors' code has no such mode.

    Args:
        model: built `SpikingClassifier`.
        former_names: bool. Whether the state has the names of before neurons were
            renamed. Set in models that were saved then, because their inputs have them.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        frame: input of one time step. For a model of event frames, the next frame; for
            a model of images, the same image at every time step, or the next frame of
            a film.
        state: dict from `initial_state`, `reset` or the previous call; `None` for the
            first frame, before which every neuron is at rest.

    Input shape:
        `(batch, height, width, in_channels)`, and the state.

    Output shape:
        Pair of the logits `(batch, num_classes)` and the state. Without a head, the
        pooled features `(batch, channels)` stand in for the logits.

    Raises:
        ValueError: if `model` is not a `SpikingClassifier`, has
            `membrane_state="batch"` or neurons whose potentials nobody else can keep,
            or its layers do not form a chain; or if a frame or state does not fit the
            model.

    Example:
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=3)
    >>> stream = models.StreamingClassifier(model)
    >>> image, state = np.ones((2, 8, 8, 1), "float32"), stream.initial_state(2)
    >>> for _ in range(3):
    ...     logits, state = stream(image, state)
    >>> np.allclose(*map(ops.convert_to_numpy, (logits, model(image))), atol=1e-5)
    True
    """

    def __init__(self, model: SpikingClassifier, former_names: bool = False, **kwargs):
        # Keep the dtypes of the state, whatever dtype the model computes in.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(model, SpikingClassifier):
            raise ValueError(f"model must be a SpikingClassifier. Received: {model!r}")
        backbone = model.backbone
        if backbone.membrane_state != "sample":
            raise ValueError(
                "A model must keep every sample's state to itself to be streamed. "
                f"Received: membrane_state={backbone.membrane_state!r}"
            )
        backbone.steps()  # Raises if the layers form no chain.
        _check_neurons(model)
        self.model = model
        self.former_names = former_names
        dtype = keras.backend.standardize_dtype(model.output.dtype)
        self.state_spec = {
            "steps": StateEntry((), "int32", 0),
            "mean": StateEntry(model.output_shape[1:], dtype, 0.0),
        }
        self.neurons = {}
        for name, layer in model.neurons().items():
            if former_names:
                path = former_path(layer.path)
                name = path.removesuffix("/neuron").replace("/", "_")
            _, _, *shape = layer.get_build_config()["input_shape"]
            rest = 0.0 if layer.v_reset is None else layer.v_reset
            dtype = wide_dtype(layer.compute_dtype)
            self.state_spec[name] = StateEntry(tuple(shape), dtype, rest)
            self.neurons[name] = layer

    def initial_state(self, batch_size: int) -> dict[str, Any]:
        """Return the state before the first frame: every neuron at rest.

        Args:
            batch_size: int > 0.

        Returns:
            dict of tensors, see the class.
        """
        return {
            name: ops.full((batch_size, *shape), rest, dtype)
            for name, (shape, dtype, rest) in self.state_spec.items()
        }

    def reset(self, state: dict[str, Any], samples: npt.ArrayLike) -> dict[str, Any]:
        """Return a state in which some samples start again from rest.

        Args:
            state: dict from `initial_state`, `reset` or the previous call.
            samples: bool array `(batch,)`. True for the samples to reset.

        Returns:
            dict of tensors, like `state`.
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

    def call(self, frame, state=None):
        logits, state, _ = self.look(frame, state)
        return logits, state

    def look(
        self, frame: Any, state: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Take one frame, as a call does, and return the features of all stages, too.

        Args:
            frame: see the class.
            state: see the class.

        Returns:
            `(logits, state, features)`. `features` is a dict from stages, in order, to
            tensors `(batch, 1, height, width, channels)` of this frame.
        """
        if state is None:
            state = self.initial_state(ops.shape(frame)[0])
        self._check(frame, state)
        backbone = self.model.backbone
        x = ops.expand_dims(ops.cast(frame, backbone.input.dtype), 1)
        states = {neuron: state[name] for name, neuron in self.neurons.items()}
        ends, features = backbone.stage_ends(), {}
        with neuron_scope(states):
            for layer in backbone.steps():
                x = layer(x, training=False)
                if layer in ends:
                    features[ends[layer]] = x
            for layer in self.model.layers:
                if layer is not backbone and not isinstance(layer, _LEFT_OUT):
                    x = layer(x)
        steps = state["steps"] + 1
        count = ops.cast(ops.expand_dims(steps, -1), x.dtype)
        mean = state["mean"] + (x - state["mean"]) / count
        potentials = {name: states[neuron] for name, neuron in self.neurons.items()}
        return mean, {"steps": steps, "mean": mean, **potentials}, features

    def compute_output_spec(self, frame, state=None):
        if state is not None:
            self._check(frame, state)
        state = {
            name: keras.KerasTensor((frame.shape[0], *shape), dtype)
            for name, (shape, dtype, _) in self.state_spec.items()
        }
        return state["mean"], state

    def get_config(self):
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "former_names": self.former_names,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{"former_names": True, **config, "model": model})

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
                "state must come from initial_state, reset or the previous call. "
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


def _check_neurons(model):
    """Raise `ValueError` if a neuron would start at rest with every frame."""
    templates = {"head_neuron": model.backbone.head_neuron()}
    for layer in model._flatten_layers():
        template = getattr(layer, "neuron", None)
        if isinstance(template, dict):
            template = keras.saving.deserialize_keras_object(dict(template))
            templates[layer.path] = template
    for path, neuron in templates.items():
        if not isinstance(neuron, IF | None):
            raise ValueError(
                "The neurons of a stream must be IF, LIF or ParametricLIF, or "
                "subclasses, whose potentials it can keep from frame to frame. "
                f"Received: {type(neuron).__name__} in {path}"
            )


@keras.saving.register_keras_serializable(package="keras_qkformer")
class StreamingQKFormer(StreamingClassifier):
    """`StreamingClassifier` by its earlier name.

    It is a class of its own, because weights files hold the name of the class.
    """

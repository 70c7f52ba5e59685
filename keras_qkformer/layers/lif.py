"""Neurons as layers: LIF, IF and parametric LIF over the time axis."""

import contextlib
import math
import threading

import keras
from keras import ops

from keras_qkformer.ops.lif import (
    if_sequence,
    lif_sequence,
    parametric_lif_sequence,
)
from keras_qkformer.ops.neuron import check_potentials, check_tau
from keras_qkformer.ops.normalization import wide_dtype
from keras_qkformer.ops.surrogate import surrogate_derivative


class _Stream(threading.local):
    """What `streaming` has set on this thread.

    Not a `ContextVar`, which `torch.compile` can't follow: every neuron would break its
    graph.
    """

    states = None


_stream = _Stream()


@contextlib.contextmanager
def streaming(states):
    """Inside, layers take one time step of a stream instead of a whole sequence.

    Every neuron that is a key of `states` starts from the potentials there, and puts
    its last ones in their place. An image is not repeated over time. It holds for the
    thread that enters it; the layers themselves remember nothing.

    Args:
        states: dict from neuron layers to tensors `(batch, ...)`; it is changed.
    """
    before, _stream.states = _stream.states, states
    try:
        yield
    finally:
        _stream.states = before


def is_streaming():
    """Whether the layers run inside `streaming`."""
    return _stream.states is not None


@keras.saving.register_keras_serializable(package="keras_qkformer")
class IF(keras.layers.Layer):
    """Integrate-and-fire neurons over the time axis: no leak.

    For every neuron and step t, starting at rest in every call:

        h[t] = v[t-1] + x[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset if s[t] else h[t]               hard reset
        v[t] = h[t] - v_threshold * s[t]               soft reset, v_reset=None

    Differences from the source: none intended. It fires at equality, unlike some
    libraries. Membrane potential is unit-free, and float32 or wider.

    Args:
        v_threshold: float. Potential at which a neuron fires.
        v_reset: float < `v_threshold`: potential after a spike and at t = 0. `None`
            for soft reset, which subtracts the threshold and starts at 0.
        detach_reset: bool. If true, no gradient flows through the reset.
        surrogate: str. Name of the surrogate derivative, see `ops.register_surrogate`.
        alpha: float > 0. Steepness of the surrogate, or `None` for its default.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        inputs: input current.
        initial_state: tensor `(batch, ...)` of potentials, or `None` for rest.
        normalization: `keras_qkformer.ops.Normalization` of the inputs, or `None`.
        return_state: bool. Whether to return the last potentials too.

    Input shape:
        `(batch, time, ...)`.

    Output shape:
        Same as the input; every value is 0 or 1. With `return_state`, a pair with the
        potentials `(batch, ...)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> spikes = IF()(np.full((1, 4), 0.5, "float32"))
    >>> ops.convert_to_numpy(spikes).tolist()  # fires on every second step
    [[0.0, 1.0, 0.0, 1.0]]

    Reference:
        SpikingJelly `MultiStepIFNode`.
    """

    def __init__(
        self,
        v_threshold=1.0,
        v_reset=0.0,
        detach_reset=True,
        surrogate="sigmoid",
        alpha=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_potentials(v_threshold, v_reset)
        surrogate_derivative(surrogate, alpha)  # Raises if there is none.
        self.v_threshold = v_threshold
        self.v_reset = v_reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate
        self.alpha = alpha

    def call(self, inputs, initial_state=None, normalization=None, return_state=False):
        states = _stream.states
        if states is None or self not in states:
            return self._sequence(inputs, initial_state, normalization, return_state)
        spikes, states[self] = self._sequence(
            inputs, states[self], normalization, return_state=True
        )
        return spikes

    def _sequence(self, inputs, initial_state, normalization, return_state):
        return if_sequence(
            inputs,
            initial_state,
            normalization=normalization,
            return_state=return_state,
            **self._options(),
        )

    def compute_output_spec(
        self, inputs, initial_state=None, normalization=None, return_state=False
    ):
        spikes = keras.KerasTensor(inputs.shape, self.compute_dtype)
        if not return_state:
            return spikes
        state_shape = (*inputs.shape[:1], *inputs.shape[2:])
        return spikes, keras.KerasTensor(state_shape, wide_dtype(self.compute_dtype))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self._options()}

    def _options(self):
        return {
            "v_threshold": self.v_threshold,
            "v_reset": self.v_reset,
            "detach_reset": self.detach_reset,
            "surrogate": self.surrogate,
            "alpha": self.alpha,
        }


@keras.saving.register_keras_serializable(package="keras_qkformer")
class LIF(IF):
    """Leaky integrate-and-fire neurons over the time axis.

    For every neuron and step t, starting at rest in every call:

        h[t] = v[t-1] + (x[t] - (v[t-1] - v_reset)) / tau     decay_input=True
        h[t] = v[t-1] - (v[t-1] - v_reset) / tau + x[t]       decay_input=False
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset if s[t] else h[t]                      hard reset
        v[t] = h[t] - v_threshold * s[t]                      soft: v_reset=None

    The gradient of `s[t]` with respect to `h[t]` is that of the surrogate, by default
    of `sigmoid(4 * (h[t] - v_threshold))`; none flows through the reset.

    Differences from the source: none intended. It fires at equality, unlike some
    libraries. Membrane potential is unit-free, and float32 or wider.

    Args:
        tau: float > 1. Membrane time constant, in time steps.
        decay_input: bool. Whether the input is divided by `tau` as well.
        **kwargs: arguments of `IF` (`v_threshold`, `v_reset`, `detach_reset`,
            `surrogate`, `alpha`) and of `keras.layers.Layer`.

    Call arguments:
        inputs: input current.
        initial_state: tensor `(batch, ...)` of potentials, or `None` for rest.
        normalization: `keras_qkformer.ops.Normalization` of the inputs, or `None`.
        return_state: bool. Whether to return the last potentials too.

    Input shape:
        `(batch, time, ...)`.

    Output shape:
        Same as the input; every value is 0 or 1. With `return_state`, a pair with the
        potentials `(batch, ...)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> spikes = LIF()(np.full((1, 4), 1.5, "float32"))
    >>> ops.convert_to_numpy(spikes).tolist()  # h = 0.75, 1.125, reset, and again
    [[0.0, 1.0, 0.0, 1.0]]

    Reference:
        SpikingJelly `MultiStepLIFNode(tau=2.0, detach_reset=True)`, as used in
        [Zhou et al., 2024](https://openreview.net/forum?id=AVd7DpiooC).
    """

    def __init__(self, tau=2.0, decay_input=True, **kwargs):
        super().__init__(**kwargs)
        check_tau(tau)
        self.tau = tau
        self.decay_input = decay_input

    def _sequence(self, inputs, initial_state, normalization, return_state):
        return lif_sequence(
            inputs,
            initial_state,
            normalization=normalization,
            return_state=return_state,
            **self._options(),
        )

    def _options(self):
        return {
            **super()._options(),
            "tau": self.tau,
            "decay_input": self.decay_input,
        }


@keras.saving.register_keras_serializable(package="keras_qkformer")
class ParametricLIF(IF):
    """LIF neurons with one learnable time constant per layer.

    As `LIF`, with `1 / tau = sigmoid(w)` and the trainable scalar `w`, which starts at
    `-log(init_tau - 1)`.

    Args:
        init_tau: float > 1. Membrane time constant before training, in time steps.
        decay_input: bool. Whether the input is divided by `tau` as well.
        **kwargs: arguments of `IF` (`v_threshold`, `v_reset`, `detach_reset`,
            `surrogate`, `alpha`) and of `keras.layers.Layer`.

    Call arguments:
        inputs: input current.
        initial_state: tensor `(batch, ...)` of potentials, or `None` for rest.
        normalization: `keras_qkformer.ops.Normalization` of the inputs, or `None`.
        return_state: bool. Whether to return the last potentials too.

    Input shape:
        `(batch, time, ...)`.

    Output shape:
        Same as the input; every value is 0 or 1. With `return_state`, a pair with the
        potentials `(batch, ...)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> neuron = ParametricLIF(init_tau=2.0)
    >>> spikes = neuron(np.full((1, 4), 1.5, "float32"))
    >>> ops.convert_to_numpy(spikes).tolist(), len(neuron.trainable_variables)
    ([[0.0, 1.0, 0.0, 1.0]], 1)

    Reference:
        [Fang et al., 2021](https://arxiv.org/abs/2007.05785); SpikingJelly
        `MultiStepParametricLIFNode`.
    """

    def __init__(self, init_tau=2.0, decay_input=True, **kwargs):
        super().__init__(**kwargs)
        check_tau(init_tau)
        self.init_tau = init_tau
        self.decay_input = decay_input

    def build(self, input_shape):
        self.w = self.add_weight(
            name="w",
            shape=(),
            initializer=keras.initializers.Constant(-math.log(self.init_tau - 1.0)),
            autocast=False,  # It belongs to the potentials, which stay wide.
        )

    def _sequence(self, inputs, initial_state, normalization, return_state):
        options = self._options()
        del options["init_tau"]
        return parametric_lif_sequence(
            inputs,
            ops.sigmoid(ops.convert_to_tensor(self.w)),
            initial_state,
            normalization=normalization,
            return_state=return_state,
            **options,
        )

    def _options(self):
        return {
            **super()._options(),
            "init_tau": self.init_tau,
            "decay_input": self.decay_input,
        }


NEURONS = {"lif": LIF, "if": IF, "plif": ParametricLIF}


def get_neuron(neuron, tau=None, surrogate="sigmoid"):
    """A neuron layer from its name.

    Args:
        neuron: str. `"lif"`, `"if"` or `"plif"`.
        tau: float > 1, or `None` for the default. Time constant in time steps, at the
            start of training for `"plif"`; `"if"` has none.
        surrogate: str. Name of the surrogate derivative.

    Raises:
        ValueError: if the name is unknown, or `tau` is given for a neuron without leak.
    """
    if neuron not in NEURONS:
        raise ValueError(
            f"neuron must be one of {sorted(NEURONS)}. Received: neuron={neuron!r}"
        )
    options = {"surrogate": surrogate}
    if tau is not None:
        if neuron == "if":
            raise ValueError(f"neuron='if' has no tau. Received: tau={tau}")
        options["init_tau" if neuron == "plif" else "tau"] = tau
    return NEURONS[neuron](**options)


def serialize_neuron(neuron):
    """The serialized form of a neuron given as a layer, a name, or that form already.

    Layers keep this form as the template of their neurons: a layer kept as an attribute
    would be tracked as a part that is never built.
    """
    if isinstance(neuron, str):
        neuron = get_neuron(neuron)
    if isinstance(neuron, keras.layers.Layer):
        return keras.saving.serialize_keras_object(neuron)
    if isinstance(neuron, dict):
        return neuron
    raise ValueError(
        f"neuron must be a layer or one of {sorted(NEURONS)}. Received: {neuron!r}"
    )


def neuron_for(layer, name="neuron", **changes):
    """A new neuron for a place inside `layer`, made from the template `layer.neuron`.

    Args:
        layer: the layer that will own it and whose dtype policy it takes.
        name: str. Name of the new neuron.
        **changes: constructor arguments to replace, such as `v_threshold`.
    """
    template = keras.saving.deserialize_keras_object(dict(layer.neuron))
    config = {**template.get_config(), **changes}
    config.update(name=name, dtype=layer.dtype_policy)
    return type(template).from_config(config)

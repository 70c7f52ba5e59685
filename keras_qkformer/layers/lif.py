"""Neuron layers over the time axis: IF, LIF and parametric LIF."""

import math

import keras
from keras import ops

from keras_qkformer.layers.former_names import former_path
from keras_qkformer.layers.neuron_scope import (
    fire_in_scope,
    record_spikes,
    states_in_scope,
)
from keras_qkformer.ops.neuron import Neuron, check_potentials, check_tau
from keras_qkformer.ops.neuron_passes import run
from keras_qkformer.ops.normalization import wide_dtype
from keras_qkformer.ops.surrogate import surrogate_derivative


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

    To write a neuron with other dynamics, subclass `keras.layers.Layer`: layers take it
    like this one. A subclass of this class can't change `call`.

    Args:
        v_threshold: float. Potential at which a neuron fires.
        v_reset: float < `v_threshold`. Potential after a spike and before the first
            time step. `None` for soft reset, which subtracts the threshold and starts
            at 0.
        detach_reset: bool. If true, no gradient flows through the reset.
        surrogate: str. Name of the surrogate derivative, see `ops.register_surrogate`.
        alpha: float > 0. Steepness of the surrogate, or `None` for its default.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        inputs: input current.
        initial_state: tensor `(batch, ...)`: potentials, or `None` to start at rest.
        normalization: `keras_qkformer.ops.Normalization` to apply to the inputs first,
            or `None`.
        return_state: bool. Whether to return the last potentials too.

    Input shape:
        `(batch, time, ...)`.

    Output shape:
        Same as the input; every value is 0 or 1. With `return_state`, a pair with the
        potentials `(batch, ...)`.

    Raises:
        ValueError: if an argument is out of range.
        TypeError: if a subclass defines `call`.

    Example:
    >>> spikes = IF()(np.full((1, 4), 0.5, "float32"))
    >>> ops.convert_to_numpy(spikes).tolist()  # fires on every second step
    [[0.0, 1.0, 0.0, 1.0]]

    Reference:
        SpikingJelly `MultiStepIFNode`.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls):
            # Units of convolution and BatchNorm pass it the current before BatchNorm,
            # and streams and exports run the neuron without it.
            raise TypeError(
                "A subclass of IF, LIF or ParametricLIF must not define call; a neuron "
                "with a call of its own is a subclass of keras.layers.Layer. "
                f"Received: {cls.__name__}"
            )

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: str = "sigmoid",
        alpha: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_potentials(v_threshold, v_reset)
        surrogate_derivative(surrogate, alpha)  # Raises if invalid.
        self.v_threshold = v_threshold
        self.v_reset = v_reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate
        self.alpha = alpha

    def call(self, inputs, initial_state=None, normalization=None, return_state=False):
        states, fire = states_in_scope(), fire_in_scope()
        if fire is not None:
            if normalization is not None or return_state:
                raise ValueError(
                    "neuron_scope(fire=...) needs inference in float32 or wider, "
                    f"without return_state. Received: normalization={normalization}, "
                    f"return_state={return_state}"
                )
            spikes = result = fire(self, inputs)
        elif self in states:
            spikes, states[self] = self._sequence(
                inputs, states[self], normalization, return_state=True
            )
            result = (spikes, states[self]) if return_state else spikes
        else:
            result = self._sequence(inputs, initial_state, normalization, return_state)
            spikes = result[0] if return_state else result
        record_spikes(self, spikes)
        return result

    def dynamics(self, inputs):
        """Compute the spikes of neurons at rest, whatever scope the call is in.

        Args:
            inputs: tensor `(batch, time, ...)`: input current.

        Returns:
            Tensor of the same shape, 0 or 1.
        """
        return self._sequence(inputs, None, None, return_state=False)

    def potentials(self, inputs, spikes):
        """Compute the potentials before the reset, had the neurons fired as given.

        Args:
            inputs: tensor `(batch, time, ...)`: input current.
            spikes: tensor of the same shape, 0 or 1. They decide which neurons are
                reset.

        Returns:
            Tensor of the same shape: `h[t]` of the class, float32 or wider.
        """
        neuron, decay = self.equations()
        v, history = neuron.rest, []
        inputs = ops.cast(inputs, wide_dtype(inputs.dtype))
        for x, s in zip(
            ops.unstack(inputs, axis=1), ops.unstack(spikes, axis=1), strict=True
        ):
            h = neuron.charge(v, x, decay)
            v = neuron.reset_by(h, ops.cast(s, h.dtype))
            history.append(h)
        return ops.stack(history, axis=1)

    def equations(self):
        """Return the `ops.neuron.Neuron`, and the tensor `1 / tau` if it is learned."""
        return Neuron(leak=None, decay_input=False, **self._options()), None

    def _sequence(self, inputs, initial_state, normalization, return_state):
        neuron, decay = self.equations()
        return run(neuron, inputs, initial_state, decay, return_state, normalization)

    def load_own_variables(self, store):
        if self.weights and not len(store):
            # Keras looks for weights by the path of attributes, which were renamed. It
            # passes the open file, set to that path, and a path is set by `get`.
            store = store.get(former_path(store._h5_entry_path))
        super().load_own_variables(store)

    def __repr__(self):
        options = ", ".join(f"{k}={v!r}" for k, v in self._options().items())
        return f"<{type(self).__name__} name={self.name}, {options}>"

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
    of `sigmoid(4 * (h[t] - v_threshold))`; none flows through the reset unless
    `detach_reset` is false.

    Differences from the source: none intended. It fires at equality, unlike some
    libraries. Membrane potential is unit-free, and float32 or wider.

    Args:
        tau: float > 1. Membrane time constant, in time steps.
        decay_input: bool. Whether to divide the input by `tau` as well.
        **kwargs: arguments of `IF` (`v_threshold`, `v_reset`, `detach_reset`,
            `surrogate`, `alpha`) and of `keras.layers.Layer`.

    Call arguments:
        inputs: input current.
        initial_state: tensor `(batch, ...)`: potentials, or `None` to start at rest.
        normalization: `keras_qkformer.ops.Normalization` to apply to the inputs first,
            or `None`.
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

    def __init__(self, tau: float = 2.0, decay_input: bool = True, **kwargs):
        super().__init__(**kwargs)
        check_tau(tau)
        self.tau = tau
        self.decay_input = decay_input

    def equations(self):
        options = self._options()
        return Neuron(leak=options.pop("tau"), **options), None

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
        decay_input: bool. Whether to divide the input by `tau` as well.
        **kwargs: arguments of `IF` (`v_threshold`, `v_reset`, `detach_reset`,
            `surrogate`, `alpha`) and of `keras.layers.Layer`.

    Call arguments:
        inputs: input current.
        initial_state: tensor `(batch, ...)`: potentials, or `None` to start at rest.
        normalization: `keras_qkformer.ops.Normalization` to apply to the inputs first,
            or `None`.
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

    def __init__(self, init_tau: float = 2.0, decay_input: bool = True, **kwargs):
        super().__init__(**kwargs)
        check_tau(init_tau)
        self.init_tau = init_tau
        self.decay_input = decay_input

    def build(self, input_shape):
        self.w = self.add_weight(
            name="w",
            shape=(),
            initializer=keras.initializers.Constant(-math.log(self.init_tau - 1.0)),
            autocast=False,  # It must stay as wide as the potentials.
        )

    def equations(self):
        options = self._options()
        del options["init_tau"]
        decay = ops.sigmoid(ops.convert_to_tensor(self.w))
        return Neuron(leak="learned", **options), decay

    def _options(self):
        return {
            **super()._options(),
            "init_tau": self.init_tau,
            "decay_input": self.decay_input,
        }

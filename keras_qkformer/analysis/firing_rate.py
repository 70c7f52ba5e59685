"""How often the neurons of a model fire."""

import keras
from keras import ops

from keras_qkformer.layers.neuron_scope import neuron_scope


def firing_rates(model, inputs):
    """Return the firing rate of every neuron layer, in inference mode.

    The rate of a layer is the mean of its spikes over neurons and time steps.

    Args:
        model: a `SpikingClassifier`.
        inputs: array of the shape and range that the model takes, batch first.

    Returns:
        Dictionary from the paths of the layers, such as `"patch_embed1/unit0"`, to
        NumPy arrays `(batch,)` in [0, 1]: spikes per neuron and time step, for each
        example.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> rates = firing_rates(model, np.zeros((3, 8, 8, 1), "float32"))
    >>> len(rates), rates["patch_embed1/unit0"].tolist()  # Nothing in, no spikes.
    (19, [0.0, 0.0, 0.0])
    """
    return firing_rate_model(model).predict(inputs, verbose=0)


def firing_rate_model(model):
    """Return a model whose `predict` returns firing rates.

    Use it for many batches: `firing_rates` makes a new model in every call.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        `keras.Model` with the input of `model` and the output of `firing_rates`.
    """
    example = keras.Input(model.input_shape[1:], dtype=model.input.dtype)
    return keras.Model(example, _Rates(model)(example))


class _Rates(keras.layers.Layer):
    def __init__(self, model):
        super().__init__(autocast=False)
        self.model = model

    def call(self, inputs):
        rates = {}

        def record(neuron, spikes):
            rate = ops.mean(ops.cast(spikes, "float32"), tuple(range(1, spikes.ndim)))
            rates[neuron.path.removesuffix("/neuron")] = rate

        with neuron_scope(record=record):
            self.model(inputs, training=False)
        return rates

"""How often the neurons of a model fire."""

import keras
from keras import ops

from keras_qkformer.layers.neuron_scope import neuron_scope


def firing_rates(model, inputs):
    """The mean of the spikes of every layer of neurons, in inference mode.

    Args:
        model: a `SpikingClassifier`.
        inputs: array of the shape and range that the model takes, batch first.

    Returns:
        Dictionary from the paths of the layers, such as `"patch_embed1/unit0"`, to
        NumPy arrays `(batch,)` in [0, 1]: the share of the neurons and time steps with
        a spike, for each example.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> rates = firing_rates(model, np.zeros((3, 8, 8, 1), "float32"))
    >>> len(rates), rates["patch_embed1/unit0"].tolist()  # Nothing in, no spikes.
    (19, [0.0, 0.0, 0.0])
    """
    return firing_rate_model(model).predict(inputs, verbose=0)


def firing_rate_model(model):
    """A model whose `predict`, compiled once, gives what `firing_rates` gives."""
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

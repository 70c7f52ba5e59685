"""How often the neurons of a model fire.

`firing_rates` returns the rates of each example of an array. `activity.ActivityMeter`
returns the `LayerRates` of any number of examples, and `LogFiringRates` logs rates
while a model trains.
"""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.ops.normalization import wide_dtype


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
    return _Rates(model)


class _Rates(keras.Model):
    # A functional model would trace all layers once more, for the output shape.
    def __init__(self, model):
        super().__init__(autocast=False, name="rates")
        self.model = model
        self.built = True

    def call(self, inputs):
        rates = {}
        one_each = ops.zeros_like(ops.sum(inputs, tuple(range(1, inputs.ndim))))

        def record(neuron, spikes):
            rate = ops.mean(ops.cast(spikes, "float32"), tuple(range(1, spikes.ndim)))
            # With the state of a batch, its examples share one sequence and one rate.
            rate = rate + ops.cast(one_each, rate.dtype)
            rates[neuron.path.removesuffix("/neuron")] = rate

        with neuron_scope(record=record):
            self.model(inputs, training=False)
        return rates


class LogFiringRates(keras.callbacks.Callback):
    """Adds firing rates to the logs of every epoch, for history and files.

    The logs get `firing_rate`, the mean of the rates of all neuron layers, and
    `silent_layers`, the number of those in which no neuron fired.

    Args:
        inputs: array `(examples, ...)` as the model takes it. Their rates are measured
            after each epoch, in inference mode.

    Example:
        model.fit(images, labels, callbacks=[LogFiringRates(images[:64])])
    """

    def __init__(self, inputs):
        super().__init__()
        self.inputs = inputs
        self._rates = None

    def on_epoch_end(self, epoch, logs=None):
        if self._rates is None:  # Compiled once.
            self._rates = firing_rate_model(self.model)
        rates = self._rates.predict(self.inputs, verbose=0).values()
        means = [float(rate.mean()) for rate in rates]
        logs["firing_rate"] = sum(means) / len(means)
        logs["silent_layers"] = float(means.count(0.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRates:
    """What the neurons of one layer fired, over all examples.

    Attributes:
        path: str. Path of the layer, such as `"stage1_block1/attention/query"`.
        count: int. Number of neurons.
        rate: float in [0, 1]. Spikes per neuron and time step.
        rate_by_step: list of float, one per time step.
        rate_by_class: dict from class names to float, or to `None` for a class without
            examples. `None` without labels.
        rate_by_channel: list of float, one per channel.
        largest: float. 1 if a neuron fired, else 0: larger numbers arise only where
            spikes are added, in the inputs of operations.
        dead: int. Neurons that never fired.
        saturated: int. Neurons that fired at every time step of every example.
    """

    path: str
    count: int
    rate: float
    rate_by_step: list
    rate_by_class: dict | None
    rate_by_channel: list
    largest: float
    dead: int
    saturated: int


class SpikeSums:
    """The spikes of one layer, added up over any number of batches.

    Args:
        path: str. Path of the layer.
        class_names: sequence of str, for rates by class; empty for none.
    """

    def __init__(self, path, class_names=()):
        self.path = path
        self.class_names = class_names
        self.examples = 0
        self.by_neuron = self.by_step = 0.0
        self.by_class = np.zeros(len(class_names))
        self.of_class = np.zeros(len(class_names), "int64")

    def add(self, sums, count, labels=None):
        """Add what `sums_of_spikes` returned for one batch.

        Args:
            sums: dict of arrays.
            count: int. Number of examples with a weight of 1, which come first.
            labels: int array `(count,)`, or `None`.
        """
        rows = sums["rows"][:count].astype("float64")
        steps = rows.sum(tuple(range(2, rows.ndim)))
        self.examples += count
        self.by_step = self.by_step + steps.sum(0)
        self.by_neuron = self.by_neuron + sums["neurons"].astype("float64")
        if labels is not None and len(self.class_names):
            np.add.at(self.by_class, labels, steps.sum(1))
            np.add.at(self.of_class, labels, 1)

    def rates(self):
        """Return the `LayerRates` of all examples so far."""
        neurons, steps = self.by_neuron.size, len(self.by_step)
        channels = self.by_neuron.shape[-1]
        per_example = neurons * steps
        by_class = None
        if self.of_class.any():
            by_class = {
                name: float(spikes / (examples * per_example)) if examples else None
                for name, spikes, examples in zip(
                    self.class_names, self.by_class, self.of_class, strict=True
                )
            }
        by_channel = self.by_neuron.reshape(-1, channels).sum(0)
        of_channel = self.examples * steps * neurons // channels
        return LayerRates(
            path=self.path,
            count=neurons,
            rate=float(self.by_step.sum() / (self.examples * per_example)),
            rate_by_step=(self.by_step / (self.examples * neurons)).tolist(),
            rate_by_class=by_class,
            rate_by_channel=(by_channel / of_channel).tolist(),
            largest=float(self.by_neuron.any()),
            dead=int(np.sum(self.by_neuron == 0)),
            saturated=int(np.sum(self.by_neuron >= self.examples * steps)),
        )


def sums_of_spikes(spikes, totals):
    """Add up the spikes of one batch, for `SpikeSums`.

    Args:
        spikes: tensor `(batch, time, ..., channels)`, up to 2**24 in a row of the map.
        totals: tensor `(time, ..., channels)`, their `sum_over_examples`.

    Returns:
        Dict of tensors: `rows`, the sums over all axes from the fourth on, for each
        example; and `neurons` `(..., channels)`, the sums over examples and time.
    """
    rows = ops.cast(spikes, totals.dtype)
    if rows.ndim > 3:  # Not as a product of matrices: XLA would write the spikes first.
        rows = ops.sum(rows, tuple(range(3, rows.ndim)))
    return {"rows": rows, "neurons": ops.sum(totals, 0)}


def sum_over_examples(x, weights):
    """Sum over the first axis, as a product of matrices, which is fast everywhere.

    Whole numbers up to 256 are exact also where products round their factors to
    bfloat16, as on TPUs.

    Args:
        x: tensor `(batch, ...)`.
        weights: tensor `(batch,)` of 1, or 0 for examples that do not count.

    Returns:
        Tensor `(...)`, float32 or wider.
    """
    x = ops.cast(x, wide_dtype(x.dtype))
    flat = ops.reshape(x, (-1, math.prod(x.shape[1:])))
    return ops.reshape(ops.matmul(ops.cast(weights, x.dtype), flat), x.shape[1:])

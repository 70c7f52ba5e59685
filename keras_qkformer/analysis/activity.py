"""Measures, in one pass over data, what operations take and what neurons fire.

Sums are made where the model runs, in one compiled function, and added up in float64 on
the host, so memory does not grow with the number of examples. They are exact: no sum of
spikes in float32 reaches 2**24, above which it can't hold every whole number.
"""

import dataclasses
import math
import weakref

import keras
import numpy as np
from keras import ops

from keras_qkformer.analysis.firing_rate import (
    SpikeSums,
    sum_over_examples,
    sums_of_spikes,
)
from keras_qkformer.analysis.operations import Operation, operations
from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.layers.operation_scope import operation_scope
from keras_qkformer.ops.normalization import wide_dtype

LARGEST_BATCH = 16
"""Examples that pass the model together: larger batches are cut."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputStatistics:
    """What goes into an operation, or one factor of a product, over all examples.

    Attributes:
        mean: float. Mean of all entries and time steps: the rate, if they are spikes.
        nonzero: float in [0, 1]. Share of entries other than 0.
        largest: float.
        is_binary: bool. Whether every entry is 0 or 1.
        is_whole: bool. Whether every entry is a whole number, and none negative.
        mean_by_step: list of float, the mean of each time step.
    """

    mean: float
    nonzero: float
    largest: float
    is_binary: bool
    is_whole: bool
    mean_by_step: list


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperationActivity:
    """An operation and what went into it.

    Attributes:
        operation: `Operation`.
        inputs: tuple of `InputStatistics`, one for each of the operation's factors.
        events: float. Synaptic operations, mean per example: for each entry of the
            input that is not 0, the weights that it meets (fewer at borders). In a
            product of spikes with spikes, the pairs of two spikes that meet; of spikes
            with whole numbers, the numbers that the spikes select.
        events_by_value: float. The same, with an entry of n counted n times. `None`
            if an entry is no whole number, or negative, as in normalized pixels.
    """

    operation: Operation
    inputs: tuple
    events: float
    events_by_value: float | None


class ActivityMeter:
    """Adds up spikes and inputs of operations over any number of batches.

    Args:
        model: a `SpikingClassifier`.
        class_names: sequence of str, for rates by class; empty for none.

    Raises:
        ValueError: if examples share their potentials (`membrane_state="batch"`).

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> meter = ActivityMeter(model)
    >>> for _ in range(2):
    ...     logits, logits_of_steps = meter.update(np.zeros((3, 8, 8, 1), "float32"))
    >>> logits.shape, logits_of_steps.shape, meter.examples
    ((3, 10), (3, 2, 10), 6)
    >>> meter.neurons()[0].rate, meter.neurons()[0].dead  # Nothing in, no spikes.
    (0.0, 2048)
    """

    def __init__(self, model, class_names=()):
        if model.backbone.membrane_state != "sample":
            raise ValueError(
                "Activity is measured per example, so no example may depend on the "
                "others of its batch. Received: a model with "
                f"membrane_state={model.backbone.membrane_state!r}; load it with "
                "membrane_state='sample', which in batches of one is the same"
            )
        self.operations = operations(model)
        self.class_names = tuple(class_names)
        self.examples = 0
        self._watched = _Watched(model, self.operations)
        self._size = None
        self._spikes, self._products = {}, {}
        self._inputs = {
            key: _InputSums(channels)
            for operation in self.operations
            for key, channels in _channels(operation).items()
        }

    def update(self, inputs, labels=None):
        """Pass one batch through the model and add its activity.

        Args:
            inputs: array or tensor `(batch, ...)` as the model takes it. The first
                batch decides for how many examples the function is compiled.
            labels: int array `(batch,)` for rates by class, or `None`.

        Returns:
            `(logits, logits_of_steps)`: arrays `(batch, classes)` and
            `(batch, time_steps, classes)`; without a head, of its channels.

        Raises:
            ValueError: if the batch is empty, or a layer does not tell what its
                operations take.
        """
        inputs = ops.convert_to_numpy(inputs)
        count = len(inputs)
        if not count:
            raise ValueError(
                f"A batch must have examples. Received: shape {inputs.shape}"
            )
        if self._size is None:
            self._size = -(-count // -(-count // LARGEST_BATCH))
        found = []
        for start in range(0, count, self._size):
            piece = slice(start, start + self._size)
            own = None if labels is None else np.asarray(labels)[piece]
            found.append(self._update(inputs[piece], own))
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def _update(self, inputs, labels):
        count, padding = len(inputs), self._size - len(inputs)
        weights = np.repeat(np.float32([1, 0]), [count, padding])
        if padding:  # The last example again, with a weight of 0.
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], padding, 0)])
        found = self._watched.predict_on_batch([inputs, weights])
        for path, sums in found["spikes"].items():
            if path not in self._spikes:
                self._spikes[path] = SpikeSums(path, self.class_names)
            self._spikes[path].add(sums, count, labels)
        for name, sums in found["inputs"].items():
            self._inputs[name].add(sums, self._size)
        for path, pairs in found["products"].items():
            total = np.sum(pairs[:count], dtype="float64")
            self._products[path] = self._products.get(path, 0.0) + total
        self.examples += count
        return found["logits"][:count], found["logits_of_steps"][:count]

    def neurons(self):
        """Return the `LayerRates` of all neurons so far, in order of their calls."""
        found = self._spikes
        return [found[path].rates() for path in self._watched.paths if path in found]

    def activities(self):
        """Return what the operations have taken: a list of `OperationActivity`."""
        return [self._activity(operation) for operation in self.operations]

    def _activity(self, operation):
        sums = [self._inputs[key] for key in _channels(operation)]
        inputs = tuple(each.statistics(self.examples) for each in sums)
        first, source = sums[0], operation.source
        if operation.kind != "product":
            fan_out = operation.outputs if source is None else source.fan_out()
            repeats = operation.macs // operation.macs_once
            found = [repeats * np.sum(x * fan_out) for x in (first.count, first.sum)]
        elif all(each.is_binary for each in inputs):
            found = [self._products[operation.path]] * 2
        else:  # An entry of the first factor meets a row of the second.
            found = [source.head_dim * np.sum(x) for x in (first.count, first.sum)]
        events, by_value = (float(x) / self.examples for x in found)
        return OperationActivity(
            operation=operation,
            inputs=inputs,
            events=events,
            events_by_value=by_value if inputs[0].is_whole else None,
        )


class _Watched(keras.Model):
    """Runs a model and returns sums over what its layers take and fire."""

    # A functional model would trace all layers once more, for the output shape.
    def __init__(self, model, watched):
        super().__init__(autocast=False, name="watched")
        self.model = model
        self.watched = watched
        self.built = True
        self.paths = ()  # Of the neurons in order: JAX sorts a dictionary's keys.

    def call(self, examples):
        inputs, weights = examples
        notes = _Notes(self.watched, weights, self.model.backbone.time_steps)
        with (
            neuron_scope(record=notes.add_spikes),
            operation_scope(notes.add_inputs),
        ):
            logits, of_steps = self._logits(inputs, notes)
        missing = sorted(notes.keys - {*notes.inputs})
        if missing:
            raise ValueError(
                "A layer that describes its operations must tell what goes into them, "
                f"see `layers.operation_scope`. Received: nothing from {missing}"
            )
        self.paths = tuple(notes.spikes)
        return {
            "logits": logits,
            "logits_of_steps": of_steps,
            "spikes": notes.spikes,
            "inputs": notes.inputs,
            "products": notes.pairs,
        }

    def _logits(self, inputs, notes):
        """Logits, and those of each time step; adds what the head takes to `notes`."""
        *_, x = self.model.backbone(inputs, training=False).values()
        _, _, *head = self.model.layers  # Without the input and the backbone.
        for layer in head:
            if layer.name == "mean_over_time":
                of_steps = x
            elif layer.name == "head":
                notes.add_inputs(layer, inputs=x)
                rows = ops.reshape(of_steps, (-1, x.shape[-1]))
                shape = (-1, of_steps.shape[1], self.model.num_classes)
                of_steps = ops.reshape(layer(rows), shape)
            x = layer(x, training=False)
        return x, of_steps


class _Notes:
    """Sums over tensors, made as they come: nothing holds all tensors of a model."""

    def __init__(self, watched, weights, steps):
        self.keys = {key for each in watched for key in _channels(each)}
        self.spikes, self.inputs, self.pairs = {}, {}, {}
        self._products = [each for each in watched if each.kind == "product"]
        self._weights, self._steps = weights, steps
        # What an operation takes is often what a neuron fired, and query, key and value
        # take the same: by the tensor's number, a weak reference to it and its sums.
        self._known = {}

    def add_spikes(self, neuron, x):
        """Add what a neuron fires."""
        totals = sum_over_examples(x, self._weights)
        self.spikes[_place(neuron)] = sums_of_spikes(x, totals)
        # Of spikes, the sum is the number of those that are not 0, and nothing else is
        # to be known.
        self._known[id(x)] = weakref.ref(x), {"sum": ops.sum(totals, -1)}

    def add_inputs(self, layer, **tensors):
        """Add what an operation of a layer takes."""
        told = {_key(layer.path, name): x for name, x in tensors.items()}
        for key, x in told.items():
            if key in self.keys:
                self.inputs[key] = self._sums_of(x)
        for each in self._products:
            if each.path.rpartition("/")[0] == layer.path:
                self.pairs[each.path] = _pairs(each.source, told)

    def _sums_of(self, x):
        known, sums = self._known.get(id(x), (None, None))
        if known is None or known() is not x:
            sums = _sums(x, self._weights, self._steps)
            self._known[id(x)] = weakref.ref(x), sums
        return sums


def _place(neuron):
    return neuron.path.removesuffix("/neuron")


def _key(path, factor):
    return f"{path}:{factor}"


def _channels(operation):
    """The keys of what an operation takes, each with the size of its last axis."""
    source = operation.source
    if operation.kind == "product":
        path = operation.path.rpartition("/")[0]
        return {
            _key(path, factor): source.head_dim
            * (1 if factor == "context" else source.heads)
            for factor in operation.factors
        }
    channels = operation.inputs if source is None else source.input_shape[-1]
    return {_key(operation.path, "inputs"): channels}


def _sums(x, weights, steps):
    """Sums over the examples and the last axis, for each step and position."""
    if x.ndim == 4:  # The context of every head, with time in the batch.
        x = ops.reshape(x, (-1, steps, *x.shape[1:]))
    elif x.ndim == 2:  # The input of the classifier's head, a mean over time.
        x = ops.reshape(x, (-1, 1, 1, 1, x.shape[-1]))

    # Reductions read, which is cheap; what they can't read at once is written first.
    row_counts = ops.sum(ops.cast(ops.abs(ops.sign(x)), wide_dtype(x.dtype)), -1)
    counted = ops.reshape(ops.cast(weights, row_counts.dtype), (-1, 1, 1, 1))
    return {
        "sum": ops.sum(sum_over_examples(x, weights), -1),
        "count": ops.sum(row_counts * counted, 0),
        # Over the examples first, which is fast: what is left is small.
        "largest": ops.max(ops.max(x, 0)),
        "least": ops.min(ops.min(x, 0)),
        "is_whole": ops.equal(ops.max(ops.max(x - ops.floor(x), 0)), 0),
    }


def _pairs(product, told):
    """Number of meeting pairs of two spikes, `(batch, steps, heads)`."""
    first, second = (
        told[_key(product.path.rpartition("/")[0], name)] for name in product.factors
    )
    sizes = product.steps, product.heads, product.head_dim

    def by_token(x):
        x = ops.reshape(x, (-1, product.steps, product.tokens, *sizes[1:]))
        return ops.cast(x, wide_dtype(x.dtype))

    if product.factors[1] == "context":
        # Of every channel of the query over tokens; of every row of the context.
        first = ops.sum(by_token(first), 2)
        second = ops.cast(second, first.dtype)
        second = ops.sum(ops.reshape(second, (-1, *sizes, product.head_dim)), -1)
        return ops.sum(first * second, -1)
    first, second = (ops.sum(by_token(x), -1) for x in (first, second))
    return ops.sum(first * second, 2)


class _InputSums:
    """What `_sums` returned, over all batches so far.

    Args:
        channels: int. Size of the axis that is summed over.
    """

    def __init__(self, channels):
        self.channels = channels
        self.sum = self.count = 0.0
        self.largest, self.is_whole = 0.0, True

    def add(self, sums, batch):
        """Add the sums of one batch of this many examples."""
        self.sum = self.sum + sums["sum"].astype("float64")
        self.count = self.count + sums.get("count", sums["sum"]).astype("float64")
        if "is_whole" in sums:
            self.largest = max(self.largest, float(sums["largest"]))
            self.is_whole &= bool(sums["is_whole"]) and float(sums["least"]) >= 0
            if self.is_whole and self.largest * self.channels * batch >= 2**24:
                raise ValueError(
                    "Whole numbers that go into an operation must be small enough for "
                    f"exact sums. Received: {self.largest} in {self.channels} channels"
                )
        elif sums["sum"].any():
            self.largest = max(self.largest, 1.0)

    def statistics(self, examples):
        """Return the `InputStatistics` of this many examples."""
        of_step = examples * self.channels * math.prod(self.sum.shape[1:])
        entries = of_step * len(self.sum)
        return InputStatistics(
            mean=float(self.sum.sum()) / entries,
            nonzero=float(self.count.sum()) / entries,
            largest=self.largest,
            is_binary=self.is_whole and self.largest <= 1,
            is_whole=self.is_whole,
            mean_by_step=(self.sum.sum((1, 2)) / of_step).tolist(),
        )

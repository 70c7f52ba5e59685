"""What a model does with a few examples: spikes, attention and answers over time."""

import dataclasses

import numpy as np

from keras_qkformer.analysis.attention import attention_neurons, views_of
from keras_qkformer.analysis.one_pass import passes

NEURONS = 192
"""Neurons of a layer in its raster: so many evenly spread ones, if it has more."""


@dataclasses.dataclass(frozen=True)
class Inside:
    """A few examples and what each does inside a model, see `look_inside`.

    Attributes:
        pictures: array `(examples, [time,] height, width, channels)`: the inputs as
            they were before normalization, pixels or counts of events.
        labels: list of int, or `None`.
        probabilities: array `(examples, time, classes)`, after each time step.
        attention: dict, see `attention_views`.
        activity: dict from stages to arrays `(examples, time, height, width)`: the mean
            magnitude of the features over the channels.
        rasters: dict from the paths of neuron layers to bool arrays
            `(examples, time, neurons)`, whether each of at most `NEURONS` neurons
            fires.
    """

    pictures: np.ndarray
    labels: list | None
    probabilities: np.ndarray
    attention: dict
    activity: dict
    rasters: dict


def look_inside(trained, inputs, labels=None):
    """Run a few examples through a model and keep what the report draws of them.

    Args:
        trained: `TrainedModel`.
        inputs: array of the shape and range that the model takes, batch first.
        labels: int array `(examples,)`, or `None`.

    Returns:
        `Inside`.
    """
    model, normalization = trained.model, trained.preprocessing
    watched = attention_neurons(model)
    logits, spikes, activity, rasters = [], [], [], []
    # One by one: the spikes of all neurons take more memory than the model.
    for found in passes(model, np.split(inputs, len(inputs))):
        logits.append(found.logits_of_steps.astype("float64"))
        spikes.append({path: x for path, x in found.spikes.items() if path in watched})
        features = found.features.items()
        activity.append({s: np.abs(x).mean(-1, dtype="float64") for s, x in features})
        fired = found.spikes.items()
        rasters.append({p.removesuffix("/neuron"): _raster(x) for p, x in fired})
    logits = np.concatenate(logits)
    logits = np.cumsum(logits, 1) / np.arange(1, logits.shape[1] + 1)[:, None]
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return Inside(
        pictures=inputs * np.array(normalization.std) + np.array(normalization.mean),
        labels=None if labels is None else [int(label) for label in labels],
        probabilities=odds / odds.sum(-1, keepdims=True),
        attention=views_of(model, _joined(spikes)),
        activity=_joined(activity),
        rasters=_joined(rasters),
    )


def _joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _raster(spikes):
    spikes = spikes.reshape((*spikes.shape[:2], -1))
    count = spikes.shape[-1]
    chosen = np.linspace(0, count - 1, min(count, NEURONS)).round().astype(int)
    return spikes[..., chosen] > 0

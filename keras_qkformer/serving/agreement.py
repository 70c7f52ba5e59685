"""What it means that two runs of a spiking model agree, and the check of it.

Rounding moves a potential by some 1e-6 of its size, and differently in every runtime.
Where a potential lies that close to the threshold, one runtime fires and the other does
not; the flipped spike then changes logits by 1e-2 and more. So logits can't be compared
alone. Two runs agree if

1. every spike is that of a float64 reference which takes the other spikes of the same
   run as given, except where its potential lies within `TOLERANCE` of the threshold,
   and
2. the logits are those of the reference with all spikes of the run as given, within
   `TOLERANCE`.

Both bounds are relative to the largest potential of the layer, or logit, or to 1.
"""

import dataclasses

import numpy as np
from keras import ops

from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.models.preset import family_of
from keras_qkformer.serving.check_answers import TOLERANCE


def in_float64(model):
    """Make a copy of a model in float64, the reference of `compare_spikes`.

    Args:
        model: `SpikingClassifier`, folded or not.

    Returns:
        `SpikingClassifier` with the same weights, not folded.
    """
    arguments = {**model.backbone.preset_arguments(), "num_classes": model.num_classes}
    copy = SpikingClassifier.from_arguments(
        family_of(model.backbone), {**arguments, "dtype": "float64"}
    )
    copy.set_weights(model.get_weights())
    return copy


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How a run of a model agrees with its float64 reference, see `compare_spikes`.

    Attributes:
        flips: dict from the names of neurons to int: how many of their spikes differ
            from the reference, all with a potential within `TOLERANCE` of the
            threshold.
        neurons: int. Number of spikes, 0 or 1, that were compared.
        fired: int. How many of them are 1.
        close: bool array `(batch,)`. Whether an example has a potential within
            `TOLERANCE` of the threshold, so that another run may flip a spike of it.
        largest_difference: float. Of a logit, given the same spikes.
    """

    flips: dict
    neurons: int
    fired: int
    close: np.ndarray
    largest_difference: float


def compare_spikes(model, inputs, spikes, logits):
    """Compare spikes and logits of a run with a float64 model, layer by layer.

    Args:
        model: built `SpikingClassifier` with the dtype float64. It computes every layer
            from the spikes of the run, so one flip does not hide what comes after it.
        inputs: array `(batch, [time,] height, width, channels)`: inputs of the run.
        spikes: dict from the names in `model.neurons()` to arrays
            `(batch, time, ...)`: spikes of the run.
        logits: array `(batch, classes)`: logits of the run.

    Returns:
        `Agreement`.

    Raises:
        ValueError: if the run does not agree with the model. The message names the
            first layer that differs.
    """
    names = {neuron: name for name, neuron in model.neurons().items()}
    flips, close = {}, np.zeros(len(inputs), bool)

    def fire(neuron, current):
        name = names[neuron]
        given = np.asarray(spikes[name], "float64")
        potentials = ops.convert_to_numpy(neuron.potentials(current, given))
        margin, is_close = _is_close(neuron, potentials)
        differs = (potentials >= neuron.v_threshold) != (given != 0)
        wrong = differs & ~is_close | ~np.isin(given, (0, 1))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"A spike of {name} may differ only where its potential lies within "
                f"{margin:.1e} of the threshold {neuron.v_threshold:g}. Received: "
                f"{np.count_nonzero(wrong)} others of {wrong.size}, the first "
                f"{given[at]:g} at {at} with the potential {potentials[at]:.6g}"
            )
        flips[name] = int(np.count_nonzero(differs))
        close[:] |= is_close.reshape(len(close), -1).any(1)
        return ops.convert_to_tensor(given, "float64")

    with neuron_scope(fire=fire):
        expected = model(ops.convert_to_tensor(inputs, "float64"), training=False)
    expected = ops.convert_to_numpy(expected)
    difference = float(np.abs(logits - expected).max())
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= bound:
        raise ValueError(
            "The logits must be those of the model with the same spikes within "
            f"{bound:.1e}. Received: a difference of {difference:.1e}"
        )
    return Agreement(
        flips=flips,
        neurons=sum(np.size(each) for each in spikes.values()),
        fired=int(sum(np.sum(each) for each in spikes.values())),
        close=close,
        largest_difference=difference,
    )


def close_examples(model, inputs):
    """Compute logits, and for which examples rounding may flip a spike.

    Args:
        model: built `SpikingClassifier`, not folded.
        inputs: tensor `(batch, [time,] height, width, channels)`.

    Returns:
        Pair of the logits `(batch, classes)` and a bool array `(batch,)`, see
        `Agreement.close`.
    """
    close = np.zeros(len(inputs), bool)

    def fire(neuron, current):
        spikes = neuron.dynamics(current)
        potentials = ops.convert_to_numpy(neuron.potentials(current, spikes))
        close[:] |= _is_close(neuron, potentials)[1].reshape(len(close), -1).any(1)
        return spikes

    with neuron_scope(fire=fire):
        logits = model(inputs, training=False)
    return ops.convert_to_numpy(logits), close


def _is_close(neuron, potentials):
    """Return the margin, and where a potential lies within it of the threshold."""
    margin = TOLERANCE * max(1.0, float(np.abs(potentials).max()))
    return margin, np.abs(potentials - neuron.v_threshold) <= margin

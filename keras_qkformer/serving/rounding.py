"""What the rounding of weights changes: classes, and spikes layer by layer."""

import numpy as np
from keras import ops

from keras_qkformer.layers.neuron_scope import neuron_scope


def compare_rounded(model, rounded, inputs, labels=None):
    """Compare a model with itself after its weights were rounded.

    Args:
        model: `SpikingClassifier`.
        rounded: the same, with rounded weights, in any dtype.
        inputs: float array `(batch, [time,] height, width, channels)`.
        labels: int array `(batch,)` of true classes, or `None`.

    Returns:
        Dict: `examples`; `same_top1`, how many of them keep their first class;
        `correct` and `correct_rounded`, or `None` without labels; and
        `changed_spikes_by_layer`, the share of the outputs of each neuron layer that
        differ, by the names of `SpikingClassifier.neurons`.
    """
    changed = dict.fromkeys(model.neurons(), 0.0)
    classes = []
    for x in inputs:  # One at a time, to limit the memory of large models.
        before, first = _run(model, x)
        after, second = _run(rounded, x)
        classes.append((first, second))
        for name in changed:
            changed[name] += float(np.mean(before[name] != after[name]))
    classes = np.array(classes)
    correct = [None, None] if labels is None else (classes.T == labels).sum(1).tolist()
    return {
        "examples": len(inputs),
        "same_top1": int(np.sum(classes[:, 0] == classes[:, 1])),
        "correct": correct[0],
        "correct_rounded": correct[1],
        "changed_spikes_by_layer": {k: v / len(inputs) for k, v in changed.items()},
    }


def _run(model, x):
    """Spikes by name, and the most probable class."""
    fired = {}
    with neuron_scope(record=fired):
        logits = model(ops.cast(x[None], model.input.dtype), training=False)
    spikes = {
        name: ops.convert_to_numpy(fired[neuron])
        for name, neuron in model.neurons().items()
    }
    return spikes, int(ops.convert_to_numpy(logits)[0].argmax())

"""Scores of a model on a split: accuracies, loss, calibration and confusion."""

import numpy as np

from keras_qkformer.trained import log_softmax

CALIBRATION_BINS = 15


def score(labels, logits, class_names):
    """Compute how accurate a model is, and how well its confidence fits.

    Args:
        labels: int array `(examples,)`.
        logits: float array `(examples, classes)`.
        class_names: sequence of str, one per class.

    Returns:
        Dict that JSON can hold: `accuracy` (top-1), `top5_accuracy`, `loss` (the mean
        cross-entropy), `calibration_error`, `examples` (their number), `per_class`, a
        dict from the name of a class to its `accuracy` (`None` without examples) and
        `examples`, and `confusion`, a dict from the name of a true class to a dict from
        the names of the predicted classes to the number of examples.

        The calibration error is the mean of |accuracy - confidence| over 15 bins of
        equal width. The confidence is the largest probability, and each bin is weighted
        by its number of examples.

    Example:
    >>> scores = score(np.array([0, 1, 1]), np.array([[9, 0], [0, 9], [9, 0]]), "ab")
    >>> scores["confusion"], scores["per_class"]["b"]
    ({'a': {'a': 1}, 'b': {'a': 1, 'b': 1}}, {'accuracy': 0.5, 'examples': 2})

    Reference:
        [Guo et al., 2017](https://proceedings.mlr.press/v70/guo17a.html), calibration.
    """
    labels, logits = np.asarray(labels), np.asarray(logits, "float64")
    everyone = np.arange(len(labels))
    predicted = logits.argmax(-1)
    right = predicted == labels
    log_probabilities = log_softmax(logits)
    own = logits[everyone, labels][:, None]
    better = np.sum((logits > own) & (np.arange(logits.shape[1]) != labels[:, None]), 1)
    counts = np.zeros((len(class_names),) * 2, "int64")
    np.add.at(counts, (labels, predicted), 1)
    totals = counts.sum(1)
    return {
        "accuracy": float(np.mean(right)),
        "top5_accuracy": float(np.mean(better < 5)),
        "loss": float(-np.mean(log_probabilities[everyone, labels])),
        "calibration_error": _calibration_error(
            right, np.exp(log_probabilities.max(-1))
        ),
        "examples": len(labels),
        "per_class": {
            name: {
                "accuracy": float(counts[i, i] / totals[i]) if totals[i] else None,
                "examples": int(totals[i]),
            }
            for i, name in enumerate(class_names)
        },
        "confusion": {
            name: {class_names[j]: int(counts[i, j]) for j in np.flatnonzero(counts[i])}
            for i, name in enumerate(class_names)
        },
    }


def _calibration_error(right, confidence):
    # A confidence of exactly k / 15 falls into the lower bin, as in the reference.
    bins = np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1
    gaps = np.bincount(bins, right - confidence, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(right))

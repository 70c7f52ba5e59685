"""What is said of a model's answers: accuracies, calibration, confusion of classes."""

import numpy as np

from keras_qkformer.trained import log_softmax

CALIBRATION_BINS = 15


def score(labels, logits, class_names):
    """How right a model is, and how sure.

    Args:
        labels: int array `(examples,)`.
        logits: float array `(examples, classes)`.
        class_names: sequence of str, one per class.

    Returns:
        Dict that JSON can hold: `accuracy` (top-1), `top5_accuracy` (of at most five
        classes), `loss` (the cross-entropy), `calibration_error`, `examples`,
        `per_class` from the name of a class to its `accuracy` (`None` without examples)
        and `examples`, and `confusion` from the name of a true class to the names and
        numbers of what it was taken for.

        The calibration error is the mean of |accuracy - confidence| over 15 bins of
        equal width of the largest probability, weighted by their examples.

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
    # A confidence of exactly k / 15 belongs to the bin below, as in the reference.
    bins = np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1
    gaps = np.bincount(bins, right - confidence, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(right))

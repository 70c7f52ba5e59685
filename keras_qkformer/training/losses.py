"""Loss and accuracy, for integer labels or for probabilities."""

import keras
from keras import ops


def make_loss(label_smoothing, num_classes, tet_regularizer=None):
    """Make a cross-entropy of integer labels or of probabilities.

    Probabilities come from an augmentation that has smoothed them already.

    With `tet_regularizer` r, logits o[t] of each step have the loss of temporal
    efficient training (TET), in which CE is the cross-entropy above:

        (1 - r) * mean over t of CE(o[t]) + r * mean over t and classes of (o[t] - 1)^2

    Args:
        label_smoothing: float in [0, 1). Fraction of each integer label that is spread
            over all classes.
        num_classes: int > 0.
        tet_regularizer: float in [0, 1), or `None` if there are no logits of steps.

    Returns:
        Function `(labels, logits) -> loss`: integer labels `(batch,)` or probabilities
        `(batch, classes)`, logits `(batch, [time,] classes)` and losses `(batch,)`.

    Reference:
        [Deng et al., 2022](https://openreview.net/forum?id=_XNtisL32jv), with the 1 and
        the mean square of the spike-driven Transformer's code.
    """
    # Without reduction: examples may have weights.
    each = {"from_logits": True, "reduction": None}
    sparse = keras.losses.SparseCategoricalCrossentropy(**each)
    soft = keras.losses.CategoricalCrossentropy(**each)
    smooth = keras.losses.CategoricalCrossentropy(
        **each, label_smoothing=label_smoothing
    )

    def cross_entropy(labels, logits):
        if _are_probabilities(labels, logits):
            return soft(labels, logits)
        if not label_smoothing:
            return sparse(labels, logits)
        labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
        labels = ops.one_hot(labels, num_classes)
        return smooth(labels, logits)

    def loss(labels, logits):
        if not _are_of_steps(logits):
            return cross_entropy(labels, logits)
        steps = ops.unstack(logits, axis=1)
        entropies = sum(cross_entropy(labels, step) for step in steps) / len(steps)
        squares = ops.mean(ops.square(logits - 1), axis=(1, 2))
        return (1 - tet_regularizer) * entropies + tet_regularizer * squares

    return loss


def accuracy(labels, logits):
    """1 where the class of the largest logit is the label, else 0.

    Args:
        labels: integer labels `(batch,)`, or probabilities `(batch, classes)`, of which
            the largest counts as the label.
        logits: tensor `(batch, classes)`, or `(batch, time, classes)`, which are
            averaged.

    Returns:
        Float tensor `(batch,)`.
    """
    if _are_of_steps(logits):
        logits = ops.mean(logits, axis=1)
    if _are_probabilities(labels, logits):
        return keras.metrics.categorical_accuracy(labels, logits)
    return keras.metrics.sparse_categorical_accuracy(labels, logits)


def _are_of_steps(logits):
    return len(logits.shape) == 3


def _are_probabilities(labels, logits):
    # Keras may give labels (batch,) a second axis of size 1.
    return len(labels.shape) == 2 and labels.shape[-1] == logits.shape[-1] > 1

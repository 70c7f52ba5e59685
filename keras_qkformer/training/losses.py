"""Loss and accuracy, for integer labels or for probabilities."""

import keras


def make_loss(label_smoothing, num_classes):
    """Make a cross-entropy of integer labels or of probabilities.

    Probabilities come from an augmentation that has smoothed them already.

    Args:
        label_smoothing: float in [0, 1). Fraction of each integer label that is spread
            over all classes.
        num_classes: int > 0.

    Returns:
        Function `(labels, logits) -> loss`: integer labels `(batch,)` or probabilities
        `(batch, classes)`, logits `(batch, classes)` and losses `(batch,)`.
    """
    # Without reduction: examples may have weights.
    each = {"from_logits": True, "reduction": None}
    sparse = keras.losses.SparseCategoricalCrossentropy(**each)
    soft = keras.losses.CategoricalCrossentropy(**each)
    smooth = keras.losses.CategoricalCrossentropy(
        **each, label_smoothing=label_smoothing
    )

    def loss(labels, logits):
        if _are_probabilities(labels, logits):
            return soft(labels, logits)
        if not label_smoothing:
            return sparse(labels, logits)
        labels = keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32")
        labels = keras.ops.one_hot(labels, num_classes)
        return smooth(labels, logits)

    return loss


def accuracy(labels, logits):
    """1 where the class of the largest logit is the label, else 0.

    Args:
        labels: integer labels `(batch,)`, or probabilities `(batch, classes)`, of which
            the largest counts as the label.
        logits: tensor `(batch, classes)`.

    Returns:
        Float tensor `(batch,)`.
    """
    if _are_probabilities(labels, logits):
        return keras.metrics.categorical_accuracy(labels, logits)
    return keras.metrics.sparse_categorical_accuracy(labels, logits)


def _are_probabilities(labels, logits):
    # Keras may give labels (batch,) a second axis of size 1.
    return len(labels.shape) == 2 and labels.shape[-1] == logits.shape[-1] > 1

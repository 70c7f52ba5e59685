"""Loss and accuracy, of labels or of probabilities."""

import keras


def make_loss(label_smoothing, num_classes):
    """Cross-entropy with labels `(batch,)` or probabilities `(batch, classes)`.

    Probabilities come from an augmentation, which smooths them itself.
    """
    # Of every example, which may have a weight.
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
    """1 where the largest logit is at the label, or at the largest probability."""
    if _are_probabilities(labels, logits):
        return keras.metrics.categorical_accuracy(labels, logits)
    return keras.metrics.sparse_categorical_accuracy(labels, logits)


def _are_probabilities(labels, logits):
    # Keras may give labels (batch,) a second axis of size 1.
    return len(labels.shape) == 2 and labels.shape[-1] == logits.shape[-1] > 1

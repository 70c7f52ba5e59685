"""Features and token attention inside a model."""

import keras
import numpy as np
from keras import ops


def stage_activity(model, images):
    """Return the features of every stage for one batch.

    Features are potentials if `backbone.has_potentials`; else they are spike counts,
    because blocks add the spikes of their branches to their input.

    Args:
        model: a `SpikingClassifier`.
        images: array of the shape and range that the model takes, batch first.

    Returns:
        Dictionary from `"stage1"`, `"stage2"`, ... to NumPy arrays
        `(batch, time, height, width, channels)`. Height, width and channels depend on
        the stage.

    Raises:
        ValueError: if the shape of the images does not fit the model.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> activity = stage_activity(model, np.zeros((3, 8, 8, 1), "float32"))
    >>> [x.shape for x in activity.values()]
    [(3, 2, 8, 8, 64), (3, 2, 4, 4, 128)]
    """
    _check_shape(model, images)
    features = model.backbone(images, training=False)
    return {stage: ops.convert_to_numpy(x) for stage, x in features.items()}


def token_masks(model, images):
    """Return the masks of Q-K token attention for one batch: 1 where a token passes.

    Args:
        model: a `SpikingClassifier`.
        images: array of the shape and range that the model takes, batch first.

    Returns:
        Dictionary from the names of the blocks with token attention, such as
        `"stage1_block1"`, to NumPy arrays `(batch, time, height, width, heads)` of 0
        and 1, in the order of the blocks.

    Raises:
        ValueError: if the shape of the images does not fit the model.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> masks = token_masks(model, np.zeros((3, 8, 8, 1), "float32"))
    >>> {block: mask.shape for block, mask in masks.items()}
    {'stage1_block1': (3, 2, 8, 8, 4)}

    Reference:
        The mask is A in the equations of `keras_qkformer.layers.TokenQKAttention`.
    """
    _check_shape(model, images)
    blocks = {
        layer.name: layer
        for layer in model.backbone.steps()
        if getattr(layer, "token_attention", None) is not None
    }
    if not blocks:
        return {}
    # A dictionary, because Keras returns a single output without its list.
    up_to_blocks = keras.Model(
        model.backbone.input, {name: block.input for name, block in blocks.items()}
    )
    inputs = up_to_blocks(images, training=False)
    return {
        name: ops.convert_to_numpy(block.token_attention.mask(inputs[name]))
        for name, block in blocks.items()
    }


def _check_shape(model, images):
    expected, received = tuple(model.input_shape[1:]), tuple(np.shape(images))
    if received[1:] != expected:
        raise ValueError(
            f"images must have the shape (batch, {', '.join(map(str, expected))}) for "
            f"this model. Received: {received}"
        )

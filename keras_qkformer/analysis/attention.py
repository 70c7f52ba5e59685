"""Features and attention inside a model: masks, and maps of single tokens."""

import dataclasses

import keras
import numpy as np

from keras_qkformer.analysis.one_pass import one_pass
from keras_qkformer.layers import (
    ChannelQKAttention,
    SpikeDrivenAttention,
    SpikingSelfAttention,
    TokenQKAttention,
)
from keras_qkformer.models.classifier import SpikingClassifier


def stage_activity(
    model: SpikingClassifier, images: np.ndarray
) -> dict[str, np.ndarray]:
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
    return one_pass(model, images).features


def token_masks(model: SpikingClassifier, images: np.ndarray) -> dict[str, np.ndarray]:
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
    return token_masks_of(attention_views(model, images))


@dataclasses.dataclass(frozen=True)
class TokenMask:
    """The tokens that an attention lets pass.

    Attributes:
        mask: array `(batch, time, height, width, heads)` of 0 and 1.
    """

    mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class ChannelMask:
    """The channels that an attention lets pass, at all tokens alike.

    Attributes:
        mask: array `(batch, time, channels)` of 0 and 1.
    """

    mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class TokenMaps:
    """How tokens look at each other in self-attention.

    Attributes:
        query: array `(batch, time, height, width, heads, channels)` of 0 and 1; the
            channels are those of one head.
        key: array like `query`.
        scale: float. Factor of the products.
    """

    query: np.ndarray
    key: np.ndarray
    scale: float

    def of(self, row: int, column: int) -> np.ndarray:
        """Return the map of one token: the weight of every token's value for it.

        Args:
            row: int in `[0, height)`. Place of the token.
            column: int in `[0, width)`.

        Returns:
            Array `(batch, time, height, width, heads)`: `scale` times the number of
            channels in which both the token's query and the other's key fire.
        """
        token = self.query[:, :, row, column, None, None]
        return self.scale * np.sum(token * self.key, -1)

    def all_of(self, example: int) -> np.ndarray:
        """Return the maps of all tokens of one example, averaged over the heads.

        Args:
            example: int in `[0, batch)`.

        Returns:
            Array `(time, height, width, height, width)`: the place of the token, then
            that of the other.
        """
        query, key = (x[example] for x in (self.query, self.key))
        products = np.einsum("tijhd,tklhd->tijkl", query, key, optimize=True)
        return self.scale / query.shape[-2] * products


def attention_views(
    model: SpikingClassifier, inputs: np.ndarray
) -> dict[str, TokenMask | ChannelMask | TokenMaps]:
    """Return what every attention of a model does with one batch, from one pass.

    Args:
        model: a `SpikingClassifier` of any family.
        inputs: array of the shape and range that the model takes, batch first.

    Returns:
        Dictionary from the paths of the attention layers, such as
        `"stage1_block1/attention"`, in order, to a `TokenMask` (Q-K token attention), a
        `ChannelMask` (Q-K channel attention, spike-driven attention) or `TokenMaps`
        (spiking self-attention). It is empty for a family without attention.

    Raises:
        ValueError: if the shape of the inputs does not fit the model.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> views = attention_views(model, np.zeros((3, 8, 8, 1), "float32"))
    >>> views["stage1_block1/attention"].mask.shape
    (3, 2, 8, 8, 4)
    >>> views["stage2_block1/attention"].of(row=1, column=3).shape
    (3, 2, 4, 4, 4)
    """
    return views_of(model, one_pass(model, inputs).spikes)


def views_of(
    model: SpikingClassifier, spikes: dict[str, np.ndarray]
) -> dict[str, TokenMask | ChannelMask | TokenMaps]:
    """Return what `attention_views` does, of spikes that are known.

    Args:
        model: a `SpikingClassifier`.
        spikes: dict, see `one_pass.OnePass`.
    """
    owners = attention_neurons(model)
    layers = dict.fromkeys(owners[path] for path in spikes if path in owners)
    return {layer.path: _view(layer, spikes) for layer in layers}


def attention_neurons(model: SpikingClassifier) -> dict[str, keras.Layer]:
    """Return the neurons whose spikes `views_of` takes.

    Args:
        model: a `SpikingClassifier`.

    Returns:
        Dict from their paths to the attention layers that they are in.
    """
    return {
        neuron.path: layer
        for layer in model.backbone._flatten_layers(include_self=False)
        if isinstance(layer, tuple(_VIEWS))
        for neuron in _neurons(layer)
    }


def token_masks_of(
    views: dict[str, TokenMask | ChannelMask | TokenMaps],
) -> dict[str, np.ndarray]:
    """Return what `token_masks` does, of views that are known.

    Args:
        views: dict, see `attention_views`.
    """
    # Named by the block alone, in which there is one attention.
    return {
        path.rpartition("/")[0] or path: view.mask
        for path, view in views.items()
        if isinstance(view, TokenMask)
    }


def _neurons(layer):
    if isinstance(layer, SpikingSelfAttention):
        return layer.query.fire, layer.key.fire
    return (layer.attention_neuron,)


def _view(layer, spikes):
    return next(
        make(layer, *(spikes[neuron.path] for neuron in _neurons(layer)))
        for kind, make in _VIEWS.items()
        if isinstance(layer, kind)
    )


def _token_maps(layer, *query_and_key):
    shape = (layer.num_heads, -1)
    query, key = (x.reshape((*x.shape[:-1], *shape)) for x in query_and_key)
    return TokenMaps(query, key, layer.scale)


_VIEWS = {
    TokenQKAttention: lambda layer, mask: TokenMask(mask),
    ChannelQKAttention: lambda layer, mask: ChannelMask(mask[:, :, 0, 0]),
    SpikeDrivenAttention: lambda layer, mask: ChannelMask(mask[:, :, 0, 0]),
    SpikingSelfAttention: _token_maps,
}

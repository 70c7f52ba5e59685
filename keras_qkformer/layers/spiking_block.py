"""One block of a spiking transformer, made of the two layers that it is given."""

import keras

from keras_qkformer.layers.residual_block import ResidualBlock


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikingBlock(ResidualBlock):
    """A layer that mixes tokens, then an MLP, each added to its input.

        x = x + mixer(x)
        output = x + mlp(x)

    Whether spikes or potentials are added depends on the two layers.

    Args:
        mixer: layer used as template, that mixes tokens, such as
            `SpikingSelfAttention`. Its output has the shape of its input, and it
            describes its `computations()`. `None` for a block of the MLP alone.
        mlp: layer used as template, that mixes channels, such as `SpikingMLP`. The same
            holds for it.
        drop_path: float in [0, 1). Probability of dropping a branch for a sample in
            training (stochastic depth).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if `drop_path` is out of range.

    Example:
    >>> from keras_qkformer.layers import SpikingMLP, SpikingSelfAttention
    >>> block = SpikingBlock(SpikingSelfAttention(num_heads=2), SpikingMLP())
    >>> block(np.ones((1, 4, 8, 8, 16), "float32")).shape
    (1, 4, 8, 8, 16)

    Reference:
        `Block` of the code of Spikformer, [Zhou et al., 2023](
        https://arxiv.org/abs/2209.15425).
    """

    def __init__(
        self,
        mixer: keras.layers.Layer | None,
        mlp: keras.layers.Layer,
        drop_path: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.set_branches(self._copy(mixer), self._copy(mlp), drop_path)

    def _copy(self, template):
        """A layer like a template, also in serialized form, with the block's dtype."""
        if template is None:
            return None
        if isinstance(template, dict):
            template = keras.saving.deserialize_keras_object(template)
        config = {**template.get_config(), "dtype": self.dtype_policy}
        return type(template).from_config(config)

    def get_config(self):
        return {
            **super().get_config(),
            "mixer": keras.saving.serialize_keras_object(self.mix),
            "mlp": keras.saving.serialize_keras_object(self.mlp),
            "drop_path": self.drop_path,
        }

"""The base class of the blocks: two branches, each added to its input."""

import keras
from keras import ops


class ResidualBlock(keras.layers.Layer):
    """Base class of the blocks: a layer that mixes tokens, then an MLP.

        x = x + mix(x)
        output = x + mlp(x)

    A subclass calls `set_branches` in its constructor.
    """

    def set_branches(self, mix, mlp, drop_path):
        """Set the two branches.

        Args:
            mix: layer that mixes tokens, or `None` for none.
            mlp: layer that mixes channels.
            drop_path: float in [0, 1). Probability of dropping a branch for a sample in
                training.
        """
        if not 0 <= drop_path < 1:
            raise ValueError(
                f"drop_path must be in [0, 1). Received: drop_path={drop_path}"
            )
        self.mix = mix
        self.mlp = mlp
        self.drop_path = drop_path
        self.drop = (
            keras.layers.Dropout(
                drop_path, noise_shape=(None, 1, 1, 1, 1), dtype=self.dtype_policy
            )
            if drop_path
            else None
        )

    def build(self, input_shape):
        for branch in self.branches():
            branch.build(input_shape)

    def call(self, inputs, training=None):
        x = inputs
        for branch in self.branches():
            y = branch(x, training=training)
            if self.drop is not None:
                y = self.drop(y, training=training)
            x = ops.add(x, y)
        return x

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        return [each for x in self.branches() for each in x.computations()]

    def branches(self):
        """Return the layers whose outputs are added to their inputs, in order."""
        return [self.mlp] if self.mix is None else [self.mix, self.mlp]

    def compute_output_shape(self, input_shape):
        return input_shape

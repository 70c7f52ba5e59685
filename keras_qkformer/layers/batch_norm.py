"""Batch normalization as the authors' code has it, in at least float32."""

import keras
from keras import ops

from keras_qkformer.ops.normalization import (
    Normalization,
    batch_statistics,
    wide_dtype,
)


@keras.saving.register_keras_serializable(package="keras_qkformer")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalization over the last axis with PyTorch's constants.

    Keras's layer, with epsilon 1e-5 and momentum 0.9 instead of 1e-3 and 0.99, and
    computed in float64 where the layer's type is float64: Keras 3.15 goes down to
    float32 there on JAX and PyTorch. The statistics of a batch are those of all of it,
    also on several devices, if each has equally many examples.

    Differences from the source: the moving variance averages the biased variance, as
    everywhere in Keras; PyTorch averages the unbiased one, larger by n / (n - 1).

    Args:
        epsilon: float > 0. Added to the variance.
        momentum: float between 0 and 1. Share of the old moving statistics that stays.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(..., channels)`.

    Output shape:
        Same as the input.

    Example:
    >>> x = np.array([[1.0], [3.0]], "float32")
    >>> ops.convert_to_numpy(BatchNorm()(x, training=True)).round(3).tolist()
    [[-1.0], [1.0]]
    """

    def __init__(self, epsilon=1e-5, momentum=0.9, **kwargs):
        super().__init__(epsilon=epsilon, momentum=momentum, **kwargs)

    def call(self, inputs, training=None):
        return self.normalize(inputs, self.normalization(inputs, training))

    def normalization(self, inputs, training=None, sign=1.0):
        """What `call` does to `inputs`, for others to do it: `normalize`, or a neuron.

        In training it updates the moving statistics, as `call` does.

        Args:
            inputs: tensor `(..., channels)`.
            training: bool. Whether to take the statistics of the inputs.
            sign: 1 or -1, or a tensor `(channels,)` of these: what the inputs were
                multiplied by, which is taken back.

        Returns:
            `keras_qkformer.ops.Normalization`.
        """
        dtype = wide_dtype(self.compute_dtype)
        if self.is_of_batch(training):
            mean, variance = batch_statistics(inputs)
            for moving, now in (
                (self.moving_mean, sign * mean),
                (self.moving_variance, variance),
            ):
                moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        else:
            mean, variance = sign * self.moving_mean, self.moving_variance
        return Normalization(
            mean=ops.cast(mean, dtype),
            variance=ops.cast(variance, dtype),
            gamma=ops.cast(self.gamma, dtype) * sign,
            beta=ops.cast(self.beta, dtype),
            epsilon=self.epsilon,
        )

    def normalize(self, inputs, normalization):
        """What `call` gives: `inputs` by a `Normalization`."""
        dtype = wide_dtype(self.compute_dtype)
        y = ops.batch_normalization(
            ops.cast(inputs, dtype),
            normalization.mean,
            normalization.variance,
            axis=-1,
            offset=normalization.beta,
            scale=normalization.gamma,
            epsilon=self.epsilon,
        )
        return ops.cast(y, self.compute_dtype)

    def is_of_batch(self, training):
        """Whether the statistics are those of the inputs, not the moving ones."""
        return bool(training and self.trainable)

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        return {**config, "epsilon": self.epsilon, "momentum": self.momentum}

"""Batch normalization as the authors' code has it, in at least float32."""

import keras
from keras import ops

from keras_qkformer.ops.lif import (
    Normalization,
    count_per_channel,
    mean_of_replicas,
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
        normalization = self.normalization(inputs, training)
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

    def normalization(self, inputs, training=None):
        """What `call` does to `inputs`, for a neuron that does it itself.

        In training it updates the moving statistics, as `call` does.

        Args:
            inputs: tensor `(..., channels)`.
            training: bool. Whether to take the statistics of the inputs.

        Returns:
            `keras_qkformer.ops.Normalization`.
        """
        dtype = wide_dtype(self.compute_dtype)
        of_batch = self.is_of_batch(training)
        if of_batch:
            # Not `ops.moments`: on PyTorch it takes the difference of two large
            # numbers, so that a constant channel can have a negative variance.
            x = ops.cast(inputs, dtype)
            axes = tuple(range(len(x.shape) - 1))
            count = count_per_channel(x)
            mean = mean_of_replicas(ops.sum(x, axes) / count)
            variance = ops.sum(ops.square(x - mean), axes) / count
            variance = mean_of_replicas(variance)
            for moving, now in (
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ):
                moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        else:
            mean, variance = self.moving_mean, self.moving_variance
        return Normalization(
            mean=ops.cast(mean, dtype),
            variance=ops.cast(variance, dtype),
            gamma=ops.cast(self.gamma, dtype),
            beta=ops.cast(self.beta, dtype),
            epsilon=self.epsilon,
            of_batch=of_batch,
        )

    def is_of_batch(self, training):
        """Whether the statistics are those of the inputs, not the moving ones."""
        return bool(training and self.trainable)

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        return {**config, "epsilon": self.epsilon, "momentum": self.momentum}

"""Batch normalization as in the authors' code, in at least float32."""

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

    Keras's layer, with epsilon 1e-5 and momentum 0.9 instead of 1e-3 and 0.99. It
    computes in float64 if the layer's dtype is float64, where Keras 3.15 falls back to
    float32 on JAX and PyTorch. The statistics cover the whole batch, also on several
    devices if each has equally many examples.

    Differences from the source: the moving variance averages the biased variance, as
    everywhere in Keras; PyTorch averages the unbiased one, larger by n / (n - 1).

    Args:
        epsilon: float > 0. Added to the variance.
        momentum: float in [0, 1]. Weight of the old moving statistics in an update.
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

    def __init__(self, epsilon: float = 1e-5, momentum: float = 0.9, **kwargs):
        # Named here, so that nobody can pass others, which `call` would not heed.
        fixed = {"axis": -1, "center": True, "scale": True}
        super().__init__(epsilon=epsilon, momentum=momentum, **fixed, **kwargs)

    def call(self, inputs, training=None):
        return self.normalize(inputs, self.normalization(inputs, training))

    def normalization(self, inputs, training=None, sign=1.0):
        """Return the normalization of `call`, for `normalize` or a neuron to apply.

        In training it updates the moving statistics, as `call` does.

        Args:
            inputs: tensor `(..., channels)`.
            training: bool. Whether to use the statistics of the inputs.
            sign: 1 or -1, or a tensor `(channels,)` of these: the factor by which the
                inputs were multiplied, which the normalization undoes.

        Returns:
            `keras_qkformer.ops.Normalization`.
        """
        dtype = wide_dtype(self.compute_dtype)
        moving = [ops.cast(v, dtype) for v in (self.moving_mean, self.moving_variance)]
        if self.is_of_batch(training):
            mean, variance = batch_statistics(inputs)
            for variable, before, now in zip(
                (self.moving_mean, self.moving_variance),
                moving,
                (sign * mean, variance),
                strict=True,
            ):
                variable.assign(before * self.momentum + now * (1.0 - self.momentum))
        else:
            mean, variance = sign * moving[0], moving[1]
        return Normalization(
            mean=ops.cast(mean, dtype),
            variance=ops.cast(variance, dtype),
            gamma=ops.cast(self.gamma, dtype) * sign,
            beta=ops.cast(self.beta, dtype),
            epsilon=self.epsilon,
        )

    def normalize(self, inputs, normalization):
        """Apply a `Normalization`, as `call` does.

        Args:
            inputs: tensor `(..., channels)`.
            normalization: `keras_qkformer.ops.Normalization`.

        Returns:
            Tensor of the shape of `inputs`.
        """
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
        """Whether to use the statistics of the inputs instead of the moving ones."""
        return bool(training and self.trainable)

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        return {**config, "epsilon": self.epsilon, "momentum": self.momentum}

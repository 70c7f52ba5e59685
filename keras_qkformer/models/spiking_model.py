"""The base class of our models, which Keras must not quantize."""

import keras


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikingModel(keras.Model):
    """A `keras.Model` with spiking layers.

    Args:
        *args: passed to `keras.Model`.
        **kwargs: passed to `keras.Model`.
    """

    def quantize(self, mode=None, **options):
        """Raise `ValueError`: Keras would quantize the head alone, with warnings."""
        raise ValueError(
            "A spiking model must be quantized by `keras-qkformer export MODEL "
            "--format openvino --weights int8`: Keras would quantize its head alone, "
            f"no convolution. Received: mode={mode!r}"
        )

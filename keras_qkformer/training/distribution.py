"""Which devices a process uses."""

import keras


def hide_accelerators_from_tensorflow():
    """Keep tf.data off the accelerator when another backend computes on it.

    TensorFlow would otherwise reserve its memory for nothing.
    """
    if keras.backend.backend() != "tensorflow":
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        tf.config.set_visible_devices([], "TPU")

"""Folds BatchNorm into convolutions, and rounds their weights if asked."""

import functools

import tensorflow as tf

from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.serving.rounding import round_kernel, scale_of


def fold(model, weights):
    """Give every `ConvBNLIF` a folded kernel and offset for inference.

    Args:
        model: `SpikingClassifier`. It is changed in place.
        weights: str. Type in which to store the kernels: `"float32"`, `"bfloat16"` or
            `"int8"`.
    """
    for unit in model._flatten_layers():
        if isinstance(unit, ConvBNLIF):
            unit.fold(functools.partial(_keep, weights))


def _keep(weights, kernel, offset):
    """Store kernel and offset in new variables; return a function that reads them."""
    dtype = kernel.dtype
    offset = tf.Variable(offset, trainable=False)
    if weights == "int8":
        kernel = kernel.numpy()
        step = scale_of(kernel)
        scale = tf.Variable(step, trainable=False)
        kernel = round_kernel(kernel, step)
    elif weights == "bfloat16":
        kernel = tf.cast(kernel, tf.bfloat16)
    kernel = tf.Variable(kernel, trainable=False)

    def read():
        wide = tf.cast(kernel, dtype)
        return (wide * scale if weights == "int8" else wide), offset.read_value()

    return read

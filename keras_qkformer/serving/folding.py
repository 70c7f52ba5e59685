"""BatchNorm folded into convolutions, whose weights may be rounded."""

import functools

import tensorflow as tf

from keras_qkformer.layers.conv_bn_lif import ConvBNLIF


def fold(model, weights):
    """Give every unit one kernel and offset for inference.

    Args:
        model: a classifier, which changes.
        weights: `"float32"`, `"bfloat16"` or `"int8"`, as which to keep the kernels.
    """
    for unit in model._flatten_layers():
        if isinstance(unit, ConvBNLIF):
            unit.fold(functools.partial(_keep, weights))


def _keep(weights, kernel, offset):
    """A function that gives kernel and offset from variables of its own."""
    dtype = kernel.dtype
    offset = tf.Variable(offset, trainable=False)
    if weights == "int8":
        scale = tf.reduce_max(tf.abs(kernel), [0, 1, 2]) / 127
        scale = tf.Variable(tf.where(scale > 0, scale, 1), trainable=False)
        kernel = tf.cast(tf.round(kernel / scale), tf.int8)
    elif weights == "bfloat16":
        kernel = tf.cast(kernel, tf.bfloat16)
    kernel = tf.Variable(kernel, trainable=False)

    def read():
        wide = tf.cast(kernel, dtype)
        return (wide * scale if weights == "int8" else wide), offset.read_value()

    return read

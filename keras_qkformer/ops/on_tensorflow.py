"""Every exception for TensorFlow, each with its reason. See `by_backend.py`."""

import tensorflow as tf
from keras import ops


def mean_of_replicas(general, x):
    """Average over the replicas of `tf.distribute`, which each see a part of the batch.

    Seen with TensorFlow 2.21. JAX needs no average: its arrays are whole, however many
    devices hold them.

    Args:
        general: `normalization.mean_of_replicas` for all backends.
        x: tensor.

    Returns:
        Tensor of the shape of `x`.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return general(x)
    replica = tf.distribute.get_replica_context()
    if replica is None:  # Outside of replicas, for example while a model is built.
        return general(x)
    return replica.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def convolve(general, x, kernel, strides, padding):
    """Convolve channel by channel by the operation for that.

    For `ops.conv`, Keras 3.15 would compile it with XLA, which no server, ONNX or
    LiteRT takes.

    Args:
        general: `spatial.convolve` for all backends.
        x: see there.
        kernel: see there.
        strides: see there.
        padding: see there.

    Returns:
        Tensor `(batch, rows, columns, filters)`.
    """
    if kernel.shape[2] == x.shape[-1]:
        return general(x, kernel, strides, padding)
    return ops.depthwise_conv(
        x,
        tf.transpose(kernel, (0, 1, 3, 2)),
        strides=strides,
        padding=padding,
        data_format="channels_last",
    )


def scan(general, step, carry, xs, reverse=False):
    """Stack the tensors and scan over one.

    Over several, the scan of Keras 3.15 fails on TensorFlow 2.21 if their length is
    unknown.

    Args:
        general: `neuron_passes.scan` for all backends.
        step: see there.
        carry: see there.
        xs: tuple of tensors `(time, ...)`, all of one shape and dtype.
        reverse: see there.

    Returns:
        `(carry, ys)`, see there.
    """
    return general(
        lambda carry, x: step(carry, ops.unstack(x, len(xs), axis=0)),
        carry,
        ops.stack(xs, axis=1),
        reverse,
    )


def inference_function(general, function, variables):
    """Compile as a graph; with XLA where there is an accelerator, as Keras 3.15 does.

    Args:
        general: `inference.inference_function` for all backends.
        function: see there.
        variables: see there. A graph refers to them.

    Returns:
        See there.
    """
    devices = {device.device_type for device in tf.config.list_physical_devices()}
    has_accelerator = devices != {"CPU"}
    compiled = tf.function(function, autograph=False, jit_compile=has_accelerator)

    graphs = {}

    def run(*tensors):
        # `compiled(*tensors)` would warn: it takes all functions of one line for one
        # that is traced too often.
        kind = tuple((tuple(x.shape), x.dtype) for x in tensors)
        if kind not in graphs:
            graphs[kind] = compiled.get_concrete_function(*tensors)
        result = graphs[kind](*tensors)
        if has_accelerator:
            tf.test.experimental.sync_devices()
        return result

    return run


def run_rarely(general, model):
    """Run operation by operation: tracing a graph takes longer than its few calls.

    JAX would compile each operation alone, and PyTorch runs so anyway.

    Args:
        general: `inference.run_rarely` for all backends.
        model: see there.

    Returns:
        `model`.
    """
    model.run_eagerly = True
    return general(model)

"""Every exception for TensorFlow, each with its reason. See `by_backend.py`."""

import tensorflow as tf
from keras import ops


def mean_of_replicas(general, x):
    """Over the replicas of `tf.distribute`, each of which sees its part of a batch.

    Seen with TensorFlow 2.21. An array of JAX is whole, however many devices hold it.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return general(x)
    replica = tf.distribute.get_replica_context()
    if replica is None:  # Where a model is built, all replicas are one.
        return general(x)
    return replica.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def scan(general, step, carry, xs, reverse=False):
    """Over one tensor.

    With several, the scan of Keras 3.15 fails on TensorFlow 2.21 where their length is
    unknown.
    """
    return general(
        lambda carry, x: step(carry, ops.unstack(x, len(xs), axis=0)),
        carry,
        ops.stack(xs, axis=1),
        reverse,
    )

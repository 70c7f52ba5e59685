"""Writes the requests that TF Serving answers before it makes a version available."""

import numpy as np
import tensorflow as tf

from keras_qkformer.serving import WARMUP_FILE, wire

MOST_RECORDS = 1000
"""TF Serving refuses a version with more warm-up requests."""
_EVENTS = 1024  # Events per recording in a request.


def write_warmup(version, name, served, batch_sizes):
    """Write a request for each signature and batch size.

    Args:
        version: `Path` of a version's folder.
        name: str. The model's name on the server.
        served: `ServedModel`.
        batch_sizes: ints > 0.

    Raises:
        ValueError: if there are more requests than TF Serving accepts.
    """
    count = len(served.signatures) * len(batch_sizes)
    if count > MOST_RECORDS:
        raise ValueError(
            f"There may be {MOST_RECORDS} warm-up requests. Received: {count} with "
            f"{len(batch_sizes)} batch sizes"
        )
    path = version / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for signature, function in served.signatures.items():
            specs = tf.nest.flatten(function.input_signature)
            for batch in batch_sizes:
                tensors = {
                    spec.name: _tensor(spec, batch, served.image_size) for spec in specs
                }
                request = wire.encode_predict_request(name, signature, tensors)
                file.write(wire.prediction_log(request))


def _tensor(spec, batch, image_size):
    """Return an input as a `TensorProto` that repeats one value."""
    shape = [batch, *spec.shape[1:]]
    if len(shape) > 3 and shape[-2] is None:
        shape[-3:-1] = image_size
    shape = [_EVENTS if size is None else size for size in shape]
    if spec.dtype == tf.string:
        grey = tf.fill((*image_size, 1), tf.constant(128, tf.uint8))
        return wire.fill_tensor(tf.io.encode_png(grey).numpy(), shape)
    # num_events counts the whole row; all its events have t, x, y and p equal to 0.
    value = _EVENTS if spec.name == "num_events" else 0
    return wire.fill_tensor(np.asarray(value, spec.dtype.as_numpy_dtype), shape)

"""Loads a version of a model into this process, as a stock server does."""

import ctypes
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_qkformer.serving import WARMUP_FILE, wire
from keras_qkformer.serving.check_answers import REFUSALS, inputs_of, one_line
from keras_qkformer.serving.graph_operations import check_operations


class LocalModel:
    """A version of a model, loaded by TensorFlow without Keras or XLA's compiler.

    Args:
        version: str or path of a version's folder.

    Attributes:
        load_seconds: float. Seconds to load the model.
        signatures: dict from names to `SignatureDef`.
        operations: set of str. Types of all operations in the graph.

    Raises:
        ValueError: if its operations reach beyond it, see `check_operations`, or
            TensorFlow can't load it.
    """

    def __init__(self, version):
        check_operations(version)
        _disable_xla()
        tf.get_logger().setLevel("ERROR")  # Hides that this loader is deprecated.
        start = time.perf_counter()
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        load = tf.compat.v1.saved_model.load
        try:
            loaded = load(self._session, ["serve"], str(version))
        except Exception as error:  # Of a damaged file, TensorFlow raises any kind.
            raise ValueError(
                "A SavedModel must be one that TensorFlow can load. "
                f"Received: {str(version)!r}: {one_line(error)}"
            ) from error
        self.load_seconds = time.perf_counter() - start
        self.signatures = loaded.signature_def
        library = loaded.graph_def.library.function
        self.operations = {node.op for node in loaded.graph_def.node}
        self.operations |= {node.op for f in library for node in f.node_def}

    def ask(self, signature, inputs):
        """Return the outputs of a signature.

        Args:
            signature: str. Its name.
            inputs: dict from names to arrays; image files as arrays of bytes objects.

        Returns:
            Dict from names to arrays.

        Raises:
            ValueError: if the model refuses.
        """
        definition = self.signatures[signature]
        wanted, given = sorted(definition.inputs), sorted(inputs)
        if wanted != given:
            raise ValueError(f"{signature} has the inputs {wanted}. Received: {given}")
        feed = {definition.inputs[name].name: value for name, value in inputs.items()}
        fetch = {name: info.name for name, info in definition.outputs.items()}
        try:
            return self._session.run(fetch, feed)
        except (tf.errors.OpError, TypeError) as error:
            raise ValueError(getattr(error, "message", str(error))) from error


def _disable_xla():
    """Switch XLA's compiler off in this process, as a stock server does."""
    folder = Path(tf.sysconfig.get_lib())
    names = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
    for name in names:
        try:
            library = ctypes.CDLL(str(folder / name))
            library._ZN10tensorflow21DisableXlaCompilationEv()
            return
        except (OSError, AttributeError):
            continue
    raise OSError(
        "TensorFlow must have a library with DisableXlaCompilation. "
        f"Received: none of {names} in {str(folder)!r}"
    )


def check_local_model(model, version, subject):
    """Run the checks that need the model itself: loading, operations, warm-up.

    Args:
        model: `LocalModel`.
        version: `Path` of the version's folder.
        subject: `Subject` that asks the model.

    Yields:
        Pairs `(passed, text)`, one per check.
    """
    yield True, f"loaded in {model.load_seconds:.2f} s, without XLA's compiler"
    yield (
        "XlaCallModule" not in model.operations,
        f"{len(model.operations)} kinds of operations, all of plain TensorFlow",
    )
    start = time.perf_counter()
    first = next(iter(subject.metadata["signatures"]))
    try:
        model.ask(first, inputs_of(subject, first, np.arange(1)))
    except REFUSALS as error:
        yield False, f"{first}: first answer: {one_line(error)}"
    else:
        yield True, f"{first}: first answer after {time.perf_counter() - start:.2f} s"
    try:
        count = _replay_warmup(model, version)
    except (*REFUSALS, tf.errors.OpError) as error:  # The latter of its records.
        yield False, f"warm-up: {one_line(error)}"
        return
    wanted = len(subject.metadata["signatures"]) * len(subject.metadata["batch_sizes"])
    yield count == wanted, f"{count} warm-up requests answered, {wanted} wanted"


def _replay_warmup(model, version):
    """Have the model answer all warm-up requests; return how many there are.

    Raises:
        ValueError, LookupError, TypeError, tf.errors.OpError: if there is no such file,
            or a request in it is damaged or refused.
    """
    count, path = 0, version / WARMUP_FILE
    if not path.is_file():
        raise ValueError(f"there is no file {WARMUP_FILE.as_posix()}")
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = wire.request_of_log(record)
        _, _, signature, tensors, _ = wire.decode_predict_request(request)
        model.ask(signature, tensors)
        count += 1
    return count

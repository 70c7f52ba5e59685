"""Writes a served model as ONNX or LiteRT, and checks it in that runtime."""

import tempfile

import numpy as np
import tensorflow as tf

from keras_qkformer.serving.check_answers import TOLERANCE
from keras_qkformer.serving.served_model import save_functions

_OPSET = 18


def onnx_writer():
    """Return a function that writes ONNX files and loads them in onnxruntime.

    Returns:
        Function `write(functions, folder)`. `functions` is a dict from names to
        functions with an `input_signature`, `folder` the `Path` of an existing folder.
        It returns a dict from the same names to functions that run the loaded model:
        they take and return dicts from names to arrays.

    Raises:
        ImportError: if the extra `onnx` is not installed.
    """
    try:
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "ONNX needs its packages: pip install 'keras_qkformer[onnx]'"
        ) from error

    def write_one(function, path):
        tf2onnx.convert.from_function(
            function, function.input_signature, opset=_OPSET, output_path=path
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))

    def write(functions, folder):
        return {
            name: write_one(function, str(folder / f"{name}.onnx"))
            for name, function in functions.items()
        }

    return write


def litert_writer():
    """Return a function that writes `model.tflite` and loads it in LiteRT.

    The file has a signature for each function.

    Returns:
        See `onnx_writer`.

    Raises:
        ImportError: if the extra `litert` is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "LiteRT needs its package: pip install 'keras_qkformer[litert]'"
        ) from error

    def write(functions, folder):
        path = folder / "model.tflite"
        with tempfile.TemporaryDirectory() as saved:
            save_functions(saved, functions)
            converter = tf.lite.TFLiteConverter.from_saved_model(
                saved, signature_keys=list(functions)
            )
            path.write_bytes(converter.convert())
        interpreter = Interpreter(str(path))

        def run(name):
            runner = interpreter.get_signature_runner(name)
            return lambda inputs: runner(**inputs)

        return {name: run(name) for name in functions}

    return write


WRITERS = {"onnx": onnx_writer, "litert": litert_writer}
"""Functions that return a writer; `ImportError` if its packages are missing."""


def compare(runs, served, examples):
    """Compare logits of another runtime with the model's, for three batch sizes.

    Args:
        runs: dict that a writer returned, see `onnx_writer`.
        served: the `ServedModel` that was written.
        examples: dict of arrays: `images`, and the model's `logits`.

    Returns:
        Dict from the names of `runs` to the largest difference of a logit.

    Raises:
        ValueError: if a difference is too large.
    """
    inputs = served.resized(examples["images"])
    expected = examples["logits"]
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max()))

    def whole(run, inputs):
        return run({served.input_name: inputs})["logits"]

    def by_frames(run, inputs):
        state = served.stream_rest(len(inputs))
        for frame in np.swapaxes(inputs, 0, 1):
            outputs = run({"frame": np.ascontiguousarray(frame), **state})
            state = {name: outputs[f"next_{name}"] for name in state}
        return outputs["logits"]

    differences = {}
    for name, run in runs.items():
        answer = by_frames if name == "stream" else whole
        differences[name] = max(
            float(np.abs(answer(run, inputs[:n]) - expected[:n]).max())
            for n in (1, 2, len(inputs))
        )
        if not differences[name] <= bound:
            raise ValueError(
                f"The logits of {name} must be those of the model within {bound:.1e}. "
                f"Received: a difference of {differences[name]:.1e}"
            )
    return differences

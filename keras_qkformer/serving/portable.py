"""Writes a served model as ONNX or LiteRT, and checks it in that runtime."""

import tempfile

import numpy as np
import tensorflow as tf

from keras_qkformer.serving.check_answers import TOLERANCE
from keras_qkformer.serving.served_model import save_functions

_OPSET = 18


def write_onnx(functions, folder):
    """Write an ONNX file for each function and load it in onnxruntime.

    Args:
        functions: dict from names to functions with an `input_signature`.
        folder: `Path` of an existing folder.

    Returns:
        Dict from the same names to functions that run the loaded model: they take and
        return dicts from names to arrays.

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

    def written(name, function):
        path = str(folder / f"{name}.onnx")
        tf2onnx.convert.from_function(
            function, function.input_signature, opset=_OPSET, output_path=path
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))

    return {name: written(name, function) for name, function in functions.items()}


def write_litert(functions, folder):
    """Write `model.tflite` with a signature for each function; load it in LiteRT.

    Args:
        functions: see `write_onnx`.
        folder: see `write_onnx`.

    Returns:
        See `write_onnx`.

    Raises:
        ImportError: if the extra `litert` is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "LiteRT needs its package: pip install 'keras_qkformer[litert]'"
        ) from error
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


WRITERS = {"onnx": write_onnx, "litert": write_litert}


def compare(runs, served, examples):
    """Compare logits of another runtime with the model's, for three batch sizes.

    Args:
        runs: dict that `write_onnx` or `write_litert` returned.
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

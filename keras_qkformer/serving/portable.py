"""Writes a served model for another runtime, and checks it in that runtime."""

import collections
import tempfile

import numpy as np
import tensorflow as tf

from keras_qkformer.serving import stage_outputs
from keras_qkformer.serving.agreement import compare_spikes
from keras_qkformer.serving.check_answers import TOLERANCE, unexplained
from keras_qkformer.serving.served_model import SPIKES, save_functions

_OPSET = 18


def onnx_writer():
    """Return a function that writes ONNX files and loads them in onnxruntime.

    Returns:
        Function `write(served, folder, spikes)`. `served` is a `ServedModel`, `folder`
        the `Path` of an existing folder, and `spikes` tells whether the model also
        returns the spikes of every neuron. It returns a dict from `"model"`, and for
        event frames `"stream"`, to functions that run the loaded model: they take and
        return dicts from names to arrays, see `ServedModel.portable`.

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

    def write(served, folder, spikes):
        return {
            name: write_one(function, str(folder / f"{name}.onnx"))
            for name, function in served.portable(spikes).items()
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

    def write(served, folder, spikes):
        functions, path = served.portable(spikes), folder / "model.tflite"
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


def openvino_writer(weights):
    """Return a function that writes OpenVINO models and loads them in that runtime.

    Args:
        weights: `UnitWeights`. They fold `served.reference`, and perhaps round it.

    Returns:
        See `onnx_writer`.

    Raises:
        ImportError: if the extra `openvino` is not installed.
    """
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "OpenVINO needs its package: pip install 'keras_qkformer[openvino]'"
        ) from error
    from keras_qkformer.serving import openvino_model, openvino_runtime

    def write(served, folder, spikes):
        models = openvino_model.make_models(served, weights, spikes)
        return {
            name: openvino_runtime.save(model, folder / f"{name}.xml")
            for name, model in models.items()
        }

    return write


WRITERS = {"onnx": onnx_writer, "litert": litert_writer}
"""Functions that return a writer, by format; OpenVINO's needs weights."""


def compare(runs, probes, served, examples):
    """Compare the runs of another runtime with a float64 model, for three batch sizes.

    The written functions return logits alone. So the same functions, written once more
    with spikes, are checked by `compare_spikes`; the logits of the former must be those
    of the latter, and their stage outputs those of the float64 model with the same
    spikes, except where rounding may flip a spike.

    Args:
        runs: dict that a writer returned, see `onnx_writer`.
        probes: the same of the functions that also return spikes.
        served: the `ServedModel` that was written.
        examples: dict of arrays: `images`, and the trained model's `logits`.

    Returns:
        Dict from the names of `runs` to a dict: `largest_difference` of a logit, given
        the same spikes; the numbers `flips`, of spikes that rounding moved, `fired` and
        `neurons`; `flips_by_layer`; and, over the batches, `examples`,
        `same_as_with_spikes` and `same_top1`.

    Raises:
        ValueError: if a run is not that of the model.
    """
    inputs = served.resized(examples["images"])
    normalized, expected = served.normalized(inputs), examples["logits"]

    def whole(run, inputs):
        return run({served.input_name: inputs})

    def by_frames(run, inputs):
        state, steps = served.stream_rest(len(inputs)), []
        for frame in np.swapaxes(inputs, 0, 1):
            outputs = run({"frame": np.ascontiguousarray(frame), **state})
            state = {name: outputs[f"next_{name}"] for name in state}
            kept = outputs.keys() - {"logits", *(f"next_{name}" for name in state)}
            steps.append({name: outputs[name] for name in kept})
        steps = {k: np.concatenate([each[k] for each in steps], 1) for k in steps[0]}
        return {"logits": outputs["logits"], **steps}

    def compared(name):
        answer = by_frames if name == "stream" else whole
        flips, same, same_top1 = collections.Counter(), [], []
        largest = fired = neurons = 0
        for n in sorted({1, 2, len(inputs)} & {*range(len(inputs) + 1)}):
            outputs = answer(probes[name], inputs[:n])
            probed = outputs["logits"]
            spikes = {
                k.removeprefix(SPIKES): v
                for k, v in outputs.items()
                if k.startswith(SPIKES)
            }
            agreement = compare_spikes(served.reference, normalized[:n], spikes, probed)
            written = answer(runs[name], inputs[:n])
            logits = written["logits"]
            difference = np.abs(logits - probed).max(-1)
            equal = difference <= TOLERANCE * max(1.0, float(np.abs(probed).max()))
            why = unexplained(difference, equal, agreement.close)
            if why:
                raise ValueError(
                    "Logits must be the same with spikes as outputs and without. "
                    f"Received: a difference of {why}"
                )
            if served.stages:
                difference = stage_outputs.differences(
                    served.reference, normalized[:n], spikes, written
                )
                equal &= difference <= TOLERANCE
                why = unexplained(difference, equal, agreement.close)
                if why:
                    raise ValueError(
                        "Stages and masks must be those of the model with the same "
                        f"spikes. Received: a relative difference of {why}"
                    )
            same += list(equal)
            same_top1 += list(logits.argmax(-1) == expected[:n].argmax(-1))
            flips.update(agreement.flips)
            fired, neurons = fired + agreement.fired, neurons + agreement.neurons
            largest = max(largest, agreement.largest_difference)
        return {
            "largest_difference": largest,
            "flips": sum(flips.values()),
            "fired": fired,
            "neurons": neurons,
            "flips_by_layer": {name: n for name, n in flips.items() if n},
            "examples": len(same),
            "same_as_with_spikes": int(np.sum(same)),
            "same_top1": int(np.sum(same_top1)),
        }

    found = {}
    for name in runs:
        try:
            found[name] = compared(name)
        except ValueError as error:
            raise ValueError(f"{name} must agree with the model. {error}") from error
    return found

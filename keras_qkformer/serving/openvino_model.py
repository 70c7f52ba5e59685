"""OpenVINO models of a whole classifier, and of one time step of its stream."""

import keras
import numpy as np
import openvino as ov
from openvino import opset13 as op

from keras_qkformer.layers.lif import IF
from keras_qkformer.models import StreamingClassifier
from keras_qkformer.serving.openvino_graph import GraphBuilder, Maps
from keras_qkformer.serving.served_model import SPIKES


def make_models(served, weights, spikes=False):
    """Make the models of a classifier, as a dict by name.

    Args:
        served: `ServedModel`. Its `reference` is built, and folded with these weights.
        weights: `UnitWeights`.
        spikes: bool. Whether the spikes of every neuron are outputs, too.

    Returns:
        Dict from `"model"`, and for event frames `"stream"`, to `openvino.Model`.

    Raises:
        ValueError: if there is no rule for a layer.
    """
    model, preprocessing = served.reference, served.preprocessing
    models = {"model": whole_model(model, preprocessing, weights, spikes)}
    if served.stream is not None:
        stream = StreamingClassifier(model)
        models["stream"] = step_model(stream, preprocessing, weights, spikes)
    return models


def whole_model(model, preprocessing, weights, spikes=False):
    """Make the model from images or frames to logits.

    Args:
        model: built `SpikingClassifier`.
        preprocessing: its `Preprocessing`.
        weights: `UnitWeights` of the model.
        spikes: bool. Whether the spikes of every neuron are outputs, too.

    Returns:
        `openvino.Model`. Input: `images` or `frames`, float32
        `(batch, [time,] height, width, channels)` before normalization. Outputs:
        `logits` `(batch, classes)`, and `spikes_NEURON` `(batch, time, ...)`.
    """
    backbone = model.backbone
    graph = GraphBuilder(weights)
    shape = [-1, *model.input_shape[1:]]
    given = op.parameter(shape, ov.Type.f32, name="x")
    x = _normalized(given, preprocessing)
    if backbone.static:
        x = Maps(op.transpose(x, [0, 3, 1, 2]), 1)
    else:
        x = op.transpose(x, [1, 0, 4, 2, 3])
        height, width = backbone.image_size
        flat = op.constant(np.array([-1, backbone.in_channels, height, width]))
        x = Maps(op.reshape(x, flat, False), backbone.time_steps)
    outputs = {"logits": _logits(graph, model, x)}
    if spikes:
        names = {neuron: name for name, neuron in model.neurons().items()}
        for neuron, fired in graph.spikes.items():
            outputs[f"{SPIKES}{names[neuron]}"] = _batch_first(
                fired, backbone.time_steps
            )
    return _model({"images" if backbone.static else "frames": given}, outputs)


def step_model(stream, preprocessing, weights, spikes=False):
    """Make the model of one time step.

    Args:
        stream: `StreamingClassifier`.
        preprocessing: `Preprocessing` of its model.
        weights: `UnitWeights` of its model.
        spikes: see `whole_model`.

    Returns:
        `openvino.Model`. Inputs: `frame` `(batch, height, width, channels)` before
        normalization, and the state. Outputs: `logits`, and the next state, whose names
        start with `next_`; and `spikes_NEURON` `(batch, 1, ...)`.
    """
    model = stream.model
    backbone = model.backbone
    frame = (*backbone.image_size, backbone.in_channels)
    given = {"frame": op.parameter([-1, *frame], ov.Type.f32)}
    for name, entry in stream.state_spec.items():
        kind = ov.Type.i32 if entry.dtype == "int32" else ov.Type.f32
        given[name] = op.parameter([-1, *entry.shape], kind)
    states = {
        neuron: _channels_first(given[name]) for name, neuron in stream.neurons.items()
    }
    graph = GraphBuilder(weights, states)
    x = op.transpose(_normalized(given["frame"], preprocessing), [0, 3, 1, 2])
    now = _logits(graph, model, Maps(x, 1))
    steps = op.add(given["steps"], op.constant(np.int32(1)))
    count = op.unsqueeze(op.convert(steps, "f32"), op.constant(np.array([1])))
    change = op.divide(op.subtract(now, given["mean"]), count)
    mean = op.add(given["mean"], change)
    outputs = {
        "logits": mean,
        "next_steps": steps,
        "next_mean": op.add(given["mean"], change),
    }
    for name, neuron in stream.neurons.items():
        outputs[f"next_{name}"] = _channels_last(states[neuron])
        if spikes:
            outputs[f"{SPIKES}{name}"] = _batch_first(graph.spikes[neuron], 1)
    return _model(given, outputs)


def _normalized(x, preprocessing):
    """As `Preprocessing.normalized`, in the same order."""
    if preprocessing.max_value != 1:
        x = op.divide(x, op.constant(np.float32(preprocessing.max_value)))
    if any(preprocessing.mean):
        x = op.subtract(x, op.constant(np.array(preprocessing.mean, "float32")))
    if any(value != 1 for value in preprocessing.std):
        x = op.divide(x, op.constant(np.array(preprocessing.std, "float32")))
    return x


def _logits(graph, model, x):
    """Add the backbone and what follows it, layer by layer."""
    for layer in model.backbone.steps():
        x = graph.add(layer, x)
    _, _, *head = model.layers  # Without the input and the backbone.
    for layer in head:
        if layer.name == "mean_over_tokens":
            x = Maps(op.reduce_mean(x.node, [2, 3], keep_dims=False), x.steps)
        elif isinstance(layer, IF):
            x = graph.add(layer, x)
        elif layer.name == "mean_over_time":
            x = Maps(_mean_over_time(x), 1)
        elif layer.name == "head":
            kernel, bias = (
                op.constant(keras.ops.convert_to_numpy(w).astype("float32"))
                for w in (layer.kernel, layer.bias)
            )
            x = Maps(op.add(op.matmul(x.node, kernel, False, False), bias), 1)
    return x.node


def _mean_over_time(x):
    if x.steps == 1:
        return x.node
    first, *others = op.split(x.node, 0, x.steps).outputs()
    for each in others:
        first = op.add(first, each)
    return op.multiply(first, op.constant(np.float32(1 / x.steps)))


def _batch_first(node, steps):
    """Bring `(steps * batch, [channels, height, width])` to batch, time, ...."""
    rank = len(node.get_output_partial_shape(0))
    sizes = [d.get_length() for d in list(node.get_output_partial_shape(0))[1:]]
    node = op.reshape(node, op.constant(np.array([steps, -1, *sizes])), False)
    return op.transpose(node, [1, 0, 3, 4, 2] if rank == 4 else [1, 0, 2])


def _channels_first(node):
    rank = len(node.get_output_partial_shape(0))
    return op.transpose(node, [0, 3, 1, 2]) if rank == 4 else node


def _channels_last(node):
    rank = len(node.get_output_partial_shape(0))
    return op.transpose(node, [0, 2, 3, 1]) if rank == 4 else node


def _model(inputs, outputs):
    for name, node in inputs.items():
        node.set_friendly_name(name)
        node.output(0).set_names({name})
    results = []
    for name, node in outputs.items():
        result = op.result(node)
        result.output(0).set_names({name})
        result.set_friendly_name(name)
        results.append(result)
    return ov.Model(results, list(inputs.values()), "keras_qkformer")

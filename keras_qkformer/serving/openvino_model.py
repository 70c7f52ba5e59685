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
        steps = [op.transpose(x, [0, 3, 1, 2])] * backbone.time_steps
    else:
        x = op.transpose(x, [0, 1, 4, 2, 3])
        axis = op.constant(1)
        parts = op.split(x, axis, backbone.time_steps).outputs()
        steps = [op.squeeze(part, axis) for part in parts]
    outputs = {"logits": _head(model, [_features(graph, model, x) for x in steps])}
    if spikes:
        names = {neuron: name for name, neuron in model.neurons().items()}
        for neuron, fired in graph.spikes.items():
            outputs[f"{SPIKES}{names[neuron]}"] = _over_time(fired)
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
    now = _head(model, [_features(graph, model, x)])
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
        outputs[f"next_{name}"] = _channels_last(graph.states[neuron])
        if spikes:
            outputs[f"{SPIKES}{name}"] = _over_time(graph.spikes[neuron])
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


def _features(graph, model, x):
    """Add a time step of the backbone, and of what follows it before the mean."""
    x = Maps(x)
    for layer in model.backbone.steps():
        x = graph.add(layer, x)
    _, _, *head = model.layers  # Without the input and the backbone.
    for layer in head:
        if layer.name == "mean_over_tokens":
            x = Maps(op.reduce_mean(x.node, [2, 3], keep_dims=False))
        elif isinstance(layer, IF):
            x = graph.add(layer, x)
    return x.node


def _head(model, features):
    """Add the mean over time, and the linear layer."""
    x, *others = features
    for each in others:
        x = op.add(x, each)
    if others:
        x = op.multiply(x, op.constant(np.float32(1 / len(features))))
    kernel, bias = (
        op.constant(keras.ops.convert_to_numpy(w).astype("float32"))
        for w in model.get_layer("head").weights
    )
    return op.add(op.matmul(x, kernel, False, False), bias)


def _over_time(nodes):
    """Stack `(batch, [channels, height, width])` to batch, time, ...."""
    axis = op.constant(1)
    nodes = [op.unsqueeze(node, axis) for node in nodes]
    node = op.concat(nodes, 1) if len(nodes) > 1 else nodes[0]
    rank = len(node.get_output_partial_shape(0))
    return op.transpose(node, [0, 1, 3, 4, 2]) if rank == 5 else node


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

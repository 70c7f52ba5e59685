"""What an export can return beside logits: stages, masks, and what operations take.

The outputs, all with the time steps second (in a stream: the one of this frame):

    logits_of_steps     (batch, time, classes)  not of a stream
    features_STAGE      (batch, time, height, width, channels)
    mask_BLOCK          (batch, time, height, width, heads) of tokens, or
                        (batch, time, channels)
    input_means         (batch, time, operations)
"""

import numpy as np
from keras import ops

from keras_qkformer.layers import (
    ChannelQKAttention,
    SpikeDrivenAttention,
    TokenQKAttention,
)
from keras_qkformer.layers.computation import Convolution, Product
from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.layers.operation_scope import operation_scope

_OF_CHANNELS = (ChannelQKAttention, SpikeDrivenAttention)


def whole(model, inputs, fired=None):
    """Return logits and stage outputs of images or sequences of frames.

    Args:
        model: `SpikingClassifier`.
        inputs: tensor `(batch, [time,] height, width, channels)`, normalized.
        fired: dict that gets the spikes of every neuron, or `None`.

    Returns:
        Dict of tensors, see the module, and `logits`.
    """

    def answer():
        features = model.backbone(inputs, training=False)
        of_steps = model.logits_of_steps(inputs, features=features)
        logits = ops.mean(of_steps, 1)
        return {"logits": logits, "logits_of_steps": of_steps}, features

    return _watched(model, answer, {} if fired is None else fired)


def of_frame(stream, frame, state, fired=None):
    """Return logits, state and stage outputs of one frame.

    Args:
        stream: `StreamingClassifier`.
        frame: tensor `(batch, height, width, channels)`, normalized.
        state: dict of tensors.
        fired: dict that gets the spikes of every neuron, or `None`.

    Returns:
        `(outputs, state)`: dict of tensors, see the module, with `logits`; and the
        state for the next call.
    """
    after = {}

    def answer():
        logits, new, features = stream.look(frame, state)
        after.update(new)
        return {"logits": logits}, features

    fired = {} if fired is None else fired
    return _watched(stream.model, answer, fired), after


def describe(model):
    """Return what the outputs are, for metadata.

    Args:
        model: `SpikingClassifier`.

    Returns:
        Dict from the names of outputs to sentences, and from `"operations"` to the
        paths of the operations in `input_means`, in order.
    """
    backbone = model.backbone
    kind = "potentials" if backbone.has_potentials else "numbers of spikes"
    told = {
        "logits": "mean of the logits over the time steps so far",
        "logits_of_steps": "logits of each time step",
    }
    for stage in backbone.output:
        told[f"features_{stage}"] = f"{kind} after {stage}, at each time step"
    for block, attention in _attentions(model).items():
        what = "channel" if isinstance(attention, _OF_CHANNELS) else "token"
        told[f"mask_{block}"] = f"1 where a {what} passes the attention, else 0"
    told["input_means"] = (
        "mean of all entries that go into each operation, of products the first "
        "factor; a rate, if they are spikes"
    )
    return {**told, "operations": [path for path, _ in _operations(model)]}


def differences(model, inputs, spikes, outputs):
    """Compare stage outputs of a run with a float64 model that has the same spikes.

    Args:
        model: built `SpikingClassifier` with the dtype float64.
        inputs: array `(batch, [time,] height, width, channels)`: inputs of the run.
        spikes: dict from the names in `model.neurons()` to arrays
            `(batch, time, ...)`: spikes of the run.
        outputs: dict of arrays of the run.

    Returns:
        Float array `(batch,)`: the largest difference of an output, relative to its
        largest value or to 1.
    """
    names = {neuron: name for name, neuron in model.neurons().items()}

    def fire(neuron, current):
        return ops.convert_to_tensor(spikes[names[neuron]], "float64")

    with neuron_scope(fire=fire):
        expected = whole(model, ops.convert_to_tensor(inputs, "float64"))
    if "logits_of_steps" not in outputs:  # Of a stream; no other may be missing.
        del expected["logits_of_steps"]
    found = np.zeros(len(inputs))
    for name, right in expected.items():
        right = ops.convert_to_numpy(right)
        off = np.abs(outputs[name] - right).reshape(len(inputs), -1).max(-1)
        found = np.maximum(found, off / max(1.0, float(np.abs(right).max())))
    return found


def _watched(model, answer, fired):
    """Return the outputs of `answer()`, and what the model did meanwhile."""
    wanted = {key for _, key in _operations(model)}
    dtype, means = model.get_layer("head").compute_dtype, {}

    def take(layer, **tensors):
        for name, x in tensors.items():
            if (layer.path, name) in wanted:
                x = ops.cast(x, dtype)
                means[layer.path, name] = ops.mean(x, tuple(range(2, x.ndim)))

    with neuron_scope(record=fired), operation_scope(take):
        outputs, features = answer()
    *_, last = features.values()
    neuron = model.backbone.head_neuron() and model.get_layer("head_neuron")
    pooled = ops.mean(last, (2, 3)) if neuron is None else fired[neuron]
    means["head", "inputs"] = ops.mean(pooled, -1)
    missing = [path for path, key in _operations(model) if key not in means]
    if missing:
        raise ValueError(
            "A layer that describes its operations must tell what goes into them, see "
            f"`layers.operation_scope`. Received: nothing from {missing}"
        )
    for stage, x in features.items():
        outputs[f"features_{stage}"] = x
    for block, attention in _attentions(model).items():
        mask = fired[attention.attention_neuron]
        of_channels = isinstance(attention, _OF_CHANNELS)
        outputs[f"mask_{block}"] = mask[:, :, 0, 0] if of_channels else mask
    # An image passes the first convolution once, for all time steps.
    none = ops.zeros_like(means["head", "inputs"])
    columns = [none + means[key] for _, key in _operations(model)]
    outputs["input_means"] = ops.stack(columns, -1)
    return outputs


def _operations(model):
    """List the operations as pairs: their path, and how their layer tells the input."""
    found = []
    for each in model.backbone.computations():
        if isinstance(each, Convolution):
            found.append((each.path, (each.path, "inputs")))
        elif isinstance(each, Product):
            layer = each.path.rpartition("/")[0]
            found.append((each.path, (layer, each.factors[0])))
    return [*found, ("head", ("head", "inputs"))]


def _attentions(model):
    """Return the attention layers with a mask, by the names of their blocks."""
    kinds = (TokenQKAttention, *_OF_CHANNELS)
    return {
        layer.path.rpartition("/")[0] or layer.path: layer
        for layer in reversed(model.backbone._flatten_layers(include_self=False))
        if isinstance(layer, kinds)
    }

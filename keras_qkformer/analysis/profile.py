"""What each layer of a model holds, computes and moves, and how long it takes here."""

import dataclasses
import functools
import math
import re
import statistics
import time

import keras
import numpy as np
from keras import ops

from keras_qkformer.analysis.operations import operations
from keras_qkformer.analysis.roofline import least_seconds
from keras_qkformer.models import count_parameters
from keras_qkformer.ops.inference import inference_function
from keras_qkformer.ops.spatial import conv2d

SPIKES = 0.2
"""Share of ones in the random inputs of layers. No kernel here depends on it."""
COPY_BYTES = 1 << 28
"""Bytes of the tensor that is copied: more than the caches of a processor hold."""
MATRICES = tuple(1 << n for n in range(10, 15))
"""Rows of the two square matrices that are multiplied."""
BATCHES = tuple(1 << n for n in range(2, 11))
"""Maps that are convolved together."""
MAP, KERNEL = (32, 32, 192), (3, 3, 192, 192)
SECONDS = 0.05
"""Of these sizes, the first that takes so long, or the largest, is measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """A layer of a model, on one example.

    Attributes:
        path: str. Such as `"stage1_block1/attention/query"`.
        depth: int. 0 for the layers of the chain that makes the model, 1 for the layers
            in these, and so on.
        parameters: int. Its trainable values, with those of the layers in it.
        macs: int. Multiply-accumulates of its convolutions and products, as computed
            here: an image passes the first convolution once.
        activation_bytes: int. What its convolutions and products read and write,
            weights apart; of a layer without any, its input and output.
        weight_bytes: int. What its convolutions read of weights.
        call: `LayerCall`.
    """

    path: str
    depth: int
    parameters: int
    macs: int
    activation_bytes: int
    weight_bytes: int
    call: "LayerCall"


@dataclasses.dataclass(kw_only=True)
class LayerCall:
    """How a layer was called.

    Attributes:
        layer: Keras layer.
        inputs: list of pairs of a shape, batch first, and the name of a dtype.
        options: dict of its other arguments, those that are no tensors.
        outputs: like `inputs`.
    """

    layer: keras.layers.Layer
    inputs: list
    options: dict
    outputs: list


def summarize(model, batch_size=1):
    """List the layers of a classifier, each followed by the layers in it.

    Below a layer stand the layers in it, if these compute: blocks, their attention and
    MLP, and the units of these.

    Args:
        model: a `SpikingClassifier`.
        batch_size: int > 0. Examples in the shapes of the calls.

    Returns:
        List of `LayerSummary`, in the order of their calls.

    Raises:
        ValueError: if a layer does not describe what it computes.

    Example:
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> first, unit, *_, head = summarize(model)
    >>> first.path, unit.path, unit.macs, head.path, head.parameters
    ('patch_embed1', 'patch_embed1/unit0', 18432, 'head', 1290)
    """
    calls = _calls(model, batch_size)
    found, itemsize = operations(model), _itemsize(model.backbone.compute_dtype)
    _, _, *head = model.layers  # Without the input and the backbone.
    return [
        _summary(calls[layer], depth, found, itemsize)
        for layer, depth in _in_order([*model.backbone.steps(), *head], calls)
    ]


def _calls(model, batch_size):
    """How every layer in a model is called, as a dict from layers, in order."""
    calls = {}
    layers = model._flatten_layers(include_self=False)

    def note(layer, call, *tensors, **options):
        kept = {name: x for name, x in options.items() if _is_option(x)}
        calls[layer] = noted = LayerCall(
            layer=layer, inputs=_kinds(tensors), options=kept, outputs=[]
        )
        result = call(*tensors, **options)
        noted.outputs = _kinds(keras.tree.flatten(result))
        return result

    for layer in layers:
        layer.call = functools.partial(note, layer, layer.call)
    try:
        shape = (batch_size, *model.input_shape[1:])
        _Traced(model)(keras.Input(batch_shape=shape, dtype=model.input.dtype))
    finally:
        for layer in layers:
            del layer.call
    return calls


class _Traced(keras.layers.Layer):
    """Calls a model. For a symbolic input, Keras computes shapes and nothing else."""

    def __init__(self, model):
        super().__init__(autocast=False)
        self.model = model

    def call(self, inputs):
        return self.model(inputs, training=False)


def _is_option(value):
    return value is None or isinstance(value, bool | keras.layers.Layer)


def _kinds(tensors):
    return [(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in tensors]


def _in_order(layers, calls, depth=0):
    """Yield layers that were called and those in them, each with its depth."""
    order = {layer: number for number, layer in enumerate(calls)}
    for layer in sorted((x for x in layers if x in calls), key=order.get):
        yield layer, depth
        inner = layer._flatten_layers(include_self=False, recursive=False)
        if any(hasattr(each, "computations") for each in inner):
            yield from _in_order(inner, calls, depth + 1)


def _summary(call, depth, found, itemsize):
    path = call.layer.path
    own = [x for x in found if x.path == path or x.path.startswith(f"{path}/")]
    if own:
        size = itemsize * sum(each.inputs + each.outputs for each in own)
    else:
        kinds = [*call.inputs, *call.outputs]
        size = sum(int(np.prod(shape[1:])) * _itemsize(dtype) for shape, dtype in kinds)
    return LayerSummary(
        path=path,
        depth=depth,
        parameters=count_parameters(call.layer),
        macs=sum(each.macs_once for each in own),
        activation_bytes=size,
        weight_bytes=itemsize * sum(each.parameters for each in own),
        call=call,
    )


def _itemsize(dtype):
    bits = re.sub(r"\D", "", dtype)  # As in "bfloat16"; "bool" has none.
    return int(bits or 8) // 8


def profile(model, batch_size=8, repeats=5):
    """Time every layer of a classifier in inference on this backend and machine.

    Each layer is compiled alone, as Keras compiles a model, and called on random spikes
    of the shape that it takes in the model. The whole model, and a matrix product, a
    convolution and a copy that tell what the machine can do, are called in turns with
    them. Each time is the median of the calls after two that are dropped.

    The sum over the layers of the chain differs from the time of the whole: alone, a
    layer reads and writes memory where a compiled whole may not, and finds other data
    in the cache.

    Args:
        model: a `SpikingClassifier`.
        batch_size: int > 0.
        repeats: int > 0. Number of timed calls.

    Returns:
        Dict that JSON can hold. `layers`: list of dicts, in the order of `summarize`,
        with the attributes of `LayerSummary`, `seconds` for a batch, the
        `roofline_share`, which is the least time by the machine's rates over
        `seconds`, and its `limit`, `"arithmetic"` or `"bytes"`. The same for
        `together`, the sum over the layers of depth 0, and for the `whole` model.
        `machine`: `macs_per_s`, the higher rate of a product and a convolution, `by`
        which of them, and `bytes_per_s`, read and written. And `backend`, `precision`,
        `batch_size` and `repeats`.

    Raises:
        ValueError: if a layer does not describe what it computes.
    """
    rows = summarize(model, batch_size)
    dtype = model.backbone.compute_dtype
    made = functools.cache(_random_spikes)
    arithmetic = {
        "matrix product": _product(dtype),
        "convolution": _convolution(dtype),
    }
    functions = {
        **{row.path: _alone(row.call, made) for row in rows},
        **{name: call for name, (call, _) in arithmetic.items()},
        "whole model": _in_whole(model, batch_size),
        "large copy": _copy(),  # No path has blanks.
    }
    seconds = _medians(functions, repeats)
    by_name = {name: macs / seconds[name] for name, (_, macs) in arithmetic.items()}
    fastest = max(by_name, key=by_name.get)
    rates = by_name[fastest], 2 * COPY_BYTES / seconds["large copy"]

    def share(parts, taken):
        macs = batch_size * sum(each.macs for each in parts)
        moved = sum(
            batch_size * each.activation_bytes + each.weight_bytes for each in parts
        )
        least, limit = least_seconds(macs, moved, *rates)
        return {"seconds": taken, "roofline_share": least / taken, "limit": limit}

    chain = [row for row in rows if not row.depth]
    return {
        "backend": keras.backend.backend(),
        "precision": dtype,
        "batch_size": batch_size,
        "repeats": repeats,
        "layers": [{**told(row), **share([row], seconds[row.path])} for row in rows],
        "together": share(chain, sum(seconds[row.path] for row in chain)),
        "whole": share(chain, seconds["whole model"]),
        "machine": {
            "macs_per_s": rates[0],
            "by": fastest,
            "bytes_per_s": rates[1],
        },
    }


def told(row):
    """Return a `LayerSummary` as a dict that JSON can hold.

    Args:
        row: `LayerSummary`.
    """
    fields = [each.name for each in dataclasses.fields(row) if each.name != "call"]
    return {name: getattr(row, name) for name in fields}


def _medians(functions, repeats):
    """Median seconds of the calls of functions, in turns, after two of each."""
    times = {name: [] for name in functions}
    for number in range(2 + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _alone(call, made):
    layer, options = call.layer, call.options
    given = [x for x in options.values() if isinstance(x, keras.layers.Layer)]
    variables = [v for each in (layer, *given) for v in each.variables]
    run = inference_function(lambda *xs: layer(*xs, **options), variables)
    return functools.partial(run, *(made(*kind) for kind in call.inputs))


def _in_whole(model, batch_size):
    run = inference_function(lambda x: model(x, training=False), model.variables)
    shape = (batch_size, *model.input_shape[1:])
    x = np.random.default_rng(0).standard_normal(shape, "float32")
    return functools.partial(run, ops.convert_to_tensor(x, model.input.dtype))


def _random_spikes(shape, dtype):
    spikes = np.random.default_rng(0).random(shape, "float32") < SPIKES
    return ops.convert_to_tensor(spikes.astype("float32"), dtype)


def _product(dtype):
    """A product of two square matrices that takes a while, and its MACs."""
    run = inference_function(ops.matmul, [])

    def make(rows):
        x = _random_spikes((rows, rows), dtype)
        return functools.partial(run, x, x)

    call, rows = _that_takes_a_while(make, MATRICES)
    return call, rows**3


def _convolution(dtype):
    """A convolution that takes a while, and its MACs."""
    run = inference_function(lambda x, kernel: conv2d(x, kernel, 1), [])
    kernel = _random_spikes(KERNEL, dtype)
    call, batch = _that_takes_a_while(
        lambda batch: functools.partial(
            run, _random_spikes((batch, *MAP), dtype), kernel
        ),
        BATCHES,
    )
    return call, batch * MAP[0] * MAP[1] * math.prod(KERNEL)


def _that_takes_a_while(make, sizes):
    for size in sizes:
        call = make(size)
        if _medians({"": call}, 1)[""] >= SECONDS:
            break
    return call, size


def _copy():
    # Adding 1 reads and writes every value once, and no compiler leaves it out.
    run = inference_function(lambda x: x + 1.0, [])
    return functools.partial(run, ops.zeros((COPY_BYTES // 4,), "float32"))

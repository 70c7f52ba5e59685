"""Every exception for PyTorch, each with its reason. See `by_backend.py`."""

import contextlib
import functools
import inspect
import math
import warnings

import torch
from keras import ops

from keras_qkformer.ops import steps_on_torch
from keras_qkformer.ops.expected_calls import expected_calls
from keras_qkformer.ops.program_on_torch import is_traced, quietly

# Compiling a neuron pays if its input has at least this many values.
COMPILED_ELEMENTS = 2**19
# And if all its calls together see at least this many.
COMPILED_IN_ALL = 2**26


def custom_gradient(general, function):
    """Adapt `grad`, which Keras 3.15 calls as `grad(*arguments, upstream=upstream)`.

    Args:
        general: `by_backend.custom_gradient` for all backends.
        function: see there.

    Returns:
        Function of the same tensors that returns the result.
    """

    def named(*tensors):
        result, grad = function(*tensors)
        return result, lambda *_, upstream: grad(upstream)

    return general(named)


def batch_moments(general, x, count):
    """On a CPU, use the function behind PyTorch's own BatchNorm.

    PyTorch 2.13 runs every operation as a separate pass over memory. This one reads `x`
    twice and writes nothing, but adds row by row, which accumulates rounding errors. So
    up to 64 sums run side by side.

    Args:
        general: `normalization.batch_moments` for all backends.
        x: float tensor `(..., channels)`, float32 or wider.
        count: number of values of each channel.

    Returns:
        `(mean, variance)`, both `(channels,)`.
    """
    if x.device.type != "cpu" or is_traced():
        return general(x, count)
    channels = x.shape[-1]
    rows = x.numel() // channels
    groups = math.gcd(rows, 64)
    x = x.reshape(rows // groups, groups * channels)
    means, variances = torch.batch_norm_update_stats(x, None, None, 0.0)
    means, variances = (m.reshape(groups, channels) for m in (means, variances))
    mean = means.mean(0)
    return mean, variances.mean(0) + torch.square(means - mean).mean(0)


def convolve(general, x, kernel, strides, padding):
    """Convolve in channels-last memory.

    Keras 3.15 makes PyTorch copy every map to channels-first memory and back. PyTorch
    reads a transposed view as channels-last memory and computes on it without a copy.

    Args:
        general: `spatial.convolve` for all backends.
        x: see there.
        kernel: see there.
        strides: see there.
        padding: see there.

    Returns:
        Tensor `(batch, rows, columns, filters)`.
    """
    if kernel.shape[0] == 1:
        # With strides and fewer than 8 channels, the gradient of PyTorch 2.13 for
        # channels-last memory writes out of bounds.
        x, strides = x[:, ::strides, ::strides], 1
    x = ops.transpose(x, (0, 3, 1, 2))
    y = ops.conv(
        x, kernel, strides=strides, padding=padding, data_format="channels_first"
    )
    return ops.transpose(y, (0, 2, 3, 1))


def max_pool_windows(general, x, strides=2, size=3):
    """Pool in channels-last memory, for the reason given at `convolve`.

    Args:
        general: `spatial.max_pool_windows` for all backends.
        x: see there.
        strides: see there.
        size: see there.

    Returns:
        Tensor `(batch, rows, columns, channels)`.
    """
    x = ops.transpose(x, (0, 3, 1, 2))
    y = ops.max_pool(
        x,
        pool_size=size,
        strides=strides,
        padding="valid",
        data_format="channels_first",
    )
    return ops.transpose(y, (0, 2, 3, 1))


def max_unrolled_steps(general):
    """Unroll longer: PyTorch 2.13 compiles all time steps into registers.

    Args:
        general: `neuron_passes.max_unrolled_steps` for all backends.
    """
    return 64


def apply_passes(general, forward, backward, tensors):
    """Compile the passes of a neuron if its input is large.

    Without compilation, PyTorch 2.13 runs every operation as a separate pass over
    memory. Compilation takes seconds, once, which small tensors do not pay back, nor
    do a few calls, see `expected_calls`.

    Args:
        general: `neuron_passes.apply_passes` for all backends.
        forward: see there.
        backward: see there.
        tensors: see there.

    Returns:
        The output of `forward`.
    """
    x = tensors["x"]
    if (
        x.device.type == "meta"  # Keras infers shapes on this device.
        or is_traced()  # Then the neuron is a part of a larger program.
        or len(x.shape) <= 2
        or x.numel() < COMPILED_ELEMENTS
        or x.numel() * expected_calls() < COMPILED_IN_ALL
    ):
        return general(forward, backward, tensors)
    # Flatten the places: fewer axes mean fewer kinds of shape to compile for.
    batch, time, *places, channels = x.shape
    flat = {**tensors, "x": ops.reshape(x, (batch, time, -1, channels))}
    if "state" in tensors:
        flat["state"] = ops.reshape(tensors["state"], (batch, -1, channels))
    output = general(compiled(forward), compiled(backward), flat)
    return ops.reshape(output, (batch, -1, *places, channels))


@functools.cache
def compiled(function):
    """Compile a function with `torch.compile`, once for each kind of arguments.

    If compilation fails, for example without a C++ compiler, the function warns once
    and runs uncompiled. `TORCH_COMPILE_DISABLE=1` in the environment disables it.

    Args:
        function: function of tensors that returns a tensor or a tuple of tensors. No
            gradient flows through it.

    Returns:
        Function with the same arguments and results.
    """
    # With sizes as variables, all layers share one program. Memory layouts and views
    # would still make programs differ, so `run` passes contiguous tensors.
    options = {"dynamic": True}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # Before PyTorch 2.13, all kinds of neurons share one limit on programs.
        options["isolate_recompiles"] = True
    with quietly():
        fast = torch.compile(function, **options)
    first, failed = True, False

    @functools.wraps(function)
    def run(*args):
        nonlocal first, failed
        if failed:
            return function(*args)
        try:
            with quietly() if first else contextlib.nullcontext():
                result = fast(*(arg.data.contiguous() for arg in args))
        except torch._dynamo.exc.TorchDynamoException as error:
            failed = True
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"PyTorch can't compile the neurons, so they run slower: {reason}",
                stacklevel=2,
            )
            return function(*args)
        first = False
        return result

    return run


def inference_function(general, function, variables):
    """Run operation by operation without gradients, as Keras 3.15 does.

    Args:
        general: `inference.inference_function` for all backends.
        function: see there.
        variables: see there.

    Returns:
        See there.
    """

    def run(*tensors):
        with torch.no_grad():
            result = function(*tensors)
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        return result

    return run


def compiles_by_default(general, model, keras_default):
    """Compile on GPUs, where running operation by operation is several times slower.

    On CPUs compilation takes longer than many a training gains by it.

    Args:
        general: `compiled_model.compiles_by_default` for all backends.
        model: see there.
        keras_default: see there. False on PyTorch.

    Returns:
        bool.
    """
    return any(v.value.device.type == "cuda" for v in model.variables[:1])


def train_step(general, model, plain, *args):
    """Compile, because Keras 3.15 compiles through Dynamo, see `program_on_torch.py`.

    Args:
        general: `compiled_model.train_step` for all backends.
        model: see there.
        plain: see there.
        *args: the batch.

    Returns:
        What `plain(*args)` returns.
    """
    return steps_on_torch.train_step(model, plain, *args)


def test_step(general, model, plain, *args):
    """Compile, for the reason given at `train_step`.

    Args:
        general: `compiled_model.test_step` for all backends.
        model: see there.
        plain: see there.
        *args: the batch.

    Returns:
        What `plain(*args)` returns.
    """
    return steps_on_torch.test_step(model, plain, *args)


def predict_step(general, model, plain, *args):
    """Compile, for the reason given at `train_step`.

    Args:
        general: `compiled_model.predict_step` for all backends.
        model: see there.
        plain: see there.
        *args: the batch.

    Returns:
        What `plain(*args)` returns.
    """
    return steps_on_torch.predict_step(model, plain, *args)

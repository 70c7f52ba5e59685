"""Every exception for PyTorch, each with its reason. See `by_backend.py`."""

import contextlib
import functools
import inspect
import math
import warnings

import torch
from keras import ops

# Values of a neuron's input from which on its compilation pays.
COMPILED_ELEMENTS = 2**19


def custom_gradient(general, function):
    """Keras 3.15 passes the gradient of the result by name, behind the arguments."""

    def named(*tensors):
        result, grad = function(*tensors)
        return result, lambda *_, upstream: grad(upstream)

    return general(named)


def batch_moments(general, x):
    """On a CPU, by what PyTorch's own BatchNorm takes them with.

    PyTorch 2.13 runs every operation as a pass of its own over memory. This one reads x
    twice and writes nothing, but adds up one row after the other, with the rounding
    errors of such a sum. So up to 64 sums run side by side.
    """
    if x.device.type != "cpu":
        return general(x)
    channels = x.shape[-1]
    rows = x.numel() // channels
    groups = math.gcd(rows, 64)
    x = x.reshape(rows // groups, groups * channels)
    means, variances = torch.batch_norm_update_stats(x, None, None, 0.0)
    means, variances = (m.reshape(groups, channels) for m in (means, variances))
    mean = means.mean(0)
    return mean, variances.mean(0) + torch.square(means - mean).mean(0)


def conv2d(general, x, kernel, strides=1):
    """In channels-last memory.

    Keras 3.15 asks PyTorch for channels-first memory, and copies every map there and
    back. A transposed view is channels-last memory to PyTorch, which it computes on as
    it is.
    """
    if kernel.shape[0] == 1:
        # With strides and less than 8 channels, the gradient of PyTorch 2.13 for
        # channels-last memory writes beyond its own.
        x, strides = x[:, ::strides, ::strides], 1
    x = ops.transpose(x, (0, 3, 1, 2))
    y = ops.conv(
        x, kernel, strides=strides, padding="same", data_format="channels_first"
    )
    return ops.transpose(y, (0, 2, 3, 1))


def max_pool_windows(general, x):
    """In channels-last memory, as `conv2d`."""
    x = ops.transpose(x, (0, 3, 1, 2))
    y = ops.max_pool(
        x, pool_size=3, strides=2, padding="valid", data_format="channels_first"
    )
    return ops.transpose(y, (0, 2, 3, 1))


def max_unrolled_steps(general):
    """The compiler of PyTorch 2.13 keeps the potentials of all steps in registers."""
    return 64


def apply_passes(general, forward, backward, tensors):
    """Compile the passes of a neuron if its tensors are large.

    PyTorch 2.13 runs every operation as a pass of its own over memory, unless it is
    compiled: seconds, once, which small tensors do not pay back.
    """
    x = tensors["x"]
    if (
        x.device.type == "meta"  # Keras asks for shapes with such tensors.
        or len(x.shape) <= 2
        or x.numel() < COMPILED_ELEMENTS
    ):
        return general(forward, backward, tensors)
    # The fewer axes, the fewer kinds of shape to compile for.
    batch, time, *places, channels = x.shape
    flat = {**tensors, "x": ops.reshape(x, (batch, time, -1, channels))}
    if "state" in tensors:
        flat["state"] = ops.reshape(tensors["state"], (batch, -1, channels))
    output = general(compiled(forward), compiled(backward), flat)
    return ops.reshape(output, (batch, -1, *places, channels))


@functools.cache
def compiled(function):
    """The function through `torch.compile`, once for each kind of arguments.

    Where that fails, for want of a C++ compiler for instance, it warns once and goes on
    without. `TORCH_COMPILE_DISABLE=1` in the environment switches it off.

    Args:
        function: of tensors, to a tensor or a tuple of tensors; no gradient is taken of
            what happens in it.

    Returns:
        A function like it.
    """
    # Sizes as variables: one program for all layers. So each argument comes without
    # what else would make programs differ: a layout of its own, and being a view.
    options = {"dynamic": True}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # Before PyTorch 2.13 all kinds of neurons share one limit of programs.
        options["isolate_recompiles"] = True
    with _quietly():
        fast = torch.compile(function, **options)
    first, failed = True, False

    @functools.wraps(function)
    def run(*args):
        nonlocal first, failed
        if failed:
            return function(*args)
        try:
            with _quietly() if first else contextlib.nullcontext():
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


@contextlib.contextmanager
def _quietly():
    """Part of what the compiler imports is deprecated, which is none of our users'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield

"""What the plain PyTorch models of all families share, inference only, in float64.

They follow the equations of the papers, with a state dict under the authors' names and
their order of axes, `(time, batch, channels, height, width)`. They share no code with
our layers, so an error in either changes the logits.
"""

import numpy as np

from keras_qkformer.convert.entries import IGNORED


def run_twin(twin, arrays, arguments, inputs):
    """Compute the logits of a checkpoint in PyTorch, in float64.

    Args:
        twin: function `(torch, weights, arguments)` that returns a `Twin`.
        arrays: dict from the authors' names to arrays.
        arguments: dict of all arguments of the backbone.
        inputs: array as our models take it, `(batch, height, width, channels)` for
            images or `(batch, time, height, width, channels)` for frames.

    Returns:
        Array `(batch, classes)`, or `(batch, channels)` without a head.

    Raises:
        ImportError: without PyTorch.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "Verifying weights needs PyTorch: pip install 'keras_qkformer[torch]'"
        ) from error
    weights = {
        name: torch.from_numpy(np.array(array, "float64"))
        for name, array in arrays.items()
        if not name.endswith(IGNORED)
    }
    x = torch.from_numpy(np.moveaxis(np.asarray(inputs, "float64"), -1, -3).copy())
    if arguments["static"]:
        x = x.unsqueeze(0).repeat(arguments["time_steps"], 1, 1, 1, 1)
    else:
        x = x.transpose(0, 1)
    with torch.inference_mode():
        return twin(torch, weights, arguments).logits(x).numpy()


class Twin:
    """Base class of a family's model as functions of its weights.

    A subclass has a method `logits(x)`, with x of the axes above.

    Args:
        torch: the module.
        weights: dict from name to float64 tensor.
        arguments: as for `run_twin`.
    """

    def __init__(self, torch, weights, arguments):
        self.torch = torch
        self.weights = weights
        self.arguments = arguments
        self.tau = arguments["tau"] or 2.0

    def conv_bn(self, x, conv, norm, stride=1):
        """Convolution and BatchNorm of every time step, by their names."""
        functional = self.torch.nn.functional
        kernel = self.weights[f"{conv}.weight"]
        kernel = kernel.reshape(*kernel.shape, *[1] * (4 - kernel.ndim))
        bias, padding = self.weights.get(f"{conv}.bias"), kernel.shape[-1] // 2
        groups = x.shape[2] // kernel.shape[1]  # One, or depthwise the channels.
        x, shape = x.flatten(0, 1), x.shape[:2]
        y = functional.conv2d(x, kernel, bias, stride, padding, groups=groups)
        parts = ("running_mean", "running_var", "weight", "bias")
        parts = (self.weights[f"{norm}.{part}"] for part in parts)
        y = functional.batch_norm(y, *parts, eps=1e-5)
        return y.unflatten(0, shape)

    def pool(self, x):
        """Maximum over 3x3 with stride 2 of every time step."""
        y = self.torch.nn.functional.max_pool2d(x.flatten(0, 1), 3, 2, 1)
        return y.unflatten(0, x.shape[:2])

    def lif(self, x, threshold=1.0, tau=None):
        """Spikes of LIF neurons over the first axis, from rest, with reset to 0."""
        tau = self.tau if tau is None else tau
        return self.fire(x, lambda v, current: v + (current - v) / tau, threshold)

    def fire(self, x, charge, threshold=1.0):
        """Spikes of neurons that `charge(potential, current)` charges, see `lif`."""
        v = self.torch.zeros_like(x[0])
        spikes = []
        for current in x:
            v = charge(v, current)
            spike = (v >= threshold).to(v.dtype)
            v = v * (1.0 - spike)
            spikes.append(spike)
        return self.torch.stack(spikes)

    def attention(self, parts, heads, scale):
        """Attention of every head: scale * Q (K^T V), from maps of Q, K and V."""
        shape = parts[0].shape
        q, k, v = (
            # (time, batch, heads, tokens, channels of a head)
            part.flatten(3).unflatten(2, (heads, -1)).transpose(3, 4)
            for part in parts
        )
        y = (q @ (k.transpose(3, 4) @ v)) * scale
        return y.transpose(3, 4).reshape(shape)

    def head(self, x, name="head"):
        """The linear head, or the features without one."""
        if f"{name}.weight" not in self.weights:
            return x
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

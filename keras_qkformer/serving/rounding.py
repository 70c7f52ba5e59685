"""Rounds weights to 8 bits, and tells what that changes, spike by spike."""

import numpy as np
from keras import ops

from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.layers.operation_scope import operation_scope

_ROWS = 4096  # Inputs of a unit that are looked at, drawn from all of its inputs.
_DAMPING = 0.01  # Of the mean second moment, so that rare inputs leave a solution.
_BLOCK = 128


def second_moments(model, inputs):
    """Measure what the units of a model take, for `round_kernel`.

    Args:
        model: built `SpikingClassifier`.
        inputs: float array `(batch, [time,] height, width, channels)`: examples.

    Returns:
        Dict from the `ConvBNLIF`s that are not depthwise to float32 arrays `(n, n)`:
        the mean product of any two of the n entries that a filter sees at a position,
        in the order of a kernel `(rows, columns, channels)`. At most 4,096 positions of
        a unit are used.
    """
    draw, sums, counts = np.random.default_rng(0), {}, {}
    share = max(1, _ROWS // len(inputs))

    def record(unit, **tensors):
        if {*tensors} != {"inputs"} or getattr(unit, "depthwise", True):
            return
        seen = _patches(unit, ops.convert_to_numpy(tensors["inputs"]), share, draw)
        sums[unit] = sums.get(unit, 0.0) + seen.T @ seen
        counts[unit] = counts.get(unit, 0) + len(seen)

    for x in inputs:  # One at a time, to limit the memory of large models.
        with operation_scope(record):
            model(ops.cast(x[None], model.input.dtype), training=False)
    return {unit: total / counts[unit] for unit, total in sums.items()}


def _patches(unit, x, count, draw):
    """What a filter sees at `count` positions that are drawn, flattened."""
    x = x.reshape(-1, *x.shape[2:])
    size = unit.kernel_size
    around = size // 2
    x = np.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    windows = windows[:, :: unit.strides, :: unit.strides]
    places = [draw.integers(0, n, count) for n in windows.shape[:3]]
    seen = windows[tuple(places)]  # (count, channels, rows, columns)
    return seen.transpose(0, 2, 3, 1).reshape(count, -1).astype("float32")


def scale_of(kernel):
    """Return the step of each filter's weights, of which the largest is 127 steps.

    Args:
        kernel: float array `(rows, columns, channels, filters)`.

    Returns:
        Array `(filters,)` of the dtype of `kernel`.
    """
    scale = np.abs(kernel).max((0, 1, 2)) / 127
    return np.where(scale > 0, scale, np.ones_like(scale))


def round_kernel(kernel, scale, moments=None):
    """Round a kernel to multiples of a scale.

    With `moments`, the error of each weight is made up for by the weights after it, as
    far as their inputs go together; so the output changes less than with the nearest
    multiples, although each weight may change by more.

    Args:
        kernel: float array `(rows, columns, channels, filters)`.
        scale: float array `(filters,)`.
        moments: array, see `second_moments`, or `None` for the nearest.

    Returns:
        int8 array of the shape of `kernel`, from -127 to 127.

    Reference:
        [Frantar et al., 2023](https://arxiv.org/abs/2210.17323) (GPTQ).
    """
    if moments is None:
        return np.round(kernel / scale).astype("int8")
    left = kernel.reshape(-1, kernel.shape[-1]) / scale  # Entries by filters.
    rounded = np.zeros_like(left)
    damping = _DAMPING * np.mean(np.diag(moments)) + 1e-12
    inverse = np.linalg.inv(moments + damping * np.eye(len(moments)))  # float64
    # Upper factor U with inverse = U^T U: row i tells how the error of entry i is
    # made up for by those after it.
    upper = np.linalg.cholesky(inverse).T
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.zeros((end - start, left.shape[1]))
        for i in range(start, end):
            rounded[i] = np.clip(np.round(left[i]), -127, 127)
            error = (left[i] - rounded[i]) / upper[i, i]
            left[i + 1 : end] -= upper[i, i + 1 : end, None] * error
            errors[i - start] = error
        left[end:] -= upper[start:end, end:].T @ errors
    return rounded.reshape(kernel.shape).astype("int8")


def compare_rounded(model, rounded, inputs, labels=None):
    """Compare a model with itself after its weights were rounded.

    Args:
        model: `SpikingClassifier`.
        rounded: the same, with rounded weights, in any dtype.
        inputs: float array `(batch, [time,] height, width, channels)`.
        labels: int array `(batch,)` of true classes, or `None`.

    Returns:
        Dict: `examples`; `same_top1`, how many of them keep their first class;
        `correct` and `correct_rounded`, or `None` without labels; and
        `changed_spikes_by_layer`, the share of the outputs of each neuron layer that
        differ, by the names of `SpikingClassifier.neurons`.
    """
    changed = dict.fromkeys(model.neurons(), 0.0)
    classes = []
    for x in inputs:  # One at a time, to limit the memory of large models.
        before, first = _run(model, x)
        after, second = _run(rounded, x)
        classes.append((first, second))
        for name in changed:
            changed[name] += float(np.mean(before[name] != after[name]))
    classes = np.array(classes)
    correct = [None, None] if labels is None else (classes.T == labels).sum(1).tolist()
    return {
        "examples": len(inputs),
        "same_top1": int(np.sum(classes[:, 0] == classes[:, 1])),
        "correct": correct[0],
        "correct_rounded": correct[1],
        "changed_spikes_by_layer": {k: v / len(inputs) for k, v in changed.items()},
    }


def _run(model, x):
    """Spikes by name, and the most probable class."""
    fired = {}
    with neuron_scope(record=fired):
        logits = model(ops.cast(x[None], model.input.dtype), training=False)
    spikes = {
        name: ops.convert_to_numpy(fired[neuron])
        for name, neuron in model.neurons().items()
    }
    return spikes, int(ops.convert_to_numpy(logits)[0].argmax())

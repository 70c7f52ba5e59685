"""The steps of `fit`, `evaluate` and `predict` as compiled programs of PyTorch."""

import logging

import keras
import torch
from keras import ops
from torch._subclasses.fake_tensor import DataDependentOutputException

from keras_qkformer.ops.program_on_torch import Program

_log = logging.getLogger(__name__)


class _Programs:
    """The programs of one model, one for each step and shape of its inputs.

    Attributes:
        compilation: what `model.compile` has made anew; other programs belong to it.
    """

    def __init__(self, compilation):
        self.compilation = compilation
        self._programs = {}
        self._last = {}
        self._failed = set()

    def get(self, step, inputs, make):
        """Return the program for inputs of these shapes, or `None` to go without it.

        A program is compiled for the first shape, and for another one that comes twice
        in a row: not for the smaller batch that ends an epoch.

        Args:
            step: str. What the program does, for the message if it can't be compiled.
            inputs: list of tensors.
            make: function without arguments that returns a `Program`.
        """
        if step in self._failed or torch._dynamo.config.disable:
            return None
        kind = step, *((x.shape, x.dtype, x.device) for x in inputs)
        is_first = all(known[0] != step for known in self._programs)
        if kind not in self._programs and (is_first or self._last.get(step) == kind):
            try:
                self._programs[kind] = make()
            except Exception as error:
                self._failed.add(step)
                _log.warning(
                    "PyTorch can't compile the %s as one program, so it runs operation "
                    "by operation: %s",
                    *(step, _reason(error)),
                )
        self._last[step] = kind
        return self._programs.get(kind)

    def larger(self, step, x):
        """Return `(batch, program)` of the least larger batch, or `(0, None)`."""
        found = [
            (shape[0], program)
            for (known, (shape, *rest), *_), program in self._programs.items()
            if (known, shape[1:], *rest) == (step, x.shape[1:], x.dtype, x.device)
            and shape[0] > len(x)
        ]
        return min(found, key=lambda pair: pair[0], default=(0, None))


def _tensor(array):
    # A program is for one memory layout, too.
    return ops.convert_to_tensor(array).detach().contiguous()


def _reason(error):
    if isinstance(error, DataDependentOutputException):
        return "what it does depends on the values of tensors"
    # Keras puts where it was before what it was.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Exception encountered")]
    return f"{type(error).__name__}: {(said or ['no reason given'])[0]}"


def _programs(model):
    # `compile` makes a new loss tracker, and with it the old programs are wrong.
    programs = getattr(model, "_step_programs", None)
    if programs is None or programs.compilation is not model._loss_tracker:
        model._step_programs = programs = _Programs(model._loss_tracker)
    return programs


def infer(model, x):
    """Compute the outputs of a model in inference as one program.

    A batch smaller than that of a program is filled up, if a prediction does not depend
    on what follows it in the batch.

    Args:
        model: built `CompiledModel` of one input and one output tensor.
        x: array or tensor `(batch, ...)`.

    Returns:
        Tensor `(batch, ...)`, or `None` if there is no program for it.
    """
    if not model.jit_compile or not hasattr(x, "shape"):
        return None
    x = _tensor(x)
    programs, step = _programs(model), "inference"
    program = programs.get(
        step,
        [x],
        lambda: Program(lambda x: [model(x, training=False)], model.variables, [x]),
    )
    count = len(x)
    if program is None and model.examples_are_independent:
        batch, program = programs.larger(step, x)
        if program is not None:
            x = torch.cat([x, x[-1:].expand(batch - count, *x.shape[1:])])
    if program is None:
        return None
    (y,) = program(x)
    return y[:count]


def predict_step(model, plain, data):
    """`predict_step` of a model, as one program.

    Args:
        model: see `infer`.
        plain: function of `data` that runs operation by operation.
        data: batch as in `keras.Model.predict_step`.

    Returns:
        Tensor of the model's outputs.
    """
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    y = infer(model, x)
    return plain(data) if y is None else y


def test_step(model, plain, data):
    """`test_step` of a model, with its outputs from one program.

    Args:
        model: see `infer`.
        plain: function of `data` that runs operation by operation.
        data: batch as in `keras.Model.test_step`.

    Returns:
        dict of metrics, as from `plain`.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = infer(model, x)
    if y_pred is None:
        return plain(data)
    loss = model.compute_loss(x, y, y_pred, sample_weight, training=False)
    model._loss_tracker.update_state(loss, sample_weight=len(x))
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def train_step(model, plain, data):
    """`train_step` of a model in two programs: of the loss, and of the optimizer.

    Args:
        model: see `infer`.
        plain: function of `data` that runs operation by operation.
        data: batch as in `keras.Model.train_step`.

    Returns:
        dict of metrics, as from `plain`.
    """
    parts = x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    trained = model.trainable_variables
    usual = all(part is None or hasattr(part, "shape") for part in parts)
    if not (model.jit_compile and usual and trained and model.optimizer is not None):
        return plain(data)
    present = [i for i, part in enumerate(parts) if part is not None]
    inputs = [_tensor(parts[i]) for i in present]

    def loss_of(*tensors):
        x, y, sample_weight = (
            tensors[present.index(i)] if i in present else None for i in range(3)
        )
        y_pred = model(x, training=True)
        loss = model.compute_loss(x, y, y_pred, sample_weight, training=True)
        return [loss, y_pred.detach()]

    programs = _programs(model)
    program = programs.get(
        "training step",
        inputs,
        lambda: Program(
            loss_of,
            model.variables,
            inputs,
            is_trained=True,
            dropouts=[
                layer
                for layer in model._flatten_layers()
                if type(layer) is keras.layers.Dropout and layer.rate
            ],
        ),
    )
    if program is None:
        return plain(data)
    model.zero_grad()
    loss, y_pred = program(*inputs)
    model._loss_tracker.update_state(loss.detach(), sample_weight=len(x))
    model.optimizer.scale_loss(loss).backward()
    _update(model, programs, trained)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _update(model, programs, trained):
    """Let the optimizer apply the gradients that `backward` has left."""
    optimizer = model.optimizer
    gradients = [variable.value.grad for variable in trained]

    def apply(*gradients):
        optimizer.apply(gradients, trained)
        return []

    program = None
    if all(gradient is not None for gradient in gradients):
        program = programs.get(
            "optimizer",
            gradients,
            lambda: Program(apply, [*trained, *optimizer.variables], gradients),
        )
    with torch.no_grad():
        if program is None:
            optimizer.apply(gradients, trained)
        else:
            program(*gradients)

"""What tests of whole models need: fast calls, and one step of training by hand."""

import functools

import keras
import numpy as np
from harness import call, to_numpy
from keras import ops

from keras_qkformer.layers import BatchNorm

TINY = {
    "image_size": (8, 12),
    "in_channels": 2,
    "time_steps": 3,
    "family": "cifar",
    "embed_dim": 16,
    "depths": (1, 1),
    "num_heads": 2,
    "mlp_ratio": 2,
}


# On JAX, convolutions in float64 are loops that XLA compiles itself. Of a model that is
# not small, to optimize them takes less time than to run them three times as they are.
OPTIMIZED = {"xla_backend_optimization_level": 1}


def compiled(model, training=None, compiler_options=None):
    """The function `x -> model(x)` on NumPy arrays.

    On JAX it is compiled, because op by op every operation would be compiled alone.
    """
    if keras.backend.backend() == "jax":
        import jax

        call = jax.jit(
            lambda *values: model.stateless_call(*values, training=training)[0],
            compiler_options=compiler_options,
        )

        def run(x):
            return call(*_values(model), x)
    else:
        run = functools.partial(model, training=training)
    return lambda x: keras.tree.map_structure(to_numpy, run(x))


def training_step(model, x, labels):
    """Cross-entropy and its gradients in training mode; statistics are updated.

    Returns:
        `(loss, logits, [gradient of each trainable variable])` as NumPy arrays.
    """
    backend = keras.backend.backend()
    variables = model.trainable_variables

    def mean_cross_entropy(logits):
        chosen = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return -ops.sum(chosen * ops.log_softmax(logits)) / len(labels)

    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = mean_cross_entropy(logits)
        grads = tape.gradient(loss, [variable.value for variable in variables])
    elif backend == "jax":
        import jax

        def run(trainable, non_trainable):
            logits, state = model.stateless_call(
                trainable, non_trainable, x, training=True
            )
            return mean_cross_entropy(logits), (logits, state)

        step = jax.jit(jax.value_and_grad(run, has_aux=True))
        (loss, (logits, state)), grads = step(*_values(model))
        for variable, value in zip(model.non_trainable_variables, state, strict=True):
            variable.assign(value)
    else:
        logits = model(x, training=True)
        loss = mean_cross_entropy(logits)
        model.zero_grad()
        loss.backward()
        grads = [variable.value.grad for variable in variables]
    return to_numpy(loss), to_numpy(logits), [to_numpy(grad) for grad in grads]


def random_inputs(model, batch=4, dtype="float32"):
    """Inputs of the right shape, large enough to make neurons fire."""
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(0).normal(0, 3, shape).astype(dtype)


def settle(model):
    """Give a new model statistics that fit `random_inputs`, and neurons that fire.

    New moving statistics are 0 and 1, whatever comes in: nothing would fire.
    """
    norms = [x for x in model._flatten_layers() if isinstance(x, BatchNorm)]
    for norm in norms:
        norm.gamma.assign(2.0 * np.ones(norm.gamma.shape))
        norm.momentum, kept = 0.0, norm.momentum
    call(model, random_inputs(model), training=True)
    for norm in norms:
        norm.momentum = kept
    return model


def _values(model):
    return (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )

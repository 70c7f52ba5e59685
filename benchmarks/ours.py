"""Runs keras_qkformer as its users do, on the backend of this process.

`KERAS_BACKEND` must be set before this file is imported.
"""

import time

import keras
import numpy as np
from keras import ops

from benchmarks.cases import neuron_arrays
from benchmarks.measure import from_ends, measure
from keras_qkformer.analysis.operations import counts
from keras_qkformer.backend import prepare_backend
from keras_qkformer.layers import (
    ChannelQKAttention,
    SpikingSelfAttention,
    TokenQKAttention,
)
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.ops.lif import lif_sequence

prepare_backend()  # As the command line does.


def neuron(case, subject, steps, memory):
    """Yield records of the LIF neuron: spikes, then spikes and gradient."""
    for time_steps in case.sizes["steps"]:
        shape = (case.sizes["images"] // time_steps, time_steps, *case.sizes["shape"])
        x, upstream = (ops.convert_to_tensor(a) for a in neuron_arrays(shape))
        forward, backward = _neuron_functions(subject, upstream)
        for task, function in (("forward", forward), ("forward + backward", backward)):
            record = measure(
                lambda f=function, x=x: _finish(f(x), memory.device), steps, memory
            )
            yield {"task": f"T={time_steps} {task}", "batch": shape[0], **record}


def _neuron_functions(subject, upstream):
    """Return `x -> spikes` and `x -> (spikes, dx)`, compiled as Keras compiles."""
    if subject.library == "tensorflow":
        import tensorflow as tf

        def backward(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                spikes = lif_sequence(x)
            return spikes, tape.gradient(spikes, x, upstream)

        jit = subject.jit is True
        return (
            tf.function(lif_sequence, jit_compile=jit),
            tf.function(backward, jit_compile=jit),
        )
    if subject.library == "jax":
        import jax

        def backward(x):
            spikes, pull = jax.vjp(lif_sequence, x)
            return spikes, pull(upstream)

        return jax.jit(lif_sequence), jax.jit(backward)
    import torch

    sequence = torch.compile(lif_sequence) if subject.jit is True else lif_sequence

    def forward(x):
        with torch.inference_mode():
            return sequence(x)

    def backward(x):
        x = x.detach().requires_grad_()
        spikes = sequence(x)
        spikes.backward(upstream)
        return spikes, x.grad

    return forward, backward


def _finish(value, device):
    """Return once the device is done."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        jax.block_until_ready(value)
    elif backend == "torch" and device == "gpu":
        import torch

        torch.cuda.synchronize()
    elif backend == "tensorflow" and device == "gpu":
        import tensorflow as tf

        tf.test.experimental.sync_devices()


def attention(case, subject, steps, memory):
    """Yield records of the attention layers in inference."""
    channels = case.sizes["channels"]
    for side in case.sizes["sides"]:
        for task, layer in (
            ("token", TokenQKAttention(num_heads=1)),
            ("channel", ChannelQKAttention()),
            ("self", SpikingSelfAttention(num_heads=1)),
        ):
            inputs = keras.Input((1, side, side, channels))
            model = keras.Model(inputs, layer(inputs))
            model.compile(jit_compile=subject.jit)
            x = np.random.default_rng(0).integers(0, 2, (1, 1, side, side, channels))
            x = x.astype("float32")
            record = measure(lambda m=model, x=x: m.predict_on_batch(x), steps, memory)
            yield {"task": f"{task} {side}x{side}", "batch": 1, **record}


def model(case, subject, steps, memory):
    """Yield records of inference and of a training step."""
    classifier, x, labels = _model(case, subject, steps)
    count = counts(classifier, 4 if case.precision == "float32" else 2)
    batch = case.sizes["batch"]
    images = x[:batch]
    record = measure(lambda: classifier.predict_on_batch(images), steps, memory)
    yield {
        "task": "inference",
        "batch": batch,
        "count": count["inference"],
        **record,
    }
    record = _training(classifier, x, labels, batch, memory)
    yield {"count": count["training step"], **record}


def largest_batch(case, subject, steps, memory):
    """Yield the record of training at the batch of the case."""
    yield _training(*_model(case, subject, steps), case.sizes["batch"], memory)


def _model(case, subject, steps):
    """Return a compiled classifier, and random examples for `steps` timed steps."""
    keras.utils.set_random_seed(0)
    if case.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    size = case.sizes["image_size"]
    classifier = SpikingClassifier.from_preset(
        case.sizes["preset"], **({"image_size": size} if size else {})
    )
    classifier.compile(
        keras.optimizers.AdamW(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=subject.jit,
    )
    random = np.random.default_rng(0)
    batch = case.sizes["batch"]
    x = random.random((batch, *classifier.input_shape[1:]), "float32")
    labels = random.integers(0, classifier.num_classes, batch)
    repeats = steps + 2
    return classifier, np.concatenate([x] * repeats), np.concatenate([labels] * repeats)


def _training(classifier, x, labels, batch, memory):
    """Measure `model.fit`; a step ends when its loss is on the host."""
    clock = _Clock()
    memory.start()
    clock.ends.append(time.perf_counter())
    classifier.fit(
        x, labels, batch_size=batch, shuffle=False, verbose=0, callbacks=[clock]
    )
    return {
        "task": "training step",
        "batch": batch,
        **from_ends(clock.ends, memory),
    }


class _Clock(keras.callbacks.Callback):
    """Records the end of each training step."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        # On every backend, the loss is available only once the step is done.
        float(logs["loss"])
        self.ends.append(time.perf_counter())

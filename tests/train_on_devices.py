"""Trains a small recipe on numbers of devices, for the tests of distribution.

    python train_on_devices.py FOLDER KIND PRECISION DEVICES...

KIND is `static` or `events`, PRECISION `float32` or `float64`; each of DEVICES is a
number or a mesh. Of each, `FOLDER/<devices>.npz` gets all weights and the history; on
JAX also the lines of the compiled training step with what devices send each other.
There, `XLA_FLAGS` must make them: `--xla_force_host_platform_device_count=8`.
`HOSTS` is what `fit` gets as `hosts`; the file then has no such lines, and its name
ends in the number of the host.
"""

import os
import re
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_qkformer.training import fit as fit_module
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

STEPS = 8
LEARNING_RATE = 1e-3


def make_recipe(kind, folder):
    """Batches of 8; 18 validation and test examples, which 4 and 8 don't divide."""
    optimizer = Optimizer(epochs=1, learning_rate=LEARNING_RATE, weight_decay=0.05)
    if kind != "events":
        data = Data(
            name="digits",
            train="train[:200]",
            validation="train[200:218]",
            test="test[:18]",
            batch_size=8,
            max_shift=0.1,
        )
        model = {
            "image_size": 8,
            "in_channels": 1,
            "time_steps": 2,
            "stem_width": 8,
            "widths": [8, 16],
            "depths": [1, 1],
            "num_classes": 10,
        }
        preset = "sew_resnet_18_imagenet"
    else:
        data = Data(
            name="recordings",
            data_dir=str(folder / "recordings"),
            sensor_size=(16, 16),
            train="train[:160]",
            validation="train[160:178]",
            test="test",
            batch_size=8,
        )
        model = {
            "image_size": 16,
            "embed_dim": 32,
            "num_heads": 4,
            "time_steps": 2,
            "num_classes": 2,
        }
        preset = "qkformer_2_256_cifar10_dvs"
    return Recipe(
        preset=preset, model=model, data=data, optimizer=optimizer, max_steps=STEPS
    )


def collectives(model):
    """The lines of a compiled training step in which devices send something."""
    import jax

    split = keras.distribution.distribution()
    if split is None:
        return []

    def zeros(shape, dtype):
        layout = split.get_data_layout(shape).backend_layout
        return jax.device_put(np.zeros(shape, dtype), layout)

    batch = zeros((8, *model.input_shape[1:]), "float32"), zeros((8,), "int64"), None
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    shardings = None, model._get_state_sharding_spec()
    step = jax.jit(model.train_step, out_shardings=shardings).lower(state, batch)
    names = r"(all-\w+|reduce-scatter|collective-\w+)(-start)?\("
    lines = step.compile().as_text().splitlines()
    return [line.strip() for line in lines if re.search(names, line)]


def main(folder, kind, precision, *counts):
    """Train once for each number of devices."""
    if keras.backend.backend() == "tensorflow":
        processor = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(processor, two)
    if precision == "float64":
        if keras.backend.backend() == "jax":
            import jax

            jax.config.update("jax_enable_x64", True)
        keras.config.set_floatx("float64")
        # Recipes have no float64.
        set_policy = keras.config.set_dtype_policy
        keras.config.set_dtype_policy = lambda _: set_policy("float64")
    models, sent = [], []
    save = fit_module.Checkpoint.on_epoch_end

    def on_epoch_end(checkpoint, epoch, logs=None):
        save(checkpoint, epoch, logs)
        models.append(checkpoint.model)
        if keras.backend.backend() == "jax" and hosts is None:
            sent[:] = collectives(checkpoint.model)

    fit_module.Checkpoint.on_epoch_end = on_epoch_end
    folder, hosts = Path(folder), os.environ.get("HOSTS")
    for count in counts:
        chosen = {"devices": int(count)} if count.isdecimal() else {"mesh": count}
        chosen["hosts"] = hosts
        recipe = make_recipe(kind, folder)
        workdir = folder / f"run-{count}{'-hosts' if hosts else ''}"
        results = fit_module.fit(recipe, workdir, verbose=0, **chosen)
        model = models.pop()
        found = {f"weight {w.path}": np.asarray(w) for w in model.weights}
        for name, values in results["history"].items():
            found[f"history {name}"] = np.array(values)
        found["test"] = [results["test"][k] for k in ("accuracy", "loss", "examples")]
        name = f"{count}-{hosts.rpartition(',')[2]}" if hosts else count
        if sent:
            found["collectives"] = np.array(sent, str)
        np.savez(folder / f"{name}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])

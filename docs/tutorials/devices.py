# %% [markdown]
"""
# Many devices, many hosts

One training on one device, on four, and on two hosts that talk to each other: the same experiment
each time, and the same result up to rounding. And a mesh, for models that one device can't hold.
All of it runs on your processor. JAX can pretend to have several devices there, which is how you
try a distributed training before you rent one.

Devices are made when JAX starts, so this comes first:
"""

# %%
# %matplotlib inline
import os

os.environ["KERAS_BACKEND"] = "jax"
flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=4"

from keras_qkformer.backend import prepare_backend

prepare_backend()  # As the command line does, before anything is computed.

import keras

keras.distribution.list_devices()

# %% [markdown]
"""
## One, then four

A short training of the digits. `batch_size` counts the examples of all devices together, so neither
the learning rate nor the number of steps changes with their number.
"""

# %% language="bash"
# cat > mine.py <<'END'
# from keras_qkformer.training.recipe import Data, Optimizer, Recipe
#
# recipe = Recipe(
#     preset="qkformer_tiny",
#     model={"time_steps": 1},
#     data=Data(
#         name="digits",
#         train="train[:90%]",
#         validation="train[90%:]",
#         test="test",
#         batch_size=32,
#     ),
#     optimizer=Optimizer(epochs=3, learning_rate=5e-3),
#     max_steps=8,
# )
# END

# %%
import numpy as np

from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import load_recipe

recipe = load_recipe("mine.py")
results = {
    "one device": fit(recipe, "runs/one", devices=1, verbose=0),
    "four devices": fit(recipe, "runs/four", devices=4, verbose=0),
}
for name, found in results.items():
    print(f"{name:13} loss {np.round(found['history']['loss'], 4)}")

# %% [markdown]
"""
This is *data parallelism*. Each device holds all weights and a quarter of each batch; JAX computes
as on one array, so BatchNorm's statistics are those of the whole batch, and the sum of the
gradients travels between devices. Here is one batch, coloured by the device that gets it:
"""

# %% alt="Thirty-two digits of a batch in four colours: each device gets eight of them"
import jax
import matplotlib.pyplot as plt
from matplotlib.patches import Patch, Rectangle

from keras_qkformer.models import QKFormerBackbone, SpikingClassifier
from keras_qkformer.training.distribution import choose_devices
from keras_qkformer.training.input_pipeline import preview

COLOURS = np.array([(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)]) / 255


def places(array):
    """The slices of a distributed array that each device holds."""
    found = array.sharding.devices_indices_map(array.shape)
    return {device.id: slices for device, slices in found.items()}


def spread(shape, mesh=None, devices="auto"):
    """An array of inputs, distributed as `fit` does it."""
    with choose_devices(devices, mesh, 32).scope(QKFormerBackbone.layout):
        layout = keras.distribution.distribution().get_data_layout(shape)
        return jax.device_put(np.zeros(shape), layout.backend_layout)


images, _ = preview(recipe, 32)
pictures = 1 - images.clip(0, 1).repeat(3, -1)
for device, slices in places(spread((32, 8, 8, 1), devices=4)).items():
    pictures[slices[0]] += (1 - pictures[slices[0]]) * COLOURS[device]
figure, grid = plt.subplots(2, 16, figsize=(8, 1.7))
for axes, picture in zip(grid.flat, pictures, strict=True):
    axes.imshow(picture)
    axes.set_axis_off()
keys = [Patch(color=COLOURS[i], label=f"device {i}") for i in range(4)]
figure.legend(handles=keys, ncols=4, frameon=False, loc="lower center")
figure.suptitle("One batch, four devices", weight="bold")
figure.subplots_adjust(left=0, right=1, top=0.82, bottom=0.22, wspace=0.1, hspace=0.1)

# %% [markdown]
"""
## A mesh

Where a model is too wide for one device, the wide layers are split as well. `mesh="data=2,model=2"`
makes a grid of devices: its rows share the batch, its columns share the kernels of the MLPs and of
attention. Each family says which, in its `layout`.
"""

# %%
with choose_devices("auto", "data=2,model=2", 32).scope(QKFormerBackbone.layout):
    model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=1)
split = {
    weight.path: weight.value
    for weight in model.weights
    if not weight.value.sharding.is_fully_replicated
}
whole = sum(w.value.nbytes for w in model.weights)
held = sum(w.value.addressable_shards[0].data.nbytes for w in model.weights)
print(f"{len(split)} of {len(model.weights)} weights are split")
print(f"each device holds {held:,} of {whole:,} bytes")

# %% alt="A batch and two kernels as rectangles, each part in the colour of the device that holds it"
names = [n for n in split if n.startswith("stage2_block1/mlp") and "kernel" in n]
batch = spread((32, 64), mesh="data=2,model=2")  # 32 images of 8x8 pixels
shown = [("the batch", batch, (0, 1))]
shown += [(name.removeprefix("stage2_block1/"), split[name], (2, 3)) for name in names]
figure, row = plt.subplots(1, len(shown), figsize=(8, 2.6), layout="constrained")
for axes, (name, array, (rows, columns)) in zip(row, shown, strict=True):
    height, width = array.shape[rows], array.shape[columns]
    holders = {}
    for device, slices in places(array).items():
        spans = [
            slices[axis].indices(array.shape[axis])[:2] for axis in (rows, columns)
        ]
        holders.setdefault(tuple(spans), []).append(device)
    for ((top, bottom), (left, right)), devices in holders.items():
        for number, device in enumerate(devices):  # Several hold the same part.
            strip = (right - left) / len(devices)
            corner = left + number * strip, top
            box = Rectangle(corner, strip, bottom - top, color=COLOURS[device], lw=0)
            axes.add_patch(box)
        frame = Rectangle((left, top), right - left, bottom - top, fill=False)
        frame.set(edgecolor="white", linewidth=3)
        axes.add_patch(frame)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(f"{name}\n{height} x {width}", fontsize=9)
    axes.spines[:].set_visible(False)
figure.legend(handles=keys, ncols=4, frameon=False, loc="outside lower center")
figure.suptitle('mesh="data=2,model=2"', weight="bold")
# %% [markdown]
"""
A white frame is one part; devices that share a frame hold the same numbers. `fit(recipe, workdir,
mesh="data=2,model=2")`, or `--mesh` on the command line, trains so.

## Two hosts

Several hosts run the same command, and each says which one it is. Here both are processes on this
machine, with two devices each. The address is that of host 0; on Slurm, Kubernetes or a TPU pod,
`--hosts auto` finds it.
"""

# %%
import socket

with socket.socket() as free:  # A port that nobody uses.
    free.bind(("127.0.0.1", 0))
    os.environ["HOST_0"] = f"127.0.0.1:{free.getsockname()[1]}"

# %% language="bash"
# set -eo pipefail
# export XLA_FLAGS="$XLA_FLAGS --xla_force_host_platform_device_count=2"
# keras-qkformer fit mine.py --workdir runs/hosts --hosts $HOST_0,2,1 > host1.txt &
# keras-qkformer fit mine.py --workdir runs/hosts --hosts $HOST_0,2,0 | grep -v "peer ranks"
# wait

# %% [markdown]
"""
Host 0 writes, and both see the same workdir. They compared recipe, file names, labels and versions
before the first step.

## The same result?
"""

# %% alt="Loss by epoch of three trainings, which lie on one line"
from keras_qkformer.trained import read_results

results["two hosts"] = read_results("runs/hosts")
one = results["one device"]
figure, axes = plt.subplots(figsize=(6, 2.6))
for colour, size, (name, found) in zip(
    COLOURS[:3], (10, 6, 2), results.items(), strict=True
):
    losses = found["history"]["loss"]
    axes.plot(range(1, 4), losses, "o-", color=colour, ms=size, lw=size / 2, label=name)
    away = np.abs(np.subtract(losses, one["history"]["loss"])).max()
    print(f"{name:13} loss {losses[-1]:.4f}, within {away:.0e} of one device's")
axes.set(xticks=range(1, 4), xlabel="epoch", ylabel="training loss")
axes.set_title("Three trainings, one line", weight="bold", loc="left")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
"""
Up to rounding, that is, and without augmentation, which each host draws for itself. Sums over
devices are added in another order, and where a potential lies at the threshold, the last bit
decides whether a neuron fires. In float64, where rounding is half a billion times smaller, all
weights after a training agree within 1e-10: the tests compare one device, four, and two hosts so.

## What cannot be shown here

Real devices and real clusters. These are the same commands with another address, not run here:

    keras-qkformer fit recipes/cifar10.py --backend jax --workdir /shared/run --hosts auto
    keras-qkformer fit recipes/imagenet_10_768.py --backend jax --mesh data=4,model=2

## What to read next

- [Devices and hosts](../distributed.md): rules, lost hosts, files for Slurm,
  Kubernetes and TPU VMs, batches from a tf.data service.
- [TPUs](../tpu.md): what was compiled, and what it should cost.
- [PyTorch](../pytorch.md), which trains on one device.
"""

# %% [markdown]
"""
# What an answer costs

Energy by four conventions, layer by layer, for two families that know the same digits. An energy
says nothing without its convention: the same network is tenfold cheaper or dearer by the rules of
another paper.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from keras_qkformer import load_trained
from keras_qkformer.analysis.analyze import analyze
from keras_qkformer.analysis.colours import OFF, ON
from keras_qkformer.analysis.energy import CONVENTIONS
from keras_qkformer.data.images.digits import digits
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

blue, orange = np.array(OFF) / 255, np.array(ON) / 255
images, labels = digits().load("test", lambda count: (0, count))

# %% [markdown]
"""
## Two families

A small QKFormer comes with the package. It adds *spikes*, so layers receive 0, 1, 2 and more.
"""

# %%
qkformer = load_trained("digits")

# %% [markdown]
"""
[Spikingformer](../families/spikingformer.md) adds *potentials* and has a neuron in front of each
convolution, so layers receive nothing but 0 and 1. This one is about as large, and learns the
digits in three epochs.
"""

# %%
recipe = Recipe(
    preset="spikingformer_4_384_cifar10",
    model={
        "image_size": 8,
        "in_channels": 1,
        "reduction": 2,
        "embed_dim": 112,
        "depth": 2,
        "num_heads": 4,
    },
    data=Data(
        name="digits",
        train="train[:90%]",
        validation="train[90%:]",
        test="test",
        batch_size=32,
    ),
    optimizer=Optimizer(epochs=3, learning_rate=4e-3, warmup_epochs=1),
    seed=0,
)
fit(recipe, "runs/spikingformer", verbose=0)
spikingformer = load_trained("runs/spikingformer")

# %% [markdown]
"""
## Measure once, count four times

`analyze` passes the test images through a model once and counts what meets a weight. Each
convention then says what a count costs, here at 45 nm: 4.6 pJ for a multiplication with addition,
0.9 pJ for an addition.
"""

# %%
reports = {}
for name, model in (("QKFormer", qkformer), ("Spikingformer", spikingformer)):
    inputs = model.prepared(images)
    batches = [inputs[i : i + 90] for i in range(0, len(inputs), 90)]
    reports[name] = analyze(model, batches, labels=labels)
    scores, energies = (reports[name][k] for k in ("data", "energy"))
    print(f"{name}: {scores['accuracy']:.1%} correct")
    print(f"  non-spiking twin {energies['twin_mj']:.4f} mJ")
    for convention, found in energies["conventions"].items():
        print(f"  {convention:16} {found['total_mj']:.4f} mJ")

# %% alt="Energies of both families by four conventions, beside those of their non-spiking twins"
fig, axes = plt.subplots(figsize=(7, 2.8))
places = np.arange(len(CONVENTIONS))
for shift, (name, report), colour in zip(
    (-0.2, 0.2), reports.items(), (orange, blue), strict=True
):
    energies = report["energy"]
    heights = [energies["conventions"][c]["total_mj"] for c in CONVENTIONS]
    axes.bar(places + shift, heights, 0.38, color=colour, label=name)
    axes.axhline(
        energies["twin_mj"], color=colour, linestyle=":", label=f"its twin, {name}"
    )
axes.set(xticks=places, xticklabels=list(CONVENTIONS), ylabel="mJ per image")
axes.legend(
    frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.3)
)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
"""
By the convention of its own paper, QKFormer is far below its twin. Where a number above 1 costs a
multiplication, it is not. Spikingformer stays far below by all of them, because its
layers receive spikes alone. [The rules of each](../energy.md#conventions).

## Where it comes from

The inputs of each operation: their mean, and whether all were 0 or 1.
"""

# %%
for name, report in reports.items():
    print(name)
    for row in report["operations"][:8]:
        kind = "spikes" if row["input_is_binary"] else f"up to {row['input_max']:.3g}"
        print(f"  {row['path']:32} {row['input_mean']:6.3f}  {kind}")

# %% [markdown]
"""
## A convention of your own
"""

# %%
import dataclasses

from keras_qkformer.analysis.activity import ActivityMeter
from keras_qkformer.analysis.energy import energy

mine = dataclasses.replace(CONVENTIONS["qkformer"], name="mine", whole_numbers="dense")
meter = ActivityMeter(qkformer.model)
meter.update(qkformer.prepared(images[:90]))
print(energy(meter.activities(), mine))

# %% [markdown]
"""
## What to read next

- [Operations and energy](../energy.md): every rule with its source, devices, how to cite.
- `keras-qkformer analyze runs/spikingformer --out report` writes all of this as one page.
- [Is it an SNN if values reach 3?](../faq.md#is-it-an-snn-if-values-reach-3)
"""

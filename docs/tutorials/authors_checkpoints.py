# %% [markdown]
"""
# Checkpoints of the authors, and a state that leaks

The papers' code is PyTorch, and so are its checkpoints. Here one becomes a Keras model and goes
back without losing a bit. Then you see, on three images, why some published accuracies depend on
who sits next to whom in a batch, and why ours do not.
"""

# %% [markdown]
"""
## A file

The weights of several of these papers can no longer be downloaded, so this page makes a file with
the names and shapes of Spikformer's code for CIFAR-10, and random numbers. If you have a
checkpoint, put its path in place of `checkpoint.pth`.
"""

# %%
# %matplotlib inline
import keras

from keras_qkformer import SpikingClassifier, convert

keras.utils.set_random_seed(0)
model = SpikingClassifier.from_preset("spikformer_4_384_cifar10")
convert.write_checkpoint("checkpoint.pth", convert.to_state_dict(model))

# %% [markdown]
"""
A `.pth` file is a pickle, and a pickle may hold any program. `read_checkpoint` interprets the few
instructions that weights need and refuses the rest, so nothing of the file runs; PyTorch is not
needed either.
"""

# %%
arrays = convert.read_checkpoint("checkpoint.pth").arrays
print(f"{len(arrays)} arrays, {sum(a.size for a in arrays.values()):,} numbers")
for name in list(arrays)[:7]:
    print(f"  {name:38} {arrays[name].shape}")

# %% [markdown]
"""
## To Keras

Names and shapes tell the model. What they don't tell comes from the preset with the same sizes, and
is said.
"""

# %% language="bash"
# keras-qkformer convert checkpoint.pth --out weights/spikformer

# %% [markdown]
"""
One line names arrays *without effect*. The authors' class makes two LayerNorms in each block and
never calls them: they are in every checkpoint, are counted as parameters, and change nothing. So
our model leaves them out; the folder keeps them, to be written back.
"""

# %% alt="A bar of all arrays in the order of the file: the stem, four blocks, a thin head"
import matplotlib.pyplot as plt
import numpy as np

from keras_qkformer.analysis.colours import OFF, ON

blue, orange = np.array(OFF) / 255, np.array(ON) / 255
used = {entry.name for entry in convert.weight_map(model)}
dead = [n for n in arrays if n not in used and not n.endswith("num_batches_tracked")]
parts = {"patch_embed": "stem", "attn": "attention", "mlp": "MLP", "head": "head"}
tints = {"stem": 0.75, "attention": 0.4, "MLP": 0.1, "head": 0.9}

figure, axes = plt.subplots(figsize=(8, 1.7), layout="constrained")
start = 0
for name in arrays:
    if name in used:
        part = next(label for word, label in parts.items() if word in name)
        millions = arrays[name].size / 1e6
        colour = blue + (1 - blue) * tints[part]
        axes.barh(0, millions, left=start, color=colour, label=part)
        start += millions
labels = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
axes.legend(
    labels.values(),
    labels,
    ncols=4,
    frameon=False,
    loc="lower left",
    bbox_to_anchor=(0, 1),
)
axes.set(yticks=[], xlim=(0, start), xlabel="million numbers, in the order of the file")
axes.spines[["top", "right", "left"]].set_visible(False)
print(f"without effect: {sum(arrays[n].size for n in dead):,} in {len(dead)} arrays")

# %% [markdown]
"""
## And back

Written back, the file has every array of the original, dead ones included, bit for bit. The
authors' code loads it with `model.load_state_dict(torch.load("back.pth"))`.
"""

# %% language="bash"
# keras-qkformer convert weights/spikformer --to pytorch --out back.pth

# %%
back = convert.read_checkpoint("back.pth").arrays
equal = [np.array_equal(np.asarray(back[n]), np.asarray(arrays[n])) for n in arrays]
print(f"{sum(equal)} of {len(arrays)} arrays equal, {len(back) - len(arrays)} new")

# %% [markdown]
"""
Add `--verify`, and the command also runs a plain PyTorch model on the same weights in float64: the
folder appears only if all logits agree within 1e-9. (It is not run here, because it alone needs
PyTorch.) A file that does not fit is one line, and no folder:
"""

# %% language="bash"
# head --bytes 1000000 checkpoint.pth > cut.pth
# keras-qkformer convert cut.pth --out weights/cut 2>&1
# echo "status $?"

# %% [markdown]
"""
## The batch's state

In the authors' code of QKFormer, one neuron of self-attention receives `(T * B, C, N)` and takes
the whole first axis for time. So the potential of one image runs on into the next image of the
batch. With our default, `membrane_state="sample"`, each image begins at rest. `"batch"` repeats the
published behaviour, to check published numbers, and warns.
"""

# %%
import itertools
import warnings

from keras_qkformer import load_trained
from keras_qkformer.data.images.digits import digits

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    models = {
        state: load_trained("digits", membrane_state=state)
        for state in ("batch", "sample")
    }
print(caught[0].message)

# %% [markdown]
"""
A clear image has a margin that its neighbours do not overcome, so let us make the digits hard to
read, with noise, and look for a victim: an image that is recognised behind one neighbour, and not
behind another.
"""

# %%
images, labels = digits().load("test", lambda count: (0, 160))
random = np.random.default_rng(0)
images = (images + random.normal(0, 80, images.shape)).clip(0, 255)
inputs = models["sample"].prepared(images)


def classes(state, rows, batch_size):
    """The predicted digits of images, in batches in this order."""
    rows = np.array(rows)
    logits = models[state].model.predict(inputs[rows.ravel()], batch_size, verbose=0)
    return logits.argmax(-1).reshape(rows.shape)


def find_trio(victims=30, neighbours=12):
    """One that helps, one that harms, and their victim, as numbers of images."""
    right = np.flatnonzero(alone["batch"] == labels)
    victims, others = right[:victims], right[-neighbours:]
    pairs = [[(other, victim) for other in others] for victim in victims]
    seen = classes("batch", pairs, 2)[..., 1] == labels[victims, None]
    found = (seen.any(1) & ~seen.all(1)).argmax()
    return others[seen[found].argmax()], others[seen[found].argmin()], victims[found]


alone = {state: classes(state, range(160), 1) for state in models}
trio = find_trio()
orders = list(itertools.permutations(trio))
print("digits:", [int(labels[i]) for i in trio])

# %% alt="Three digits in all six orders: by the batch's state some are misread, by default none"
figure, grid = plt.subplots(
    6, 7, figsize=(7.2, 6.4), width_ratios=(1, 1, 1, 0.5, 1, 1, 1)
)
for row, order in zip(grid, orders, strict=True):
    row[3].set_visible(False)
    for state, axes in (("batch", row[:3]), ("sample", row[4:])):
        for place, image, seen in zip(
            axes, order, classes(state, order, 3), strict=True
        ):
            wrong = seen != labels[image]
            place.imshow(images[image, ..., 0], "gray_r")
            place.set(xticks=[], yticks=[])
            place.set_xlabel(
                str(seen), color=orange if wrong else "0.3", weight="bold", labelpad=2
            )
            place.spines[:].set(
                color=orange if wrong else "0.8", linewidth=1 + 2 * wrong
            )
grid[0, 1].set_title('membrane_state="batch"', weight="bold", fontsize=11)
grid[0, 5].set_title("the default", weight="bold", fontsize=11)
figure.tight_layout(pad=0.4)

# %% [markdown]
"""
Each row is one batch of the same three images. Below each stands what the model saw; the images,
the weights and the batch size never change, only the order does.

On 160 images, in batches of a random order:
"""

# %% alt="Share of predictions that the batch changes, by batch size: it grows for one state, and is 0"
sizes = (2, 8, 32)
shuffled = [random.permutation(160) for _ in range(4)]
figure, axes = plt.subplots(figsize=(5.5, 2.6))
for state, colour in (("batch", orange), ("sample", blue)):
    seen = {size: classes(state, shuffled, size) for size in sizes}
    moved = [100 * np.mean(seen[size] != alone[state][shuffled]) for size in sizes]
    axes.plot(sizes, moved, marker="o", color=colour, linewidth=2, label=state)
    print(f"{state:7}", [f"{percent:.1f} %" for percent in moved])
axes.set_xscale("log", base=2)
axes.set(xticks=sizes, xticklabels=sizes, xlabel="batch size")
axes.set_ylabel("predictions\nthat change, %")
axes.legend(frameon=False, title="membrane_state")
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
"""
Without the noise hardly any prediction moves, and one by one there is no neighbour to leak from.
How much of a published accuracy comes from the state, and how often an attacker in the batch
succeeds, is [a study of its own](../evidence/batch_state.md). For the released 10-384 on ImageNet's
images, sorted by class, [a user measured](https://github.com/zhouchenlin2096/QKFormer/issues/14)
78.73 %, and 74.20 % one by one.

An answer that depends on the neighbours must not be served: whoever shares the batch could change
it. So an export refuses such a model:
"""

# %%
from keras_qkformer.serving.export import export_saved_model

models["batch"].model.save_to_preset("weights/leaky", models["batch"].metadata)
try:
    export_saved_model("weights/leaky", "saved_models/leaky")
except ValueError as error:
    print(error)

# %% [markdown]
"""
To check a published number, both states are an option: `keras-qkformer evaluate weights/10-384
--recipe recipes/imagenet_10_384.py --membrane-state batch`, and the same with `sample`.

## What to read next

- [How much accuracy comes from the batch state?](../evidence/batch_state.md)
- [The FAQ](../faq.md) on accuracies that differ from the paper's.
- [Files of strangers](../security.md): what loading a checkpoint promises, and by which limits.
- [The families](../families/index.md), each with what its published code does otherwise.
"""

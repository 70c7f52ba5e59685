# %% [markdown]
"""
# The paper in code

Every equation of QKFormer next to its layer, with a picture of its spikes. The model is the
small one of [five minutes](../start.md); the input is a real handwritten seven.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_qkformer import QKFormerClassifier
from keras_qkformer.analysis.colours import OFF, ON
from keras_qkformer.data.images.digits import digits
from keras_qkformer.layers.neuron_scope import neuron_scope

blue, orange = np.array(OFF) / 255, np.array(ON) / 255
model = QKFormerClassifier.from_preset("qkformer_tiny", weights="digits")
images, labels = digits().load("test", lambda count: (45, 46))
x = model.preprocessor(images)
model(x).shape

# %% [markdown]
r"""
## The neuron

A neuron adds up what it receives, forgets half of it in every step, and fires when it
reaches the threshold. With input $x_t$, potential $v_t$ and time constant $\tau = 2$:

$$h_t = v_{t-1} + \frac{x_t - v_{t-1}}{\tau}$$

$$s_t = 1 \text{ if } h_t \ge 1 \text{, else } 0$$

$$v_t = 0 \text{ if } s_t = 1 \text{, else } h_t$$

The layer is `LIF`, on `(batch, time, ...)`. Its potentials start at rest in every call.
"""

# %% alt="The potential of a neuron rises towards the threshold, and falls to 0 with every spike"
from keras_qkformer.layers import LIF

neuron = LIF(tau=2.0)
current = np.array([[1.5, 0.4, 1.9, 1.2, 0.3, 1.7, 1.7, 0.2, 1.1, 1.6]], "float32")
spikes = neuron(current)
potentials = neuron.potentials(current, spikes)

steps = np.arange(1, 11)
fig, axes = plt.subplots(figsize=(7, 2.4))
axes.bar(steps, current[0], 0.7, color=blue, alpha=0.25, label="input $x_t$")
axes.plot(
    steps, ops.convert_to_numpy(potentials)[0], color="0.2", marker="o", label="$h_t$"
)
axes.axhline(1, color="0.5", linestyle=":", linewidth=1)
fired = steps[ops.convert_to_numpy(spikes)[0] == 1]
axes.vlines(fired, 2.05, 2.4, color=orange, linewidth=3, label="spikes $s_t$")
axes.set(xticks=steps, xlabel="time step", ylim=(0, 2.5))
axes.legend(ncols=3, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.25))
axes.spines[["top", "right"]].set_visible(False)
# %% [markdown]
r"""
Nothing learns through a step, whose derivative is 0. So the gradient is that of a smooth
function, here of $\mathrm{sigmoid}(4 (h - 1))$.
[Another tutorial](your_own_parts.md) replaces it.

## What every neuron does

`neuron_scope` records the spikes of all neurons during a call.
"""

# %%
spikes = {}
with neuron_scope(record=spikes):
    logits = model(x)
for layer, fired in list(spikes.items())[:6]:
    print(f"{layer.path:45} {tuple(fired.shape)}  {float(ops.mean(fired)):.3f}")

# %% [markdown]
"""
The last number is the firing rate. In the pictures below, a column is a time step, and a pixel
is the share of channels that fire there.
"""


# %%
def show(*rows):
    """Draw rows of `(name, values)`, values `(time, height, width)`."""
    columns = max(len(values) for _, values in rows)
    size = (1.15 * columns + 1.5, 1.2 * len(rows))
    fig, grid = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    for line, (name, values) in zip(grid, rows, strict=True):
        most = values.max() or 1
        for axes, value in zip(line, values, strict=True):
            axes.imshow(value, "magma", vmin=0, vmax=most)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    fig.tight_layout(pad=0.4)


def mean_of(values):
    """The mean over channels of one example."""
    return ops.convert_to_numpy(values)[0].mean(-1)


# %% [markdown]
r"""
## Patch embedding

The image passes the first convolution once; its current is shown to the neurons in every step.
Main path and shortcut meet as a sum of spikes (SPEDS, the deformed shortcut):

$$U = \mathrm{SN}(\mathrm{BN}(\mathrm{conv}(X)))$$

$$Y = \mathrm{SN}(\mathrm{BN}(\mathrm{conv}(U)))
  + \mathrm{SN}(\mathrm{BN}(\mathrm{conv}_{1 \times 1}(U)))$$
"""

# %% alt="Spikes of the first unit, the second and the shortcut in four time steps: the seven is visible"
by_path = {layer.path.removesuffix("/neuron"): s for layer, s in spikes.items()}
names = ["unit0", "unit1", "shortcut"]
show(*((name, mean_of(by_path[f"patch_embed1/{name}"])) for name in names))

# %% [markdown]
r"""
## Q-K token attention

$$Q = \mathrm{SN}(\mathrm{BN}(X W_Q)), \quad K = \mathrm{SN}(\mathrm{BN}(X W_K))$$

$$A = \mathrm{SN}_{0.5}\Big(\sum_i Q_i\Big), \quad
  Y = \mathrm{SN}(\mathrm{BN}((A \odot K) W_P + b))$$

Q is summed over the channels of a head and gives one bit per token: pass, or not. The code says
the same.
"""

# %%
import inspect

from keras_qkformer.layers import TokenQKAttention

print(inspect.getsource(TokenQKAttention.call))

# %% alt="Query, mask, key and masked key in four time steps; the mask lets tokens on the stroke pass"
attention = "stage1_block1/attention"
mask = by_path[f"{attention}/attention_neuron"]
key = ops.convert_to_numpy(by_path[f"{attention}/key"])
heads = ops.convert_to_numpy(mask)
width = key.shape[-1] // heads.shape[-1]
masked = key * np.repeat(heads, width, -1)
show(
    ("Q", mean_of(by_path[f"{attention}/query"])),
    ("A", mean_of(mask)),
    ("K", mean_of(key)),
    ("A * K", mean_of(masked)),
)

# %% [markdown]
r"""
## Spiking self-attention

The last stage relates tokens to each other:

$$Y = \mathrm{SN}_{0.5}\big(0.125 \cdot Q (K^\top V)\big)$$

`attention_views` gives what every attention of a model does. For a token of the last stage,
here the one in the upper right corner, the map shows how many channels of its Q fire together
with those of K elsewhere.
"""

# %% alt="How one token of the last stage looks at all sixteen, in four time steps"
from keras_qkformer.analysis.attention import attention_views

views = attention_views(model, x)
maps = views["stage2_block1/attention"].of(row=0, column=3)
show(("map", maps[0].mean(-1)))

# %% [markdown]
"""
## Residual connections

A block adds spikes to its input, and the next block adds more. So features are whole numbers:
"""

# %%
from keras_qkformer.analysis.attention import stage_activity

for stage, values in stage_activity(model, x).items():
    print(
        stage,
        {
            int(v): int(n)
            for v, n in zip(*np.unique(values, return_counts=True), strict=True)
        },
    )

# %% [markdown]
"""
[Is that still a spiking network?](../faq.md#is-it-an-snn-if-values-reach-3) With
`residual="pre_activation"`, potentials are added, and all inputs of layers are 0 or 1.

## The answer grows over time

The head takes the mean over tokens and time steps. A model with fewer steps is the same model,
stopped earlier:
"""

# %% alt="The probability of the right class after one, two, three and four time steps"
chances = []
for steps_shown in range(1, 5):
    part = QKFormerClassifier.from_preset(
        "qkformer_tiny", weights="digits", time_steps=steps_shown
    )
    chances.append(ops.convert_to_numpy(ops.softmax(part(x)))[0])
fig, axes = plt.subplots(figsize=(5, 2.2))
for number in range(10):
    right = number == labels[0]
    line = {"color": orange, "linewidth": 2.5} if right else {"color": "0.75"}
    axes.plot(range(1, 5), [c[number] for c in chances], **line)
axes.set(xticks=range(1, 5), xlabel="time steps", ylabel="probability", ylim=(0, 1))
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
"""
## What to read next

- [What an answer costs](energy.md): energy by four conventions.
- [A surrogate, a neuron, an attention of your own](your_own_parts.md).
- [The family's page](../families/qkformer.md), with its presets and a drawing of each block.
"""

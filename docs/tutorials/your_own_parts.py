# %% [markdown]
"""
# A surrogate, a neuron, an attention of your own

Ten lines each, and all three in a Keras model. The layers keep no state between calls, so they
mix with any others.
"""

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_qkformer.analysis.colours import OFF, ON
from keras_qkformer.layers import LIF, ConvBNLIF, SpikingBlock, SpikingMLP
from keras_qkformer.ops import register_surrogate, spike, surrogate_derivative

keras.utils.set_random_seed(0)
blue, orange = np.array(OFF) / 255, np.array(ON) / 255

# %% [markdown]
"""
## A surrogate gradient

It is a function of how far the potential lies above the threshold, registered under a name. Layers,
presets and recipes then take that name.
"""


# %%
@register_surrogate("gaussian", alpha=2.5)
def gaussian(x, alpha):
    """The density of a normal distribution of width 1 / alpha."""
    return alpha / np.sqrt(2 * np.pi) * ops.exp(-0.5 * ops.square(alpha * x))


# %% alt="The new surrogate beside the built-in sigmoid and arctangent"
x = np.linspace(-2, 2, 200, dtype="float32")
fig, axes = plt.subplots(figsize=(5.5, 2.4))
for name, colour in (("sigmoid", "0.7"), ("atan", blue), ("gaussian", orange)):
    values = ops.convert_to_numpy(surrogate_derivative(name)(x))
    axes.plot(x, values, color=colour, linewidth=2, label=name)
axes.set(xlabel="potential minus threshold", ylabel="derivative")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
# %% [markdown]
"""
## A neuron

A neuron is any Keras layer on `(batch, time, ...)`, and `ops.spike` is the step with a surrogate
gradient. This one tires: each spike raises its threshold for a while. Where a layer needs a neuron
it copies a template, and attention asks for another threshold, so `get_config` tells the arguments.
"""


# %%
@keras.saving.register_keras_serializable(package="tutorial")
class TiringLIF(keras.layers.Layer):
    """A LIF neuron whose threshold rises with every spike and falls back."""

    def __init__(self, v_threshold=1.0, rise=0.5, surrogate="gaussian", **kwargs):
        super().__init__(**kwargs)
        self.v_threshold, self.rise, self.surrogate = v_threshold, rise, surrogate

    def call(self, inputs):
        """Run over the time steps."""
        v, tired, spikes = 0.0, 0.0, []
        for x in ops.unstack(inputs, axis=1):
            h = v + (x - v) / 2
            s = spike(h - self.v_threshold - tired, self.surrogate)
            v, tired = h * (1 - s), tired / 2 + self.rise * s
            spikes.append(s)
        return ops.stack(spikes, axis=1)

    def get_config(self):
        """Return the arguments."""
        own = {k: getattr(self, k) for k in ("v_threshold", "rise", "surrogate")}
        return {**super().get_config(), **own}


current = np.full((1, 12), 2.2, "float32")
for neuron in (LIF(), TiringLIF()):
    print(f"{neuron.name:12}", ops.convert_to_numpy(neuron(current))[0].astype(int))

# %% [markdown]
"""
## An attention

`SpikingAttention` makes the linear units, the neuron of attention and the projection. A subclass
combines their spikes. Here a token passes where Q and K agree in more than half a channel:
"""

# %%
from keras_qkformer.layers.attention import SpikingAttention


@keras.saving.register_keras_serializable(package="tutorial")
class AgreementAttention(SpikingAttention):
    """A token of K passes if Q and K fire together there."""

    def attention_shape(self, input_shape):
        """One neuron per token."""
        return (*input_shape[:-1], 1)

    def call(self, inputs, training=None):
        """Mask the tokens of K."""
        query, key = (u(inputs, training=training) for u in (self.query, self.key))
        together = ops.sum(query * key, -1, keepdims=True)
        return self.proj(self.attention_neuron(together) * key, training=training)


# %% [markdown]
"""
## All three in a model of yours

`SpikingBlock` puts any mixer and any MLP into residual connections.
"""

# %%
neuron = TiringLIF()
images = keras.Input((8, 8, 1))
x = ops.expand_dims(images, 1)
x = ConvBNLIF(32, time_steps=4, neuron=neuron, name="stem")(x)
x = ConvBNLIF(64, max_pool=True, neuron=neuron, name="pool")(x)
x = SpikingBlock(AgreementAttention(neuron=neuron), SpikingMLP(2, neuron=neuron))(x)
x = ops.mean(x, (1, 2, 3))
model = keras.Model(images, keras.layers.Dense(10)(x))
model.count_params()

# %%
from keras_qkformer.data.images.digits import digits

source = digits()
train, test = (source.load(split, lambda n: (0, n)) for split in ("train", "test"))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.AdamW(5e-3), loss, metrics=["accuracy"])
prepared = [(a / 255.0 - source.mean[0]) / source.std[0] for a, _ in (train, test)]
history = model.fit(prepared[0], train[1], batch_size=64, epochs=6, verbose=0)
score = model.evaluate(prepared[1], test[1], verbose=0, return_dict=True)
print(f"{score['accuracy']:.1%} of {len(test[1])} test digits")

# %% alt="Training accuracy over six epochs"
fig, axes = plt.subplots(figsize=(5, 2.2))
axes.plot(range(1, 7), history.history["accuracy"], color=orange, marker="o")
axes.set(xlabel="epoch", ylabel="training accuracy", ylim=(0, 1))
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
"""
It is saved and loaded like any Keras model, since all classes are registered:
"""

# %%
model.save("mine.keras")
again = keras.saving.load_model("mine.keras")
float(ops.max(ops.abs(again(prepared[1][:8]) - model(prepared[1][:8]))))

# %% [markdown]
"""
## What to read next

- [`SpikingAttention` and all layers](../reference/layers.md).
- [How to add a family](../contributing.md#how-to-add), which trains, streams and exports
  like the others.
- [The paper in code](paper_in_code.md).
"""

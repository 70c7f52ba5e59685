# %% [markdown]
"""
# Train on your own images

From a folder of pictures to a trained model that knows its classes. Here the pictures are the
handwritten digits of scikit-learn, written as PNG files; yours may be JPEG, WebP or GIF, of any
size.
"""

# %%
# %matplotlib inline
from pathlib import Path

from keras_qkformer.data.images.digits import write_digit_images

write_digit_images("photos")
for path in sorted(Path("photos").rglob("*.png"))[:3]:
    print(path)

# %% [markdown]
"""
`photos/<split>/<class>/<file>` is all that is asked of a folder, or of a zip
([other layouts](../data.md#images)). An image that can't be read is left out and named.

## The experiment

A recipe is every value of an experiment, checked when it is made: an unknown field or a value out
of range is an error that names the rule.
"""

# %%
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

recipe = Recipe(
    preset="qkformer_tiny",
    data=Data(
        name="folder",
        data_dir="photos",
        train="train[:90%]",
        validation="train[90%:]",
        test="test",
        batch_size=32,
        max_shift=0.08,
        max_rotation=10,
    ),
    optimizer=Optimizer(
        epochs=5, learning_rate=5e-3, warmup_epochs=1, weight_decay=0.05
    ),
    seed=0,
)

# %% [markdown]
"""
Validation chooses the epoch, and test is used once, at the end. To start from trained weights,
put a preset folder in place of the preset: `preset="weights/cifar10_small"`
([which settings then](../training.md#your-own-images-from-trained-weights)).

In a file `mine.py`, the same recipe is trained by `keras-qkformer fit mine.py`.

## Look before you train

What the network will see, augmentation included. Digits must not be mirrored, and photos may.
"""

# %% alt="Sixteen training images of digits, shifted and rotated a little, with their classes"
from keras_qkformer.analysis.figures.images import plot_images
from keras_qkformer.training.input_pipeline import preview

images, captions = preview(recipe, 16)
plot_images(images, captions, None)

# %% [markdown]
"""
## Train

A training that is stopped goes on after its last whole epoch when the cell is run again.
"""

# %%
from keras_qkformer.training.fit import fit

results = fit(recipe, "runs/photos", verbose=0)
test = results["test"]
print(f"{test['accuracy']:.1%} of {test['examples']} test images")

# %% alt="The loss falls and the accuracy rises over five epochs; the best one is marked"
from keras_qkformer.analysis.figures.training import plot_training

plot_training(results["history"], None)

# %% [markdown]
"""
## Use it

The workdir is a trained model: with its classes, its preprocessing, and a door for files.
"""

# %%
from keras_qkformer import load_trained

trained = load_trained("runs/photos")
files = [*Path("photos/test").rglob("*.png")][::60][:6]
for file, chances in zip(files, trained.predict(files), strict=True):
    best = chances.argmax()
    print(f"{file}: {trained.class_names[best]} ({chances[best]:.0%})")

# %% [markdown]
"""
On a command line: `keras-qkformer predict runs/photos photo.jpg --top 3`.

## What to read next

- [Training](../training.md): fine-tuning, frozen layers, 16 bits, several devices.
- [Your own data](../data.md): other layouts, and sources of your own.
- [What an answer costs](energy.md): what an answer of this model costs.
- [Serving](../serving.md): `keras-qkformer export runs/photos` and a server.
"""

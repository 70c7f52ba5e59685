"""A preset folder as a training leaves it, for tests of what is done with one."""

import atexit
import functools
import shutil
import tempfile

import keras
from model_harness import settle

from keras_qkformer.models import (
    QKFormerClassifier,
    SEWResNetBackbone,
    SpikingClassifier,
)


def save_preset(folder, metadata=None, **arguments):
    """A preset folder of a model with settled statistics, and the model.

    The metadata are added to, or replace, those that every such folder has.
    """
    values = dict(embed_dim=16, num_heads=2, time_steps=2)
    model = QKFormerClassifier.from_preset("qkformer_tiny", **{**values, **arguments})
    return _save_settled(folder, model, metadata)


def _save_settled(folder, model, metadata):
    settle(model)
    mean, std, max_value = 0.3, 0.1, 255.0
    if not model.backbone.static:  # Counts stay what they are.
        mean, std, max_value = 0.0, 1.0, 1.0
    channels = model.backbone.in_channels
    values = {"mean": [mean] * channels, "std": [std] * channels}
    values["max_value"] = max_value
    own = {
        "class_names": [str(i) for i in range(10)],
        "preprocessing": {"image_size": list(model.backbone.image_size), **values},
    }
    model.save_to_preset(folder, {**own, **(metadata or {})})
    return model


@functools.cache
def shallow_preset(**arguments):
    """As `settled_preset`, of a model of four neurons, which compiles in a fourth.

    For tests of what surrounds the model in a training, whatever it is.
    """
    folder = tempfile.mkdtemp(prefix="keras_qkformer_preset_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    keras.utils.set_random_seed(0)
    sizes = dict(image_size=8, in_channels=1, time_steps=2)
    layers = dict(stem_width=8, widths=(8,), depths=(1,))
    backbone = SEWResNetBackbone(**{**sizes, **layers, **arguments}, name="backbone")
    _save_settled(folder, SpikingClassifier(backbone, 10), None)
    return folder


@functools.cache
def settled_preset(metadata=None, **arguments):
    """Path of a preset folder to start a training from, made once per process.

    Its neurons fire from the first step on: from new weights, a short training ends
    with the same logits for every input.
    """
    folder = tempfile.mkdtemp(prefix="keras_qkformer_preset_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    keras.utils.set_random_seed(0)
    save_preset(folder, metadata, **arguments)
    return folder

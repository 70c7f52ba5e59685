"""The published models: their sizes, and that they run."""

import inspect

import keras
import numpy as np
import pytest
from harness import call, to_numpy

from keras_qkformer.models import (
    PRESETS,
    QKFormerClassifier,
    SpikingClassifier,
    count_parameters,
)
from keras_qkformer.models.loading import input_shape_of
from keras_qkformer.models.preset import FAMILIES


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_those_of_the_table(name):
    preset = PRESETS[name]
    with keras.StatelessScope():  # In which weights get shapes and no values.
        model = SpikingClassifier.from_preset(name)
    assert count_parameters(model) == preset.parameters
    assert model.output_shape == (None, preset.arguments["num_classes"])
    assert input_shape_of(name) == model.input_shape[1:]


@pytest.mark.parametrize("size", [(224, 224), (288, 192)])
def test_imagenet_model_runs_on_other_sizes(size):
    small = dict(time_steps=1, embed_dim=96, depths=(1, 1, 1))
    model = QKFormerClassifier.from_preset(
        "qkformer_10_384_imagenet", image_size=size, **small
    )
    images = np.random.default_rng(0).normal(size=(1, *size, 3)).astype("float32")
    # Nothing fires with the statistics of a new model, so with those of the image.
    logits = to_numpy(call(model, images, training=True))
    assert logits.shape == (1, 1000)
    assert np.isfinite(logits).all()
    assert logits.std() > 0


def test_unknown_preset_says_what_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"qkformer_tiny.*Received: 'huge'"):
        QKFormerClassifier.from_preset("huge")


def test_preset_describes_its_source():
    for preset in PRESETS.values():
        assert preset.description
        assert preset.source
        backbone = inspect.signature(FAMILIES[preset.family].backbone).parameters
        channels = preset.arguments.get("in_channels", backbone["in_channels"].default)
        for values in (preset.mean, preset.std):
            assert values is None or len(values) == channels
        assert (preset.mean is None) == (channels != 3)


def test_overrides_replace_arguments_of_a_preset():
    model = QKFormerClassifier.from_preset(
        "qkformer_tiny", num_classes=None, time_steps=2, image_size=(8, 16)
    )
    assert model.output_shape == (None, 128)
    assert model.backbone.time_steps == 2

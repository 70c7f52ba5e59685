"""What the report draws of a few examples is what the model does with them."""

from pathlib import Path

import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, random_inputs, settle
from small_models import SMALL_MODELS

from keras_qkformer import QKFormerBackbone, QKFormerClassifier
from keras_qkformer.analysis.report.gallery import gallery
from keras_qkformer.analysis.report.inside import NEURONS, look_inside
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.trained import TrainedModel

pytestmark = pytest.mark.backend_independent


def test_answers_spikes_and_pictures_are_those_of_the_model():
    model = settle(QKFormerClassifier(QKFormerBackbone(**TINY), num_classes=5))
    preprocessing = Preprocessing((8, 12), mean=(0.5, 0.25), std=(2, 4))
    trained = TrainedModel(model, list("abcde"), preprocessing, {}, Path())
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 8, 12, 2))
    inputs = preprocessing(pixels).numpy()
    inputs[2] = random_inputs(model, batch=1)  # Much stronger than pixels.
    found = look_inside(trained, inputs, np.array([4, 0, 1]))

    logits = to_numpy(model(inputs)).astype("float64")
    odds = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.probabilities[:, -1], odds, rtol=1e-4)
    assert found.probabilities.shape == (3, 3, 5)
    np.testing.assert_allclose(found.probabilities.sum(-1), 1)
    np.testing.assert_allclose(found.pictures[:2] * 255, pixels[:2], rtol=1e-3)
    assert found.labels == [4, 0, 1]
    assert {path: x.shape for path, x in found.activity.items()} == {
        "stage1": (3, 3, 8, 12),
        "stage2": (3, 3, 4, 6),
    }
    # Evenly spread neurons, of which all are there if they are few.
    mask = found.attention["stage1_block1/attention"].mask
    raster = found.rasters["stage1_block1/attention/attention_neuron"]
    np.testing.assert_array_equal(raster, mask.reshape(3, 3, -1) > 0)
    assert raster.shape[-1] == 8 * 12 * 2 == NEURONS
    query = found.attention["stage2_block1/attention"].query.reshape(3, 3, -1)
    chosen = np.linspace(0, query.shape[-1] - 1, NEURONS).round().astype(int)
    raster = found.rasters["stage2_block1/attention/query"]
    np.testing.assert_array_equal(raster, query[..., chosen] > 0)
    assert raster.any()


@pytest.mark.parametrize("family", SMALL_MODELS)
def test_examples_of_every_family_are_shown(family):
    model = settle(SMALL_MODELS[family].make(static=False))
    preprocessing = Preprocessing((8, 12), mean=(0, 0), std=(1, 1), max_value=1)
    trained = TrainedModel(model, list("abc"), preprocessing, {}, Path())
    inside = look_inside(trained, random_inputs(model))
    text = gallery(inside, list("abc"))
    cards = 1 + len(inside.attention) + len(model.backbone.output)
    assert text.count('class="card"') == 4 * cards  # Of four examples.
    rasters = len(inside.rasters) * 4
    assert text.count("neurons across, time steps down</title>") == rasters

"""The features of every stage, and the masks of token attention."""

import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, random_inputs, settle

from keras_qkformer import QKFormerBackbone, QKFormerClassifier
from keras_qkformer.analysis.attention import stage_activity, token_masks

DVS = {"image_size": (32, 48), "family": "dvs", "static": False, "num_heads": (2, 4)}


def new_model(**arguments):
    backbone = QKFormerBackbone(**{**TINY, **arguments})
    return settle(QKFormerClassifier(backbone, num_classes=5))


def fire(currents):
    """LIF with time constant 2 and threshold 0.5 over axis 1, from its equations."""
    potential, spikes = np.zeros_like(currents[:, 0]), []
    for current in np.moveaxis(currents, 1, 0):
        potential = potential + (current - potential) / 2
        spikes.append((potential >= 0.5).astype("float32"))
        potential = potential * (1 - spikes[-1])
    return np.stack(spikes, 1)


@pytest.mark.parametrize("residual", ["add", "pre_activation"])
def test_masks_are_the_spikes_of_summed_queries(residual):
    model = new_model(residual=residual, depths=(2, 1))
    images = random_inputs(model, batch=2)
    x, expected = images[:, None], {}
    _, embed, *blocks = model.backbone.layers[:4]
    x = embed(x)
    for block in blocks:
        attention = block.mix
        neuron = attention.input_neuron
        spikes = x if neuron is None else neuron(x)
        query = to_numpy(attention.query(spikes))
        heads = query.reshape((*query.shape[:-1], attention.num_heads, -1))
        expected[block.name] = fire(heads.sum(-1))
        x = block(x)
    masks = token_masks(model, images)
    assert list(masks) == list(expected) == ["stage1_block1", "stage1_block2"]
    for name, mask in masks.items():
        assert mask.shape == (2, 3, 8, 12, 2)
        assert 0 < mask.mean() < 1
        np.testing.assert_array_equal(mask, expected[name])


@pytest.mark.backend_independent
def test_masks_of_events_have_the_heads_of_their_stage():
    model = new_model(**DVS, attention="token")
    masks = token_masks(model, random_inputs(model, batch=1))
    assert {name: mask.shape for name, mask in masks.items()} == {
        "stage1_block1": (1, 3, 4, 6, 2),
        "stage2_block1": (1, 3, 2, 3, 4),
    }
    assert all(set(np.unique(mask)) <= {0, 1} for mask in masks.values())


def test_only_token_attention_has_masks():
    model = new_model(attention=("channel", "self"))
    assert token_masks(model, random_inputs(model, batch=1)) == {}


def test_activity_is_what_the_head_averages():
    model = new_model()
    images = random_inputs(model)
    activity = stage_activity(model, images)
    assert {stage: x.shape for stage, x in activity.items()} == {
        "stage1": (4, 3, 8, 12, 8),
        "stage2": (4, 3, 4, 6, 16),
    }
    kernel, bias = model.get_layer("head").get_weights()
    logits = activity["stage2"].mean((1, 2, 3)) @ kernel + bias
    np.testing.assert_allclose(logits, to_numpy(model(images)), atol=1e-5)


def test_activity_counts_spikes():
    model = new_model()
    for x in stage_activity(model, random_inputs(model)).values():
        np.testing.assert_array_equal(x, np.round(x))
        assert x.min() == 0
        assert x.max() > 1


@pytest.mark.parametrize("function", [stage_activity, token_masks])
@pytest.mark.parametrize("shape", [(8, 12, 2), (1, 12, 8, 2), (1, 3, 8, 12, 2)])
def test_images_of_another_shape_are_refused(function, shape):
    model = QKFormerClassifier(QKFormerBackbone(**TINY), num_classes=5)
    message = r"\(batch, 8, 12, 2\).*Received: \(" + str(shape[0])
    with pytest.raises(ValueError, match=message):
        function(model, np.zeros(shape, "float32"))

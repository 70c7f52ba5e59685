"""The features of every stage, and what every kind of attention does."""

import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, random_inputs, settle
from small_models import SMALL_MODELS

from keras_qkformer import QKFormerBackbone, QKFormerClassifier
from keras_qkformer.analysis.attention import (
    ChannelMask,
    TokenMaps,
    TokenMask,
    attention_views,
    stage_activity,
    token_masks,
)

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


def test_maps_are_the_scaled_coincidences_of_queries_and_keys():
    model = new_model(attention=("token", "self"))
    images = random_inputs(model, batch=2)
    x = images[:, None]
    for layer in model.backbone.layers[1:]:
        if layer.name == "stage2_block1":
            query, key = (
                to_numpy(unit(x)).reshape(2, 3, 4 * 6, 2, 8)
                for unit in (layer.mix.query, layer.mix.key)
            )
        x = layer(x)
    products = 0.125 * np.einsum("btnhd,btmhd->btnhm", query, key)
    products = products.reshape(2, 3, 4, 6, 2, 4, 6)
    view = attention_views(model, images)["stage2_block1/attention"]
    assert products.any()
    for row, column in ((0, 0), (3, 5), (2, 1)):
        expected = np.moveaxis(products[:, :, row, column], 2, -1)
        np.testing.assert_array_equal(view.of(row, column), expected)
    np.testing.assert_allclose(view.all_of(1), products[1].mean(3), rtol=1e-6)


def test_a_channel_mask_is_the_spikes_of_queries_summed_over_the_tokens():
    model = new_model(attention=("channel", "self"))
    images = random_inputs(model, batch=2)
    _, embed, block, *_ = model.backbone.layers
    # So that some channels fire at few tokens, or at none.
    block.mix.query.norm.beta.assign(np.linspace(-12, 0, 8))
    query = to_numpy(block.mix.query(embed(images[:, None])))
    view = attention_views(model, images)["stage1_block1/attention"]
    assert 0 < view.mask.mean() < 1
    np.testing.assert_array_equal(view.mask, fire(query.sum((2, 3))))


@pytest.mark.backend_independent
def test_views_of_a_model_in_16_bits_are_of_32():
    model = new_model(attention=("token", "self"), dtype="mixed_bfloat16")
    views = attention_views(model, random_inputs(model, batch=2))
    mask, maps = views.values()
    assert mask.mask.dtype == maps.query.dtype == maps.key.dtype == "float32"
    by_token = maps.of(1, 2)[0].mean(-1)
    np.testing.assert_allclose(maps.all_of(0)[:, 1, 2], by_token, rtol=1e-6)


VIEWS = {
    "max_former": {"stage3_block1/attention": TokenMaps},
    "sew_resnet": {},
    "spike_driven_transformer": dict.fromkeys(
        ("block1/attention", "block2/attention"), ChannelMask
    ),
    "spikformer": dict.fromkeys(("block1/attention", "block2/attention"), TokenMaps),
    "spikingformer": dict.fromkeys(("block1/attention", "block2/attention"), TokenMaps),
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("family", SMALL_MODELS)
def test_every_family_has_views_of_its_attention(family):
    model = settle(SMALL_MODELS[family].make())
    views = attention_views(model, random_inputs(model))
    assert {path: type(view) for path, view in views.items()} == VIEWS[family]
    assert [*views] == [*VIEWS[family]]  # In their order.


@pytest.mark.backend_independent
def test_all_three_kinds_stand_in_one_model_of_qkformer():
    kinds = ("token", "channel", "self")
    model = new_model(attention=kinds, depths=(1, 1, 1), image_size=16, num_heads=2)
    views = attention_views(model, random_inputs(model))
    assert [type(view) for view in views.values()] == [
        TokenMask,
        ChannelMask,
        TokenMaps,
    ]


@pytest.mark.parametrize("function", [stage_activity, token_masks, attention_views])
@pytest.mark.parametrize("shape", [(8, 12, 2), (1, 12, 8, 2), (1, 3, 8, 12, 2)])
def test_images_of_another_shape_are_refused(function, shape):
    model = QKFormerClassifier(QKFormerBackbone(**TINY), num_classes=5)
    message = r"\(batch, 8, 12, 2\).*Received: \(" + str(shape[0])
    with pytest.raises(ValueError, match=message):
        function(model, np.zeros(shape, "float32"))

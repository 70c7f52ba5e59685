"""What is read out of a model: features and masks."""

import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, random_inputs, settle

from keras_qkformer.analysis.attention import stage_activity, token_masks
from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier


def make_model(**changes):
    model = QKFormerClassifier(QKFormerBackbone(**{**TINY, **changes}), 5)
    return settle(model)


def test_activity_is_the_spike_count_of_every_stage():
    model = make_model()
    activity = stage_activity(model, random_inputs(model))
    assert {k: x.shape for k, x in activity.items()} == {
        "stage1": (4, 3, 8, 12, 8),
        "stage2": (4, 3, 4, 6, 16),
    }
    for counts in activity.values():
        np.testing.assert_array_equal(counts, np.round(counts))
        assert counts.max() > 0


@pytest.mark.parametrize("attention", [("token", "self"), ("token", "token")])
def test_masks_are_those_of_the_token_blocks(attention):
    model = make_model(attention=attention)
    x = random_inputs(model)
    masks = token_masks(model, x)
    count = attention.count("token")
    assert list(masks) == ["stage1_block1", "stage2_block1"][:count]
    embedding = model.backbone.get_layer("patch_embed1")
    block = model.backbone.get_layer("stage1_block1")
    expected = block.mix.mask(embedding(np.expand_dims(x, 1)))
    np.testing.assert_array_equal(masks["stage1_block1"], to_numpy(expected))
    assert set(np.unique(masks["stage1_block1"])) == {0, 1}


def test_model_without_token_attention_has_no_masks():
    model = make_model(attention=("channel", "self"))
    assert token_masks(model, random_inputs(model)) == {}


@pytest.mark.parametrize("function", [stage_activity, token_masks])
def test_images_of_another_size_are_an_error(function):
    with pytest.raises(ValueError, match=r"\(batch, 8, 12, 2\).*Received: \(1, 8, 8"):
        function(make_model(), np.zeros((1, 8, 8, 2), "float32"))

"""Runs of a spiking model agree, but for spikes whose potential is at the threshold."""

import numpy as np
import pytest
from harness import to_numpy
from keras import ops
from model_harness import settle

from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.serving import agreement
from keras_qkformer.serving.agreement import close_examples, compare_spikes, in_float64
from keras_qkformer.serving.check_answers import unexplained

# An export runs on TensorFlow.
pytestmark = pytest.mark.backend_independent

LAYER = "stage1_block1_attention_query"  # In the middle of the model.


@pytest.fixture(scope="module")
def run():
    """A float64 model and a run of it in float32."""
    model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    settle(model)
    reference = in_float64(model)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    fired = {}
    with neuron_scope(record=fired):
        logits = to_numpy(model(images, training=False))
    spikes = {name: to_numpy(fired[each]) for name, each in model.neurons().items()}
    assert np.ptp(logits, 0).min() > 1e-3
    return model, reference, images, spikes, logits


def test_a_run_in_float32_agrees(run):
    model, reference, images, spikes, logits = run
    found = compare_spikes(reference, images, spikes, logits)
    assert found.largest_difference < 1e-5
    assert found.neurons == sum(each.size for each in spikes.values())
    assert found.fired == sum(each.sum() for each in spikes.values()) > 100
    assert found.flips == dict.fromkeys(model.neurons(), 0)
    same, close = close_examples(model, ops.convert_to_tensor(images))
    np.testing.assert_allclose(same, logits, atol=1e-6)
    np.testing.assert_array_equal(close, found.close)


def test_a_spike_may_flip_only_at_the_threshold(run, monkeypatch):
    _, reference, images, spikes, logits = run
    flipped = spikes[LAYER].copy()
    flipped[1, 0, 1, 1, 3] = 1 - flipped[1, 0, 1, 1, 3]
    changed = {**spikes, LAYER: flipped}
    with pytest.raises(
        ValueError, match=rf"{LAYER} may differ only .* \(1, 0, 1, 1, 3"
    ):
        compare_spikes(reference, images, changed, logits)
    # All lies at the threshold: the flip is counted, and the logits follow from it.
    monkeypatch.setattr(agreement, "TOLERANCE", 1e3)
    found = compare_spikes(reference, images, changed, logits)
    assert found.flips[LAYER] >= 1 and found.close.all()
    assert found.largest_difference > 0


def test_other_logits_do_not_agree(run):
    _, reference, images, spikes, logits = run
    with pytest.raises(ValueError, match=r"same spikes .* difference of 1\.0e-02"):
        compare_spikes(reference, images, spikes, logits + 0.01)


def test_values_that_are_no_spikes_do_not_agree(run):
    _, reference, images, spikes, logits = run
    half = {**spikes, LAYER: 0.5 * spikes[LAYER]}
    with pytest.raises(ValueError, match=f"A spike of {LAYER}"):
        compare_spikes(reference, images, half, logits)


@pytest.mark.parametrize(
    ("equal", "close", "why"),
    [
        ([True, True, True], [False, False, False], ""),
        ([True, False, True], [False, True, False], ""),
        ([True, False, True], [True, False, True], "0.2 in example 1, where no"),
        ([True, False, False], [True, True, True], "0.3, and 2 of 3 examples differ"),
    ],
)
def test_only_a_spike_at_the_threshold_explains_a_difference(equal, close, why):
    difference = np.array([0.1, 0.2, 0.3])
    found = unexplained(difference, np.array(equal), np.array(close))
    assert found.replace("2.0e-01", "0.2").replace("3.0e-01", "0.3").startswith(why)
    assert bool(found) == bool(why)

"""Rates and operations of networks whose spikes are known, and of every family."""

import json
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from golden_models import SMALLS, Golden
from harness import to_numpy
from model_harness import TINY
from two_layers import TwoLayers

from keras_qkformer.analysis.activity import ActivityMeter
from keras_qkformer.analysis.energy import CONVENTIONS, count
from keras_qkformer.analysis.firing_rate import sums_of_spikes
from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.models import (
    QKFormerBackbone,
    QKFormerClassifier,
    SpikingClassifier,
)

OPERATIONS = json.loads(
    (Path(__file__).parents[1] / "golden" / "operations.json").read_text()
)


@pytest.mark.parametrize("batches", [[5], [2, 2, 1], [1] * 5], ids=str)
def test_rates_and_events_of_known_spikes_are_exact(batches):
    frames = np.random.default_rng(0).random((5, 3, 4, 5, 1)) < 0.1
    frames[:, :, 3, 4] = False
    labels = np.array([0, 2, 2, 0, 2])
    model = SpikingClassifier(TwoLayers(), 3)
    meter = ActivityMeter(model, ["ant", "bee", "cat"])
    for part in np.split(np.arange(5), np.cumsum(batches)[:-1]):
        meter.update(frames[part].astype("float32"), labels[part])
    copy, spread = meter.neurons()
    spikes = frames[..., 0]
    assert copy.path == "copy" and copy.count == 4 * 5 * 2
    assert copy.rate == spikes.mean() / 2
    assert copy.rate_by_step == (spikes.mean((0, 2, 3)) / 2).tolist()
    assert copy.rate_by_channel == [spikes.mean(), 0.0]
    assert copy.rate_by_class == {
        "ant": spikes[labels == 0].mean() / 2,
        "bee": None,
        "cat": spikes[labels == 2].mean() / 2,
    }
    assert copy.dead == 20 + np.sum(~spikes.any((0, 1)))
    assert (copy.saturated, copy.largest) == (0, 1.0)
    near = keras.ops.convert_to_numpy(
        keras.ops.max_pool(
            np.pad(spikes, ((0, 0), (0, 0), (1, 1), (1, 1))).reshape(15, 6, 7, 1)
            * np.float32(1),
            3,
            strides=1,
        )
    )
    assert spread.rate_by_channel == pytest.approx([near.mean(), 0.0, 1.0], rel=1e-12)
    assert spread.saturated == 20 and spread.dead >= 20

    first, second, head = meter.activities()
    assert first.inputs[0].is_binary and first.inputs[0].mean == spikes.mean()
    assert first.events == spikes.sum() / 5 * 2
    # In corners a spike meets 4 positions, at the other borders 6, else 9.
    reached = np.outer([2, 3, 3, 2], [2, 3, 3, 3, 2])
    assert second.events == pytest.approx(np.sum(spikes * reached) * 3 / 5, rel=1e-12)
    assert second.events_by_value == second.events
    assert second.inputs[0].mean_by_step == copy.rate_by_step
    # A mean over tokens is no whole number, so that its value counts nothing.
    assert not head.inputs[0].is_binary and head.events_by_value is None


def test_large_batches_are_cut_and_a_layer_that_never_fires_is_reported():
    model = SpikingClassifier(TwoLayers(), 3)
    frames = np.random.default_rng(0).random((70, *model.input_shape[1:])) < 0.1
    meter = ActivityMeter(model)
    logits, of_steps = meter.update(frames.astype("float32"))
    assert meter.neurons()[0].rate == pytest.approx(frames.mean() / 2, rel=1e-12)
    expected = to_numpy(model(frames.astype("float32")))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(of_steps.mean(1), expected, atol=1e-5)
    silent = ActivityMeter(model)
    silent.update(np.zeros((2, *model.input_shape[1:])))
    copy, spread = silent.neurons()
    assert (copy.dead, copy.rate, copy.largest) == (copy.count, 0.0, 0.0)
    assert (spread.dead, spread.saturated) == (40, 20)
    assert copy.rate_by_class is None


# Eager, where nothing must be compiled for a few examples: the numbers of the other
# backends are those of the test of known spikes.
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the same on each")
@pytest.mark.parametrize("name", SMALLS)
def test_operations_are_those_that_spikingjelly_counts(name, float64):
    golden = Golden(name, None)
    meter = ActivityMeter(golden.model())
    meter.update(golden.inputs)
    found = []
    for activity in meter.activities():
        macs, events = count(activity, CONVENTIONS["spikingjelly"])
        operation, examples = activity.operation, meter.examples
        flops = 2 * operation.macs + operation.biases * (not operation.is_head)
        found.append([events * examples, macs * examples, flops * examples])
    # Shortcuts and products stand elsewhere in the order of the calls.
    assert sorted(found) == sorted(OPERATIONS[name])


def test_a_model_whose_examples_depend_on_each_other_is_refused():
    with pytest.warns(UserWarning, match="membrane_state"):
        backbone = QKFormerBackbone(**TINY, membrane_state="batch")
    with pytest.raises(ValueError, match="membrane_state='batch'; load it with"):
        ActivityMeter(QKFormerClassifier(backbone, num_classes=5))


def test_a_layer_that_tells_nothing_is_named(monkeypatch):
    monkeypatch.setattr(
        "keras_qkformer.layers.conv_bn_lif.record_operation", lambda *_, **__: None
    )
    model = SpikingClassifier(TwoLayers(), 3)
    meter = ActivityMeter(model)
    with pytest.raises(ValueError, match=r"must tell.*'copy:inputs', 'spread:inputs'"):
        meter.update(np.zeros((1, *model.input_shape[1:]), "float32"))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others trace")
def test_no_spikes_are_held_longer_than_by_the_model_itself(monkeypatch):
    import torch

    model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    inputs = np.ones((2, 8, 8, 1), "float32")
    references, living = [], []

    def note(_, spikes):
        living.append(sum(each() is not None for each in references))
        references.append(weakref.ref(spikes))

    with torch.no_grad(), neuron_scope(record=note):
        model(inputs, training=False)
    expected = list(living)
    meter = ActivityMeter(model)
    meter.update(inputs)  # Traces the model first.
    del references[:], living[:]

    def add(spikes, totals):
        note(None, spikes)
        return sums_of_spikes(spikes, totals)

    monkeypatch.setattr("keras_qkformer.analysis.activity.sums_of_spikes", add)
    meter.update(inputs)
    assert living == expected and len(living) == 19

"""Firing rates against sums of spikes that a model shows otherwise."""

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, random_inputs, settle

from keras_qkformer.analysis import firing_rate
from keras_qkformer.analysis.firing_rate import firing_rates
from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier


@pytest.mark.parametrize("changes", [{}, {"neuron": "plif"}])
def test_rates_are_the_means_of_the_spikes_of_each_example(changes):
    model = QKFormerClassifier(QKFormerBackbone(**{**TINY, **changes}), 5)
    images = random_inputs(settle(model))
    before = model.predict(images, verbose=0)
    rates = firing_rates(model, images)
    assert all(rate.shape == (len(images),) for rate in rates.values())
    assert all((0 <= rate).all() and (rate <= 1).all() for rate in rates.values())
    backbone = model.backbone
    names = ("patch_embed1", "patch_embed2")
    parts = {name: backbone.get_layer(name).output for name in names}
    for name, sums in keras.Model(backbone.input, parts)(images).items():
        # The last unit of the main path, and the shortcut, have this many neurons.
        units = [key for key in rates if key.startswith(f"{name}/unit")]
        expected = rates[max(units)] + rates[f"{name}/shortcut"]
        means = to_numpy(sums).mean((1, 2, 3, 4))
        assert means.max() > 0
        np.testing.assert_allclose(expected, means, rtol=1e-5)
    # The model itself is as it was.
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)


@pytest.mark.filterwarnings("ignore:membrane_state='batch'")
def test_examples_that_share_a_state_share_rates():
    model = QKFormerClassifier(QKFormerBackbone(**TINY, membrane_state="batch"), 5)
    images = random_inputs(settle(model))
    rates = firing_rates(model, images)
    assert all(rate.shape == (len(images),) for rate in rates.values())
    shared = [rate for key, rate in rates.items() if key.endswith("output_neuron")]
    assert shared and all(np.ptp(rate) == 0 for rate in shared)


@pytest.mark.backend_independent
def test_the_logs_of_every_epoch_get_the_rates(monkeypatch):
    class Rates:
        def predict(self, inputs, verbose):
            assert inputs.shape == (3, 8) and not verbose
            return {"a": np.array([0.5, 0.25, 0.0]), "b": np.zeros(3)}

    made = []
    monkeypatch.setattr(
        firing_rate, "firing_rate_model", lambda model: made.append(model) or Rates()
    )
    callback, history = firing_rate.LogFiringRates(np.zeros((3, 8))), {}
    callback.set_model("model")
    for epoch in range(2):
        history[epoch] = {"loss": 1.0}
        callback.on_epoch_end(epoch, history[epoch])
    assert history[1] == {"loss": 1.0, "firing_rate": 0.125, "silent_layers": 1.0}
    assert made == ["model"]  # Compiled once.

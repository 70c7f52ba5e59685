"""Spike-driven attention against NumPy."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import LIF, ParametricLIF, SpikeDrivenAttention

SHAPE = (2, 3, 2, 4, 8)
WEIGHTS = 4 * (8 * 8 + 4 * 8) + 8  # query, key, value and proj, which has a bias


def test_spike_driven_attention_is_a_layer():
    kwargs = {
        "num_heads": 2,
        "dilate": True,
        "pre_activation": True,
        "neuron": LIF(tau=3.0, v_threshold=0.2),
    }
    check_layer(SpikeDrivenAttention, kwargs, SHAPE, SHAPE, WEIGHTS)


def test_it_has_a_time_constant_per_neuron():
    # A low threshold, for K and V to fire together.
    kwargs = {"num_heads": 2, "neuron": ParametricLIF(v_threshold=0.05)}
    # Of query, key, value, mask and output.
    check_run(SpikeDrivenAttention, kwargs, SHAPE, SHAPE, WEIGHTS + 5)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="divide the number of channels"):
        SpikeDrivenAttention(3).build(SHAPE)


def masked_query(x, layer):
    """Q * g, written with loops."""
    query, key, value = (
        plain.conv_bn_lif(x, unit) for unit in (layer.query, layer.key, layer.value)
    )
    batch, time, height, width, channels = x.shape
    size = channels // layer.num_heads

    def over_heads(x):
        if not layer.dilate:
            return x
        y = np.empty_like(x)
        for n, t, token, c in np.ndindex(batch, time, height * width, channels):
            rows = x[n, t].reshape(-1, channels)
            first = c // size * size
            last = min(c + 1, first + size - 1)
            y[n, t, token // width, token % width, c] = rows[
                max(token - 1, 0) : token + 2, max(c - 1, first) : last + 1
            ].max()
        return y

    if layer.dilate:
        key, value = widen(key), widen(value)
    total = over_heads(key * value).sum((2, 3), keepdims=True)
    mask = plain.lif(total, v_threshold=0.5)
    assert 0 < mask.mean() < 1
    return over_heads(query * mask)


def widen(x):
    y = np.empty_like(x)
    for i, j in np.ndindex(x.shape[2:4]):
        y[:, :, i, j] = x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max(
            (2, 3)
        )
    return y


@pytest.mark.parametrize("dilate", [False, True])
@pytest.mark.parametrize("pre_activation", [True, False])
def test_it_equals_numpy(pre_activation, dilate, float64):
    x = plain.random_spikes(2, 4, 2, 3, 8)
    layer = SpikeDrivenAttention(2, dilate, pre_activation=pre_activation)
    layer.build(x.shape)
    plain.randomize(layer)
    for unit in (layer.key, layer.value):
        # From no spikes to many, so that some masks are open.
        unit.norm.beta.assign(np.linspace(-1.0, 3.0, 8))
    if pre_activation:
        x = x * 1.5
        wanted = plain.conv_bn(masked_query(plain.lif(x), layer), layer.proj)
    else:
        wanted = plain.conv_bn_lif(masked_query(x, layer), layer.proj)
    np.testing.assert_allclose(to_numpy(layer(x)), wanted, rtol=1e-12, atol=1e-12)

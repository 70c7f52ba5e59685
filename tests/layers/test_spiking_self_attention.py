"""Spiking self-attention against NumPy, and both states of its last neuron."""

import warnings

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import LIF, SpikingSelfAttention
from keras_qkformer.layers.neurons import NEURONS

SHAPE = (2, 3, 4, 6, 8)
WEIGHTS = 4 * (8 * 8 + 4 * 8) + 8  # query, key, value and proj, which has a bias
# With few tokens and the usual threshold, attention would stay silent.
LIVELY = LIF(tau=1.5, v_threshold=0.2)

reproduces_the_defect = pytest.mark.filterwarnings("ignore:membrane_state='batch'")


@reproduces_the_defect
def test_self_attention_is_a_layer():
    kwargs = {
        "num_heads": 2,
        "membrane_state": "batch",
        "scale": 0.25,
        "use_bias": True,
        "neuron": LIVELY,
    }
    check_layer(
        SpikingSelfAttention, kwargs, SHAPE, SHAPE, WEIGHTS + 24, ("pre_activation",)
    )


def test_pre_activation_self_attention_is_a_layer():
    kwargs = {
        "num_heads": 2,
        "pre_activation": True,
        "scale": 0.25,
        "use_bias": True,
        "neuron": LIVELY,
    }
    check_layer(
        SpikingSelfAttention, kwargs, SHAPE, SHAPE, WEIGHTS + 24, ("membrane_state",)
    )


@pytest.mark.parametrize("neuron", NEURONS)
def test_it_works_with_each_neuron(neuron):
    num_weights = WEIGHTS + (5 if neuron == "plif" else 0)
    kwargs = {"num_heads": 2, "neuron": NEURONS[neuron](v_threshold=0.2)}
    check_run(SpikingSelfAttention, kwargs, SHAPE, SHAPE, num_weights)


def attention(x, layer):
    """What enters the projection: the usual order, (Q K^T) V, head by head."""
    y = np.empty_like(x)
    query, key, value = (
        plain.conv_bn_lif(x, unit) for unit in (layer.query, layer.key, layer.value)
    )
    head_dim = x.shape[-1] // layer.num_heads
    for head in range(layer.num_heads):
        channels = slice(head * head_dim, (head + 1) * head_dim)
        q, k, v = (
            part[..., channels].reshape(*x.shape[:2], -1, head_dim)
            for part in (query, key, value)
        )
        y[..., channels] = (layer.scale * q @ np.swapaxes(k, -1, -2) @ v).reshape(
            *x.shape[:4], head_dim
        )
    spikes = plain.lif(y, v_threshold=0.5)
    assert 0.05 < spikes.mean() < 0.95
    return spikes


def built(shape, *args, **kwargs):
    layer = SpikingSelfAttention(*args, **kwargs)
    layer.build(shape)
    plain.randomize(layer)
    return layer


@pytest.mark.parametrize(
    ("num_heads", "scale", "use_bias"), [(1, 0.125, False), (2, 0.0625, True)]
)
def test_it_equals_numpy(num_heads, scale, use_bias, float64):
    x = plain.random_spikes(3, 4, 4, 6, 16)
    layer = built(x.shape, num_heads, scale=scale, use_bias=use_bias)
    assert (layer.scale, layer.value.use_bias) == (scale, use_bias)
    wanted = plain.conv_bn_lif(attention(x, layer), layer.proj)
    assert 0.1 < wanted.mean() < 0.9
    np.testing.assert_array_equal(to_numpy(layer(x)), wanted)


def test_pre_activation_takes_and_gives_potentials(float64):
    x = 1.5 * plain.random_spikes(2, 4, 4, 6, 16)
    layer = built(x.shape, 1, pre_activation=True)
    wanted = plain.conv_bn(attention(plain.lif(x), layer), layer.proj)
    np.testing.assert_allclose(to_numpy(layer(x)), wanted, rtol=1e-12, atol=1e-12)


def test_by_default_a_sample_does_not_see_its_batch(float64):
    x = plain.random_spikes(4, 4, 4, 6, 16)
    layer = built(x.shape, 2)
    together = to_numpy(layer(x))
    alone = np.concatenate([to_numpy(layer(x[i : i + 1])) for i in range(4)])
    np.testing.assert_array_equal(together, alone)
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(to_numpy(layer(x[order])), together[order])


def test_batch_state_warns_and_runs_on_into_the_next_sample(float64):
    x = plain.random_spikes(4, 4, 4, 6, 16)
    with pytest.warns(UserWarning, match="membrane_state='batch' reproduces a defect"):
        layer = built(x.shape, 2, membrane_state="batch")
    y = plain.conv_bn(attention(x, layer), layer.proj)
    # The authors' axes are (time, batch, ...), and one neuron runs over both.
    row = np.swapaxes(y, 0, 1).reshape(1, 16, 4, 6, 16)
    wanted = np.swapaxes(plain.lif(row).reshape(4, 4, 4, 6, 16), 0, 1)
    together = to_numpy(layer(x))
    np.testing.assert_array_equal(together, wanted)
    alone = np.concatenate([to_numpy(layer(x[i : i + 1])) for i in range(4)])
    assert (together != alone).any()
    assert (to_numpy(layer(x[::-1]))[::-1] != together).any()


@reproduces_the_defect
def test_for_one_sample_both_states_are_the_same(float64):
    x = plain.random_spikes(1, 4, 4, 6, 16)
    batch = built(x.shape, 2, membrane_state="batch")
    np.testing.assert_array_equal(to_numpy(batch(x)), to_numpy(built(x.shape, 2)(x)))


def test_the_default_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SpikingSelfAttention(2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"scale": 0.0}, "scale must be above 0. Received: scale=0.0"),
        ({"membrane_state": "time"}, r"one of \('sample', 'batch'\).*'time'"),
        (
            {"membrane_state": "batch", "pre_activation": True},
            r"membrane_state='batch'.*pre_activation=True",
        ),
    ],
)
def test_bad_states_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SpikingSelfAttention(2, **kwargs)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"must divide .* num_heads=3, channels=8"):
        SpikingSelfAttention(3).build(SHAPE)

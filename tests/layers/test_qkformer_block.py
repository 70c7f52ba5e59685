"""A block: its two residual connections, and stochastic depth."""

import keras
import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import (
    LIF,
    ChannelQKAttention,
    QKFormerBlock,
    SpikingSelfAttention,
    TokenQKAttention,
)
from keras_qkformer.layers.neurons import NEURONS

SHAPE = (2, 3, 4, 6, 8)
LINEAR = 8 * 8 + 4 * 8
# Query, key, (value,) proj with a bias, and the MLP with 32 hidden channels.
WEIGHTS = 3 * LINEAR + 8 + (8 * 32 + 5 * 32 + 32 * 8 + 5 * 8)
EXTRA = {"token": 0, "channel": 0, "self": LINEAR}


def test_the_block_is_a_layer():
    kwargs = {
        "attention": "token",
        "num_heads": 2,
        "mlp_ratio": 1,
        "drop_path": 0.2,
        "membrane_state": "batch",
        "pre_activation": True,
        "neuron": LIF(tau=3.0, v_threshold=0.2),
    }
    weights = 3 * LINEAR + 8 + 2 * (LINEAR + 8)
    check_layer(QKFormerBlock, kwargs, SHAPE, SHAPE, weights)


@pytest.mark.parametrize("pre_activation", [True, False])
@pytest.mark.parametrize("attention", EXTRA)
def test_it_works_with_each_attention(attention, pre_activation):
    kwargs = {
        "attention": attention,
        "num_heads": 2,
        "pre_activation": pre_activation,
        "neuron": LIF(tau=1.5, v_threshold=0.2),  # With few tokens, else silent.
    }
    check_run(QKFormerBlock, kwargs, SHAPE, SHAPE, WEIGHTS + EXTRA[attention])


@pytest.mark.parametrize("neuron", NEURONS)
def test_it_works_with_each_neuron(neuron):
    weights = WEIGHTS + (6 if neuron == "plif" else 0)
    kwargs = {"attention": "token", "num_heads": 2, "neuron": neuron}
    check_run(QKFormerBlock, kwargs, SHAPE, SHAPE, weights)


@pytest.mark.parametrize(
    ("attention", "cls"),
    [
        ("token", TokenQKAttention),
        ("channel", ChannelQKAttention),
        ("self", SpikingSelfAttention),
    ],
)
def test_attention_and_mlp_are_added(attention, cls, float64):
    x = plain.random_spikes(2, 4, 3, 5, 8)
    block = QKFormerBlock(attention, num_heads=2, mlp_ratio=2)
    block.build(x.shape)
    plain.randomize(block)
    assert type(block.mix) is cls
    assert getattr(block.mix, "num_heads", 2) == 2
    assert block.mlp.mlp_ratio == 2
    middle = x + to_numpy(block.mix(x))
    wanted = middle + to_numpy(block.mlp(middle))
    assert wanted.max() == 3.0
    np.testing.assert_array_equal(to_numpy(block(x)), wanted)


@pytest.mark.filterwarnings("ignore:membrane_state='batch'")
def test_the_membrane_state_reaches_self_attention():
    block = QKFormerBlock("self", num_heads=2, membrane_state="batch")
    assert block.mix.membrane_state == "batch"


def test_drop_path_drops_whole_samples_and_only_in_training(float64):
    x = plain.random_spikes(32, 4, 3, 5, 8)
    block = QKFormerBlock("token", num_heads=2, drop_path=0.5)
    block.build(x.shape)
    plain.randomize(block)
    # An MLP that never fires leaves the attention to look at.
    block.mlp.reduce.norm.gamma.assign(np.zeros(8))
    block.mlp.reduce.norm.beta.assign(np.full(8, -1.0))

    kept = to_numpy(block.mix(x))
    assert kept.any((1, 2, 3, 4)).all()
    np.testing.assert_array_equal(to_numpy(block(x, training=False)), x + kept)

    kept = to_numpy(block.mix(x, training=True))
    branch = to_numpy(block(x, training=True)) - x
    dropped = ~branch.any((1, 2, 3, 4))
    assert 6 < dropped.sum() < 26  # Each of 32 with probability 1/2.
    np.testing.assert_array_equal(branch[~dropped], 2.0 * kept[~dropped])
    again = to_numpy(block(x, training=True)) - x
    assert (again.any((1, 2, 3, 4)) == dropped).any()


def test_both_branches_are_dropped_independently(float64):
    x = np.zeros((64, 1, 1, 1, 2))
    block = QKFormerBlock("token", num_heads=1, drop_path=0.5, pre_activation=True)
    block.build(x.shape)
    # Every unit gives its beta: 1 from the attention, 10 from the MLP.
    for weight in block.weights:
        weight.assign(np.zeros(weight.shape))
    block.mix.proj.norm.beta.assign(np.full(2, 1.0))
    block.mlp.reduce.norm.beta.assign(np.full(2, 10.0))
    y = to_numpy(block(x, training=True))[:, 0, 0, 0]
    assert set(y[:, 0]) == {0.0, 2.0, 20.0, 22.0}
    np.testing.assert_array_equal(y[:, 0], y[:, 1])


def test_without_drop_path_training_is_deterministic(float64):
    x = plain.random_spikes(4, 4, 3, 5, 8)
    block = QKFormerBlock("token", num_heads=2)
    first, second = (to_numpy(block(x, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not any(
        isinstance(layer, keras.layers.Dropout) for layer in block._flatten_layers()
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"attention": "soft"}, r"\('token', 'channel', 'self'\).*attention='soft'"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\).*drop_path=1.0"),
        ({"drop_path": -0.1}, r"drop_path must be in \[0, 1\).*drop_path=-0.1"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        QKFormerBlock(**{"attention": "token", "num_heads": 2, **kwargs})


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"must divide .* num_heads=3, channels=8"):
        QKFormerBlock("token", num_heads=3).build(SHAPE)

"""What goes into operations during a call: told inside a scope, and nowhere else."""

import numpy as np
import pytest
from harness import to_numpy

from keras_qkformer.layers import (
    ChannelQKAttention,
    ConvBNLIF,
    SpikeDrivenAttention,
    SpikingSelfAttention,
    TokenQKAttention,
)
from keras_qkformer.layers.operation_scope import operation_scope

X = np.random.default_rng(0).integers(0, 4, (2, 3, 4, 6, 8)).astype("float32")


def test_a_convolution_tells_its_input_inside_a_scope_alone():
    unit, seen = ConvBNLIF(4), []
    expected = to_numpy(unit(X))
    with operation_scope(lambda layer, **tensors: seen.append((layer, tensors))):
        inside = to_numpy(unit(X))
    unit(X)
    np.testing.assert_array_equal(inside, expected)
    ((layer, tensors),) = seen
    assert layer is unit and tensors.keys() == {"inputs"}
    np.testing.assert_array_equal(to_numpy(tensors["inputs"]), X)


def test_an_inner_scope_replaces_the_outer_one_until_it_ends():
    unit, outer, inner = ConvBNLIF(4), [], []
    with operation_scope(lambda layer, **_: outer.append(layer)):
        with (
            pytest.raises(KeyError),
            operation_scope(lambda layer, **_: inner.append(layer)),
        ):
            unit(X)
            raise KeyError
        unit(X), unit(X)
    assert (len(outer), len(inner)) == (2, 1)


SPIKES, MASK_OF_CHANNELS = X.shape, (2, 3, 1, 1, 8)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (TokenQKAttention(2), {"mask": (2, 3, 4, 6, 2)}),
        (ChannelQKAttention(), {"mask": MASK_OF_CHANNELS}),
        (SpikeDrivenAttention(2), {"value": SPIKES, "mask": MASK_OF_CHANNELS}),
        (SpikingSelfAttention(2), {"value": SPIKES, "context": (6, 2, 4, 4)}),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.backend_independent
def test_attention_tells_its_factors(layer, shapes):
    told = {}

    def record(teller, **tensors):
        if teller is layer:
            told.update(tensors)

    layer(X)
    for name in layer.units:
        getattr(layer, name).norm.beta.assign(np.full(8, 0.5))
    with operation_scope(record):
        layer(X)
    assert {name: tuple(x.shape) for name, x in told.items()} == {
        "query": SPIKES,
        "key": SPIKES,
        **shapes,
    }
    found = {name: to_numpy(x) for name, x in told.items()}
    assert found["query"].any() and set(np.unique(found["query"])) <= {0, 1}
    if "context" in found:
        key, value = (found[name].reshape(6, 24, 2, 4) for name in ("key", "value"))
        expected = np.einsum("bnhd,bnhe->bhde", key, value)
        np.testing.assert_array_equal(found["context"], expected)
    else:
        assert set(np.unique(found["mask"])) <= {0, 1}

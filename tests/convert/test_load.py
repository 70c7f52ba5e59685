"""Arrays under the authors' names: each one exactly once."""

import numpy as np
import pytest
from golden_models import SMALL, Golden
from keras import ops
from model_harness import TINY

from keras_qkformer.convert import load_state_dict, weight_map
from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier


@pytest.fixture
def golden(shared_golden):
    return Golden(SMALL, shared_golden)


def make_model(**changes):
    return QKFormerClassifier(QKFormerBackbone(**{**TINY, **changes}), 5)


def test_every_variable_has_one_name():
    model = make_model()
    entries = weight_map(model)
    assert len({entry.name for entry in entries}) == len(entries)
    assert {id(e.variable) for e in entries} == {id(v) for v in model.weights}


def test_every_array_arrives(golden):
    model = golden.model()
    for entry in weight_map(model):
        array = golden.weights[entry.name]
        ours = _value(entry.variable)
        assert ours.size == array.size
        np.testing.assert_allclose(np.sort(ours.ravel()), np.sort(array.ravel()))


def test_kernel_has_its_axes_turned_around(golden):
    model = golden.model()
    name = "patch_embed1.proj1_conv.weight"
    (entry,) = (e for e in weight_map(model) if e.name == name)
    theirs = golden.weights[name]
    assert _value(entry.variable)[0, 2, 1, 3] == theirs[3, 1, 0, 2]


def test_all_misfits_are_listed_and_nothing_is_changed(golden):
    model = golden.model()
    before = model.get_weights()
    arrays = {k: v + 1 for k, v in golden.weights.items()}
    del arrays["head.bias"]
    arrays["head.size"] = np.zeros(3)
    arrays["patch_embed1.proj_bn.weight"] = np.zeros(99)
    with pytest.raises(ValueError, match="exactly one variable") as error:
        load_state_dict(model, arrays)
    message = str(error.value)
    assert "missing: head.bias" in message
    assert "unused: head.size" in message
    assert "misshapen: patch_embed1.proj_bn.weight (99,) for" in message
    for ours, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, kept)


def test_counters_of_batches_are_left_out(golden):
    counter = {"patch_embed1.proj_bn.num_batches_tracked": np.int64(7)}
    load_state_dict(golden.model(), {**golden.weights, **counter})


@pytest.mark.parametrize(
    "change",
    [
        {"attention": ("channel", "self")},
        {"neuron": "plif"},
        {"residual": "pre_activation"},
    ],
    ids=str,
)
def test_model_without_a_checkpoint_is_refused(change):
    with pytest.raises(ValueError, match="Checkpoints exist for"):
        weight_map(make_model(**change))


def _value(variable):
    return ops.convert_to_numpy(variable)

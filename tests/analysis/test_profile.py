"""What each layer holds and computes, and its time alone."""

import itertools

import keras
import numpy as np
import pytest
from harness import to_numpy
from keras import ops
from model_harness import TINY
from small_models import SMALL_MODELS

from keras_qkformer.analysis import profile
from keras_qkformer.analysis.operations import counts
from keras_qkformer.models import QKFormerBackbone, SpikingClassifier, count_parameters
from keras_qkformer.ops.inference import inference_function


def tiny(**changes):
    return SpikingClassifier(QKFormerBackbone(**TINY | changes, name="backbone"), 3)


MODELS = {
    "qkformer": tiny,
    "qkformer of events": lambda: tiny(static=False),
    "qkformer of potentials": lambda: tiny(residual="pre_activation", neuron="plif"),
    **{name: small.make for name, small in SMALL_MODELS.items()},
}


@pytest.mark.parametrize("name", MODELS)
def test_layers_of_the_chain_are_the_whole_model(name):
    model = MODELS[name]()
    rows = profile.summarize(model, batch_size=5)
    chain = [row for row in rows if row.depth == 0]
    whole = counts(model)["inference"]
    assert sum(row.parameters for row in chain) == count_parameters(model)
    assert sum(row.macs for row in chain) == whole["macs_per_image"]
    assert sum(row.weight_bytes for row in chain) >= whole["bytes_per_step"]
    # Each takes what the one before gives, in the model's shapes.
    first, *_, head = chain
    assert first.call.inputs[0][0][0] == 5
    assert head.path == "head" and head.call.outputs == [((5, 3), "float32")]
    for before, after in itertools.pairwise(chain):
        assert before.call.outputs == after.call.inputs
    # Inner layers are parts of the outer: not more than it.
    for row in (row for row in rows if row.depth):
        (outer,) = (each for each in rows if each.path == row.path.rpartition("/")[0])
        assert outer.depth == row.depth - 1
        assert row.macs <= outer.macs and row.parameters <= outer.parameters
    assert max(row.depth for row in rows) >= 1
    assert not any("call" in vars(x) for x in model._flatten_layers())


def test_products_count_for_the_attention_alone():
    rows = {row.path: row for row in profile.summarize(tiny())}
    path = "stage2_block1/attention"
    inner = {p.rpartition("/")[2]: r for p, r in rows.items() if p.startswith(path)}
    attention = inner.pop("attention")
    assert [*inner] == ["query", "key", "value", "attention_neuron", "proj"]
    # Two products of 3 steps, 24 tokens, 2 heads of 8 channels.
    macs = attention.macs - sum(row.macs for row in inner.values())
    assert macs == 2 * 3 * 24 * 2 * 8**2


def test_a_layer_alone_is_called_as_in_the_model():
    """With the neuron of its caller, say, and the same result as there."""
    model = tiny(residual="pre_activation", neuron="plif")
    rows = {row.path: row for row in profile.summarize(model, batch_size=2)}
    expand = rows["stage1_block1/mlp/expand"].call
    assert expand.options["neuron"] is model.backbone.layers[2].mlp.hidden_neuron
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 12, 8)).astype("float32")
    variables = [*expand.layer.variables, *expand.options["neuron"].variables]
    run = inference_function(lambda x: expand.layer(x, **expand.options), variables)
    given = ops.convert_to_tensor(x)
    want = expand.layer(given, training=False, neuron=expand.options["neuron"])
    np.testing.assert_array_equal(to_numpy(run(given)), to_numpy(want))


def test_a_compiled_function_reads_the_variables_of_now():
    weight = keras.Variable(2.0)
    run = inference_function(lambda x, y: weight * x + y, [weight])
    x, y = ops.convert_to_tensor([1.0, 3.0]), ops.convert_to_tensor(1.0)
    assert to_numpy(run(x, y)).tolist() == [3.0, 7.0]
    weight.assign(0.5)
    assert to_numpy(run(x, y)).tolist() == [1.5, 2.5]


def test_times_are_medians_without_the_first_two_calls(monkeypatch):
    """By a clock that stands still but in calls: of layers, and of the machine."""
    clock = [0.0]

    def seconds_of(function, variables):
        durations = itertools.chain([50.0, 70.0], itertools.cycle([1.0, 9.0, 2.0]))

        def run(*tensors):
            clock[0] += next(durations)

        return run

    monkeypatch.setattr(profile, "inference_function", seconds_of)
    monkeypatch.setattr(profile.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(profile, "COPY_BYTES", 4000)
    found = profile.profile(tiny(), batch_size=2, repeats=3)
    assert {each["seconds"] for each in found["layers"]} == {2.0}
    chain = [each for each in found["layers"] if not each["depth"]]
    assert found["together"]["seconds"] == 2.0 * len(chain)
    assert found["whole"]["seconds"] == 2.0
    # Both took as long, at the first size, and the convolution has more arithmetic.
    machine = found["machine"]
    assert machine["by"] == "convolution"
    assert machine["macs_per_s"] == 4 * 32**2 * 9 * 192**2 / 2.0
    assert machine["bytes_per_s"] == 2 * 4000 / 2.0
    first = chain[0]
    moved = 2 * first["activation_bytes"] + first["weight_bytes"]
    by_bytes = moved / machine["bytes_per_s"]
    assert by_bytes > 2 * first["macs"] / machine["macs_per_s"]
    assert first["limit"] == "bytes"
    assert first["roofline_share"] == by_bytes / 2.0


def test_a_model_is_timed_on_this_backend(monkeypatch):
    small = {
        "MATRICES": (8,),
        "BATCHES": (2,),
        "MAP": (4, 4, 3),
        "KERNEL": (3, 3, 3, 3),
    }
    for name, value in {**small, "COPY_BYTES": 4000}.items():
        monkeypatch.setattr(profile, name, value)
    found = profile.profile(tiny(), batch_size=2, repeats=1)
    assert found["backend"] == keras.backend.backend()
    times = [each["seconds"] for each in (*found["layers"], found["whole"])]
    assert all(0 < each < 60 for each in times)

"""What every family of models must do, on small models: a new family adds a row."""

import json

import keras
import numpy as np
import pytest
from golden_models import SMALLS, Golden
from harness import to_numpy
from model_harness import compiled, random_inputs, settle
from small_models import SMALL_MODELS

from keras_qkformer.analysis.firing_rate import firing_rates
from keras_qkformer.analysis.operations import convolutions, counts
from keras_qkformer.layers import IF, BatchNorm
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.presets.arguments import parameters_of
from keras_qkformer.training.distribution import layout_map

each_family = pytest.mark.parametrize("small", SMALL_MODELS.values(), ids=SMALL_MODELS)
each_change = pytest.mark.parametrize(
    ("small", "name"),
    [
        pytest.param(small, name, id=f"{family}-{name}")
        for family, small in SMALL_MODELS.items()
        for name in small.changes
    ],
)


@each_family
@pytest.mark.backend_independent
def test_every_argument_has_a_change_and_comes_back(small, tmp_path):
    names = set(parameters_of(small.backbone)) - {"dtype"}
    assert names == set(small.changes)
    for name, parameter in parameters_of(small.backbone).items():
        if name != "dtype":
            assert small.changes[name] != small.arguments.get(name, parameter.default)
    changes = dict(small.changes)
    model = small.make(**changes)
    config = model.backbone.get_config()
    assert small.backbone.from_config(config).get_config() == config
    model.save_to_preset(tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in changes.items()}
    assert {name: kept[name] for name in given} == given
    loaded = SpikingClassifier.from_preset(tmp_path)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours.value), to_numpy(theirs.value))


@each_change
@pytest.mark.backend_independent
def test_every_argument_has_an_effect(small, name):
    along = small.along.get(name, {})
    first = small.make(**along)
    second = small.make(**along, **{name: small.changes[name]})
    shapes = [
        [model.input_shape, *(tuple(w.shape) for w in model.weights)]
        for model in (first, second)
    ]
    features = [m.backbone.output["stage1"].shape for m in (first, second)]
    if shapes[0] != shapes[1] or features[0] != features[1]:
        return
    if name == "surrogate":
        surrogates = {
            layer.surrogate
            for layer in second._flatten_layers()
            if isinstance(layer, IF)
        }
        assert surrogates == {small.changes[name]}
        return
    settle(first)
    for norm in first._flatten_layers():
        if isinstance(norm, BatchNorm):
            norm.beta.assign(np.ones(norm.beta.shape))  # For attention to fire.
    second.set_weights(first.get_weights())
    training = name == "drop_path"
    x = random_inputs(first, batch=16 if training else 4)
    different = to_numpy(first(x, training=training)) - to_numpy(
        second(x, training=training)
    )
    assert np.abs(different).max() > 1e-3


@pytest.mark.parametrize("name", SMALLS)
def test_mixed_precision_keeps_logits_in_32_bits(name, shared_golden):
    golden = Golden(name, shared_golden)
    model = golden.model(dtype="mixed_bfloat16")
    logits = compiled(model)(golden.inputs.astype("float32"))
    assert logits.dtype == "float32"
    *_, features = model.backbone.output.values()
    assert features.dtype == "bfloat16"
    # 16 bits round potentials, so some spikes differ.
    error = np.abs(logits - golden.arrays["eval/logits"])
    assert np.isfinite(logits).all() and 0 < error.max() < 0.5


@each_family
@pytest.mark.backend_independent
def test_operations_and_rates_are_those_of_all_parts(small):
    model = settle(small.make())
    assert counts(model)["inference"]["macs_per_image"] == small.macs
    kernels = [w for w in model.backbone.weights if w.path.endswith("conv/kernel")]
    assert sorted(c.weights for c in convolutions(model)) == sorted(
        int(np.prod(kernel.shape)) for kernel in kernels
    )
    rates = firing_rates(model, random_inputs(model))
    neurons = [layer for layer in model._flatten_layers() if isinstance(layer, IF)]
    assert len(rates) == len(neurons)
    assert any(rate.any() for rate in rates.values())


@each_family
@pytest.mark.backend_independent
def test_a_mesh_splits_variables_by_each_pattern_of_the_layout(small):
    mesh = keras.distribution.DeviceMesh((1, 1), ("batch", "model"), ["cpu:0"])
    variables = small.make().weights
    for pattern, axes in small.backbone.layout.items():
        layouts = layout_map({pattern: axes}, mesh)
        found = [v for v in variables if layouts[v.path] is not None]
        assert {len(v.shape) for v in found} == {len(axes)}, pattern
        assert all(layouts[v.path].axes == axes for v in found)


@each_family
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 20}, "embed_dim must be a multiple of 8. Received: embed_dim"),
        ({"num_heads": 3}, "num_heads must divide the 16 channels. Received: num_h"),
        ({"depth": 0}, "depth must be above 0. Received: depth=0"),
        ({"reduction": 3}, r"one of \[1, 2, 4, 8, 16\]. Received: reduction=3"),
        ({"downsampling": "mean"}, r"one of \['cml', 'spikes'\]. Received: downsam"),
        ({"image_size": (8, 10)}, "multiples of 4. Received: height=8, width=10"),
        ({"depths": (1, 0, 1)}, r"whole number above 0 for each stage.*\(1, 0, 1\)"),
        ({"stem": "dvs"}, r"one of \('imagenet', 'cifar', 'events'\). Received: stem="),
        ({"mixers": "self3"}, "mixers must be of .*Received: mixers=.'self3', 'self3'"),
        ({"mixers": ("self",)}, "for each of the 3 stages. Received: mixers=.'self'"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\). Received: drop_path=1"),
        ({"attention_scale": 0}, "scale must be above 0. Received: scale=0"),
        (
            {"stem_width": 0},
            "in 1 to 8192, or None for no stem. Received: stem_width=0",
        ),
        ({"widths": (8, 0)}, r"widths must be in 1 to 8192. Received: widths=\(8, 0\)"),
        ({"widths": (8,)}, "for each of the 2 stages. Received: widths=.8,"),
        ({"connect": "or"}, r"one of \('add', 'and', 'iand'\). Received: connect='or'"),
    ],
    ids=str,
)
@pytest.mark.backend_independent
def test_bad_arguments_are_refused(small, change, message):
    if not change.keys() <= small.changes.keys():
        pytest.skip("the family has no such argument")
    with pytest.raises(ValueError, match=message):
        small.make(**change)

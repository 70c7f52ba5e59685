"""The door for families: a small one, defined here alone, does what QKFormer does."""

import dataclasses
import json
import re
import sys

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import random_inputs, settle
from toy_family import PRESET, ToyBackbone

from keras_qkformer.analysis.attention import stage_activity, token_masks
from keras_qkformer.analysis.firing_rate import firing_rates
from keras_qkformer.analysis.operations import convolutions, counts, kept_entries
from keras_qkformer.cli.main import main
from keras_qkformer.convert import weight_map
from keras_qkformer.layers import ConvBNLIF
from keras_qkformer.manifest import write_manifest
from keras_qkformer.models import (
    PRESETS,
    QKFormerClassifier,
    SpikingBackbone,
    SpikingClassifier,
    StreamingClassifier,
    count_parameters,
    register_family,
    spiking_input,
)
from keras_qkformer.models.preset import FAMILIES
from keras_qkformer.serving.export import export_saved_model
from keras_qkformer.trained import load_trained
from keras_qkformer.training.distribution import Devices, check_model
from keras_qkformer.training.evaluate import evaluate
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

# To import the module was to register the family.
del FAMILIES["toy"], PRESETS["toy"]


@pytest.fixture(autouse=True, scope="module")
def family():
    """The family is known to the tests of this file alone."""
    register_family("toy", ToyBackbone, presets={"toy": PRESET})
    yield
    del FAMILIES["toy"], PRESETS["toy"]


def make(**overrides):
    return settle(SpikingClassifier.from_preset("toy", **overrides))


def test_it_is_made_by_its_name_and_only_by_a_classifier_of_its_family():
    model = SpikingClassifier.from_preset("toy", time_steps=3)
    assert type(model) is SpikingClassifier
    assert (model.backbone.time_steps, model.output_shape) == (3, (None, 10))
    assert count_parameters(model) == PRESET.parameters
    with pytest.raises(ValueError, match="SpikingClassifier takes those of all"):
        QKFormerClassifier.from_preset("toy")
    assert type(SpikingClassifier.from_preset("qkformer_tiny")) is QKFormerClassifier
    assert SpikingClassifier.presets == PRESETS and model.presets["toy"] is PRESET
    assert {p.family for p in QKFormerClassifier.presets.values()} == {"qkformer"}


@pytest.mark.backend_independent
def test_the_name_of_a_preset_belongs_to_one_family():
    own = {"other": dataclasses.replace(PRESET, family="other")}
    for name, presets, received in (
        ("other", {"toy": own["other"]}, "'toy' of 'toy'"),
        ("toy", own, "'other' of 'other'"),
    ):
        with pytest.raises(ValueError, match=f"not be taken. Received: {received}"):
            register_family(name, ToyBackbone, presets=presets)
        assert PRESETS["toy"] is PRESET and "other" not in {*PRESETS, *FAMILIES}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"at most 1, .* a newer one may read it\. Received: 2"),
        ({"format": "1"}, r"at most 1, .* Received: '1'"),
        ({"model_family": "hers"}, "one of FAMILIES.*Received: 'hers'"),
        ({"model_family": 7}, "Received: 7"),
    ],
    ids=str,
)
def test_folder_of_another_format_or_family_is_refused(tmp_path, change, message):
    config = {"format": 1, "model_family": "toy", "image_size": 8, **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_manifest(tmp_path)
    families = str(sorted(FAMILIES))
    assert "'qkformer'" in families and "'toy'" in families
    message = message.replace("FAMILIES", re.escape(families))
    with pytest.raises(ValueError, match=message):
        SpikingClassifier.from_preset(tmp_path)


@pytest.mark.backend_independent
def test_a_subclass_of_its_backbone_is_of_no_family(tmp_path):
    class MyBackbone(ToyBackbone):
        pass

    model = SpikingClassifier(MyBackbone(8), 10)
    with pytest.raises(ValueError, match=r"must be of a family.*Received: MyBackbone"):
        model.save_to_preset(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"widht": 8}, r"one of \['dropout', .*'width'\]. Received: \['widht'\]"),
        ({"width": "wide"}, "width must be a whole number. Received: width='wide'"),
        ({"width": None}, "width must be a whole number. Received: width=None"),
        ({"static": 1}, "static must be true or false"),
        ({"width": True}, "width must be a whole number. Received: width=True"),
        ({"dropout": float("nan")}, "dropout must be a finite number"),
        ({"num_classes": 2.5}, "num_classes must be a whole number or null"),
        ({"image_size": [8]}, r"a whole number or a list \(2 values, each a whole nu"),
    ],
    ids=str,
)
@pytest.mark.backend_independent
def test_override_that_does_not_fit_its_signature_is_named(override, message):
    with pytest.raises(ValueError, match=message):
        SpikingClassifier.from_preset("toy", **override)


def test_files_give_an_equal_model(tmp_path):
    model = make(dropout=0.1)
    x = random_inputs(model)
    expected = to_numpy(model(x))
    assert np.ptp(expected, axis=0).max() > 1e-3
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    config = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert config == {
        "format": 1,
        "model_family": "toy",
        "image_size": [8, 8],
        "in_channels": 1,
        "static": True,
        "time_steps": 2,
        "width": 8,
        "num_classes": 10,
        "dropout": 0.1,
    }
    for loaded in (
        keras.saving.load_model(tmp_path / "model.keras"),
        SpikingClassifier.from_preset(tmp_path / "preset"),
    ):
        np.testing.assert_allclose(to_numpy(loaded(x)), expected, atol=1e-6)
    other = SpikingClassifier.from_preset(tmp_path / "preset", num_classes=3)
    assert other.output_shape == (None, 3)


@pytest.mark.parametrize("static", [True, False])
def test_it_streams(static):
    model = make(static=static, time_steps=3)
    x = random_inputs(model)
    stream = StreamingClassifier(model)
    state = stream.initial_state(len(x))
    for step in range(3):
        logits, state = stream(x if static else x[:, step], state)
    expected = to_numpy(model(x))
    assert np.ptp(expected, axis=0).max() > 1e-3
    np.testing.assert_allclose(to_numpy(logits), expected, atol=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(keras.layers.Layer):
    """A neuron that remembers, in which no stream can look."""

    def call(self, inputs):
        return keras.ops.cast(keras.ops.cumsum(inputs, 1) >= 2.0, inputs.dtype)


@pytest.mark.backend_independent
def test_a_stream_refuses_neurons_whose_potentials_it_can_not_keep():
    class Own(SpikingBackbone):
        def __init__(self):
            inputs, x, size = spiking_input(8, 1, False, 2)
            x = ConvBNLIF(4, neuron=Doubled(), name="stem")(x)
            arguments = dict(image_size=size, in_channels=1, static=False, time_steps=2)
            super().__init__(inputs, {"stage1": x}, arguments)

    with pytest.raises(ValueError, match="Received: Doubled in stem"):
        StreamingClassifier(SpikingClassifier(Own(), 3))


@pytest.mark.backend_independent
def test_it_is_counted_and_analysed():
    model = make()
    # (entries in, entries out, weights), 8x8 images, two steps, the image seen once:
    # 1 -> 8 channels, query, key, value and projection 8 -> 8, last 8 -> 16.
    expected = [(64, 512, 72), *[(1024, 1024, 64)] * 4, (1024, 2048, 1152)]
    found = convolutions(model)
    assert [(c.inputs, c.outputs, c.weights) for c in found] == expected
    macs = 64 * 72 + 4 * 128 * 64 + 128 * 1152 + 2 * 128 * 2 * 4 * 4 + 160
    assert counts(model)["inference"]["macs_per_image"] == macs
    assert kept_entries(model) == (64 + 512) + 10 * 1024 + (1024 + 2048)
    x = random_inputs(model)
    assert {k: v.shape for k, v in stage_activity(model, x).items()} == {
        "stage1": (4, 2, 8, 8, 16)
    }
    assert token_masks(model, x) == {}
    rates = firing_rates(model, x)
    assert {"stem", "attention/query", "head_neuron"} <= set(rates)
    with pytest.raises(ValueError, match="Checkpoints exist for the families"):
        weight_map(model)
    check_model(Devices(1, 2), model, 1)
    with pytest.raises(ValueError, match=r"Received: num_heads=\[2\], model=4"):
        check_model(Devices(1, 4), model, 1)


@pytest.mark.backend_independent
def test_backbone_that_is_no_chain_is_refused_where_that_matters():
    class Branched(SpikingBackbone):
        def __init__(self):
            inputs, x, size = spiking_input(8, 1, False, 2)
            x = ConvBNLIF(4, name="stem")(x)
            x = keras.ops.add(x, ConvBNLIF(4, name="branch")(x))
            arguments = dict(image_size=size, in_channels=1, static=False, time_steps=2)
            super().__init__(inputs, {"stage1": x}, arguments)

    model = SpikingClassifier(Branched(), 3)
    with pytest.raises(ValueError, match="takes the output of 'branch'"):
        StreamingClassifier(model)
    with pytest.raises(ValueError, match="A backbone must be of a family"):
        model.save_to_preset("nowhere")


def test_a_recipe_trains_it_and_it_is_served(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    recipe = Recipe(
        preset="toy",
        model={"width": 4},
        data=Data(
            name="digits",
            train="train[:64]",
            validation="train[64:96]",
            test="test[:32]",
            batch_size=16,
        ),
        optimizer=Optimizer(epochs=2, learning_rate=1e-2, layer_decay=0.9),
    )
    workdir = tmp_path / "run"
    results = fit(recipe, workdir, verbose=0)
    assert results["history"]["loss"][1] < results["history"]["loss"][0]
    assert evaluate(workdir)["accuracy"] == results["test"]["accuracy"]
    model = load_trained(workdir).model
    assert (type(model.backbone), model.backbone.width) == (ToyBackbone, 4)
    if keras.backend.backend() == "jax":
        return  # The same process exports as on PyTorch.
    import tensorflow as tf

    # On PyTorch a process of its own exports, which imports the module.
    version = export_saved_model(workdir, tmp_path / "served")
    served = tf.saved_model.load(str(version)).signatures["predict_pixels"]
    with np.load(workdir / "examples.npz") as kept:
        images, logits = kept["images"].astype("float32"), kept["logits"]
    answers = served(images=tf.constant(images))["logits"].numpy()
    np.testing.assert_allclose(answers, logits, atol=1e-4)


@pytest.mark.backend_independent
def test_command_imports_the_module_that_the_user_names(tmp_path, monkeypatch, capsys):
    (tmp_path / "recipe.py").write_text(
        f"from {Recipe.__module__} import Data, Optimizer, Recipe\n"
        "data = Data(name='digits', train='a', validation='b', test='c', "
        "batch_size=8)\n"
        "optimizer = Optimizer(epochs=3, learning_rate=1e-3)\n"
        "recipe = Recipe(preset='hers', model={'width': 6}, data=data, "
        "optimizer=optimizer)\n"
    )
    (tmp_path / "her_family.py").write_text(
        "import dataclasses\n"
        "from toy_family import PRESET, ToyBackbone\n"
        f"from {register_family.__module__} import register_family\n"
        "preset = dataclasses.replace(PRESET, family='hers')\n"
        "register_family('hers', ToyBackbone, presets={'hers': preset})\n"
    )
    (tmp_path / "stops.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    command = ["recipes", "show", "recipe.py"]
    # `show` tells what is not there; a command that makes the model refuses it.
    assert main(["fit", "recipe.py"]) == 2
    assert "--import" in capsys.readouterr().err
    for arguments, message in (
        (["--import", "nothing"], "'nothing': ModuleNotFoundError"),
        (["--import", "stops"], "'stops': SystemExit"),
    ):
        assert main([*command, *arguments]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert message in error
    try:
        assert main([*command, "--import", "her_family"]) == 0
        assert "\nmodel.width=6\n" in capsys.readouterr().out
    finally:
        del FAMILIES["hers"], PRESETS["hers"], sys.modules["her_family"]
    assert str(tmp_path) not in sys.path

"""Files written before there were families: they load and give the same answers."""

import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import compiled

from keras_qkformer.manifest import IntegrityWarning, write_manifest
from keras_qkformer.models import (
    QKFormerBackbone,
    QKFormerClassifier,
    SpikingClassifier,
    StreamingClassifier,
)
from keras_qkformer.models.preset import FAMILIES
from keras_qkformer.training.checkpoint import Checkpoint

# tests/golden/make_before.py and make_before_names.py make them.
FOLDER = Path(__file__).parents[1] / "golden" / "before"
PLIF = FOLDER / "plif"


@pytest.fixture(scope="module")
def answers():
    with np.load(FOLDER / "answers.npz") as file:
        return dict(file)


@pytest.fixture
def preset(tmp_path):
    shutil.unpack_archive(FOLDER / "preset.zip", tmp_path / "preset")
    return tmp_path / "preset"


def check(found, expected):
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cls", [SpikingClassifier, QKFormerClassifier])
def test_preset_folder(preset, answers, cls):
    assert "model_family" not in json.loads((preset / "config.json").read_text())
    with pytest.warns(IntegrityWarning, match=r"config\.json and model\.weights\.h5"):
        model = cls.from_preset(preset)
    assert type(model) is QKFormerClassifier
    check(compiled(model)(answers["images"]), answers["classifier"])


def test_classifier(answers):
    model = keras.saving.load_model(FOLDER / "classifier.keras")
    assert type(model) is QKFormerClassifier
    assert (model.num_classes, model.dropout) == (3, 0.1)
    check(compiled(model)(answers["images"]), answers["classifier"])


def test_backbone(answers):
    backbone = keras.saving.load_model(FOLDER / "backbone.keras")
    assert type(backbone) is QKFormerBackbone
    assert backbone.residual == "pre_activation"
    check(compiled(backbone)(answers["images"])["stage2"], answers["backbone"])


def test_single_layers(answers):
    model = keras.saving.load_model(FOLDER / "layers.keras")
    check(compiled(model)(answers["frames"]), answers["layers"])


def check_stream(path, answers):
    """The model of a step of a stream, which gives the answers, and its stream."""
    model = keras.saving.load_model(path)
    (stream,) = (x for x in model.layers if isinstance(x, StreamingClassifier))
    frames = answers["frames"]
    state = {k: to_numpy(v) for k, v in stream.initial_state(3).items()}
    for frame in (frames[:, 0], frames[:, 1]):
        logits, state = model.predict_on_batch([frame, state])
    check(logits, answers["streaming"])
    return model, stream


def test_stream(answers):
    check_stream(FOLDER / "streaming.keras", answers)


@pytest.fixture(scope="module")
def learnt():
    """Answers of models whose neurons have weights, and were renamed since."""
    with np.load(PLIF / "answers.npz") as file:
        return dict(file)


def test_preset_folder_with_learnt_neurons(learnt, tmp_path):
    shutil.unpack_archive(PLIF / "preset.zip", tmp_path)
    with pytest.warns(IntegrityWarning, match=r"no manifest\.json"):
        model = SpikingClassifier.from_preset(tmp_path)
    check(compiled(model)(learnt["frames"]), learnt["preset"])


def test_checkpoint_with_learnt_neurons_resumes(learnt, tmp_path):
    shutil.unpack_archive(PLIF / "checkpoint.zip", tmp_path / "run")
    shutil.unpack_archive(PLIF / "preset.zip", tmp_path / "preset")
    with pytest.warns(IntegrityWarning, match=r"no manifest\.json"):
        model = SpikingClassifier.from_preset(tmp_path / "preset")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    with pytest.warns(IntegrityWarning, match=r"state\.json was written by an older"):
        Checkpoint(tmp_path / "run", {}).restore(model)
    check(compiled(model)(learnt["frames"]), learnt["checkpoint"])
    if keras.backend.backend() != "jax":  # It would compile for five seconds.
        model.train_on_batch(learnt["frames"], np.arange(3))
        check(model(learnt["frames"]), learnt["resumed"])


def test_single_layers_with_learnt_neurons(learnt):
    with pytest.warns(UserWarning, match="membrane_state='batch' reproduces"):
        model = keras.saving.load_model(PLIF / "layers.keras")
    check(compiled(model)(learnt["frames"]), learnt["layers"])


def test_stream_with_learnt_neurons(learnt, tmp_path):
    model, stream = check_stream(PLIF / "streaming.keras", learnt)
    assert "stage1_block1_attention_attend" in stream.state_spec
    model.save(tmp_path / "again.keras")
    check_stream(tmp_path / "again.keras", learnt)


@pytest.mark.backend_independent
def test_every_file_is_of_before():
    for path in FOLDER.glob("*.keras"):
        with zipfile.ZipFile(path) as file:
            config = io.TextIOWrapper(file.open("config.json")).read()
        assert "SpikingClassifier" not in config
        assert "StreamingClassifier" not in config


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "at most 1, which this version .* Received: 2"),
        ({"format": None}, "at most 1"),
        ({"model_family": "spikmore"}, "one of FAMILIES; .* 'spikmore'"),
        ({"model_family": ["qkformer"]}, r"Received: \['qkformer'\]"),
        ({"embed_dim": "big"}, "embed_dim must be a whole number. Received: .*'big'"),
        ({"mlp_ratio": None}, "mlp_ratio must be a finite number. Received: .*=None"),
        ({"depths": [1, 1.5]}, r"depths must be a list \(each a whole number\)"),
        ({"attention": ["self", 3]}, r"attention must be text or a list \(each text\)"),
        ({"image_size": True}, "image_size must be a whole number or a list"),
        ({"format": True}, "at most 1"),
        ({"embed_dim": 10**9}, "embed_dim must not exceed 1,000,000"),
        ({"depths": [1, 10**400]}, "depths must not exceed 1,000,000"),
        ({"tau": float("nan")}, "tau must be a finite number"),
    ],
    ids=str,
)
def test_folder_of_another_time_or_family_is_an_error(preset, change, message):
    path = preset / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    write_manifest(preset)
    message = message.replace("FAMILIES", re.escape(str(sorted(FAMILIES))))
    with pytest.raises(ValueError, match=message):
        SpikingClassifier.from_preset(preset)


@pytest.mark.backend_independent
def test_config_must_be_an_object_with_what_is_needed(preset):
    for text, message in (
        ("[]", "must hold a JSON object"),
        ("null", "must hold a JSON object"),
        ("[" * 10_000, "config.json must be a JSON file"),
        ("{}", "image_size must"),
    ):
        (preset / "config.json").write_text(text)
        write_manifest(preset)
        with pytest.raises(ValueError, match=message):
            SpikingClassifier.from_preset(preset)

"""The classifier: head, presets on disk, independence of the batch."""

import datetime
import errno
import hashlib
import json
import os
import shutil

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, compiled, random_inputs, settle
from numpy_layers import lif

import keras_qkformer
from keras_qkformer.layers import BatchNorm
from keras_qkformer.manifest import write_manifest
from keras_qkformer.models import (
    QKFormerBackbone,
    QKFormerClassifier,
    count_parameters,
)
from keras_qkformer.presets.folders import WEIGHTS_FILES, check_preset, weights_file
from keras_qkformer.trained import load_trained


def make_model(num_classes=5, dropout=0.0, **changes):
    backbone = QKFormerBackbone(**{**TINY, **changes})
    return settle(QKFormerClassifier(backbone, num_classes, dropout))


def test_head_is_the_mean_over_tokens_and_time_and_a_linear_map():
    model = make_model()
    x = random_inputs(model)
    features = to_numpy(model.backbone(x)["stage2"]).mean((1, 2, 3))
    kernel, bias = model.get_layer("head").get_weights()
    np.testing.assert_allclose(to_numpy(model(x)), features @ kernel + bias, atol=1e-5)
    bare = QKFormerClassifier(model.backbone)
    np.testing.assert_allclose(to_numpy(bare(x)), features, atol=1e-6)


@pytest.mark.backend_independent
def test_head_neuron_has_the_time_constant_and_surrogate_of_all_others():
    model = make_model(residual="pre_activation", tau=3.0, surrogate="atan")
    x = random_inputs(model)
    potentials = to_numpy(model.backbone(x)["stage2"]).mean((2, 3))
    spikes = lif(potentials, tau=3.0)
    assert 0 < spikes.mean() < lif(potentials, tau=2.0).mean()
    kernel, bias = model.get_layer("head").get_weights()
    expected = spikes.mean(1) @ kernel + bias
    np.testing.assert_allclose(to_numpy(model(x)), expected, atol=1e-5)
    neuron = model.get_layer("head_neuron")
    assert (neuron.tau, neuron.surrogate) == (3.0, "atan")


def test_calibration_takes_the_statistics_of_a_batch():
    model = QKFormerClassifier(QKFormerBackbone(**TINY), 5)
    inputs = 3.0 + random_inputs(model)
    weights = [to_numpy(v) for v in model.trainable_variables]
    model.calibrate(inputs)
    calibrated = to_numpy(model(inputs, training=False))
    assert np.ptp(calibrated, 0).min() > 1e-3
    for old, new in zip(weights, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(to_numpy(new), old)
    of_batch = to_numpy(model(inputs, training=True))
    np.testing.assert_allclose(calibrated, of_batch, atol=1e-4)
    norms = [x for x in model._flatten_layers() if isinstance(x, BatchNorm)]
    assert {norm.momentum for norm in norms} == {0.9}


@pytest.mark.backend_independent
def test_logits_are_the_mean_of_those_of_the_steps():
    model = make_model(dropout=0.5, residual="pre_activation")  # With a head neuron.
    x = random_inputs(model)
    steps = to_numpy(model.logits_of_steps(x))
    assert steps.shape == (4, 3, 5)
    np.testing.assert_allclose(steps.mean(1), to_numpy(model(x)), atol=1e-5)
    dropped = [to_numpy(model.logits_of_steps(x, training=True)) for _ in range(2)]
    assert np.abs(dropped[0] - dropped[1]).max() > 0
    model.trains_each_step = True
    assert to_numpy(model(x)).shape == (4, 5)
    assert to_numpy(model(x, training=True)).shape == (4, 3, 5)
    bare = QKFormerClassifier(model.backbone)
    assert to_numpy(bare.logits_of_steps(x)).shape == (4, 3, 16)


def test_dropout_acts_in_training_only():
    model = make_model(dropout=0.5)
    x = random_inputs(model)
    np.testing.assert_array_equal(to_numpy(model(x)), to_numpy(model(x)))
    dropped = [to_numpy(model(x, training=True)) for _ in range(2)]
    assert np.abs(dropped[0] - dropped[1]).max() > 0


@pytest.mark.parametrize("residual", ["add", "pre_activation"])
def test_prediction_is_the_same_alone_in_any_batch_and_any_order(residual):
    model = make_model(residual=residual)
    x = random_inputs(model, batch=6)
    predict = compiled(model, training=False)
    together = predict(x)
    alone = np.concatenate([predict(row[None]) for row in x])
    order = np.random.default_rng(1).permutation(6)
    shuffled = predict(x[order])
    assert np.ptp(together, axis=0).max() > 1e-3, "the samples do not differ"
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)


def test_batch_state_makes_predictions_depend_on_their_neighbours():
    model = make_model()
    with pytest.warns(UserWarning, match="a defect of the authors' code"):
        linked = QKFormerClassifier(
            QKFormerBackbone(**TINY, membrane_state="batch"), model.num_classes
        )
    linked.set_weights(model.get_weights())
    x = random_inputs(model, batch=6)
    first = to_numpy(linked(x[:1]))
    np.testing.assert_allclose(first, to_numpy(model(x[:1])), atol=1e-5)
    assert np.abs(to_numpy(linked(x))[1:] - to_numpy(model(x))[1:]).max() > 1e-4


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_model_trains_with_fit(policy):
    model = QKFormerClassifier(QKFormerBackbone(**TINY, dtype=policy), 5)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    # TensorFlow traces a step twice if the first trace makes variables.
    model.optimizer.build(model.trainable_variables)
    x, y = random_inputs(model), np.arange(4)
    before = [np.array(w) for w in model.get_weights()]
    loss = model.fit(x, y, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    changed = [
        np.abs(a - b).max() > 0
        for a, b in zip(before, model.get_weights(), strict=True)
    ]
    assert np.mean(changed) > 0.5
    assert keras.backend.standardize_dtype(model(x).dtype) == "float32"


def test_file_gives_an_equal_model(tmp_path):
    model = make_model(dropout=0.1, num_classes=7)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    x = random_inputs(model)
    np.testing.assert_allclose(to_numpy(loaded(x)), to_numpy(model(x)), atol=1e-6)


def test_quantize_says_what_to_do_instead(tmp_path):
    whole = QKFormerClassifier.from_preset("weights/digits", preprocess=True)
    whole.save(tmp_path / "whole.keras")
    loaded = keras.saving.load_model(tmp_path / "whole.keras")
    classifier = make_model()
    message = r"--format openvino --weights int8.*Received: mode='int8'"
    for model in (classifier, classifier.backbone, whole, loaded):
        # Warnings are errors here, and the head stays as it is.
        with pytest.raises(ValueError, match=message):
            model.quantize("int8")
        assert not any(v.dtype == "int8" for v in model.variables)


def test_file_holds_the_preprocessing(tmp_path):
    model = QKFormerClassifier.from_preset("weights/digits")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 31, 47, 1), "uint8")
    inputs = to_numpy(model.preprocessor(pixels))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.preprocessor.get_config() == model.preprocessor.get_config()
    np.testing.assert_array_equal(to_numpy(loaded.preprocessor(pixels)), inputs)
    with pytest.warns(UserWarning, match="was trained on inputs from"):
        loaded.predict(np.full((1, 8, 8, 1), 255.0), verbose=0)
    assert make_model().preprocessor is None


@pytest.mark.backend_independent
def test_a_frozen_backbone_has_as_many_parameters():
    model = QKFormerClassifier(QKFormerBackbone(**TINY, neuron="plif"), 5)
    before = count_parameters(model)
    assert before == sum(np.size(w) for w in model.trainable_variables)
    model.backbone.trainable = False
    assert len(model.trainable_variables) == 2
    assert count_parameters(model) == before


@pytest.mark.backend_independent
def test_a_saved_folder_keeps_the_preprocessing(tmp_path):
    known = {"mean": [0.1, 0.2], "std": [0.5, 0.25], "max_value": 1.0}
    model = QKFormerClassifier(QKFormerBackbone(**TINY), 5, preprocessing=known)
    model.save_to_preset(tmp_path, {"class_names": list("abcde")})
    theirs = QKFormerClassifier.from_preset(tmp_path).preprocessor
    assert theirs.get_config() == model.preprocessor.get_config()
    assert load_trained(tmp_path).preprocessing.mean == (0.1, 0.2)
    own = {"image_size": [8, 12], "mean": [0.0, 0.0], "std": [2.0, 1.0]}
    model.save_to_preset(tmp_path, {"preprocessing": own})
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["preprocessing"] == own


def test_preprocessing_out_of_range_is_refused():
    with pytest.raises(ValueError, match="std be above 0"):
        preprocessing = {"mean": [0.5], "std": [0.0]}
        QKFormerClassifier(QKFormerBackbone(**TINY), 5, preprocessing=preprocessing)


def test_preset_folder_gives_an_equal_model(tmp_path):
    model = make_model()
    model.compile("adam", "mse")
    model.save_to_preset(tmp_path, {"accuracy": 0.5})
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.weights.h5",
        "metadata.json",
        "manifest.json",
        "README.md",
    }
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["accuracy"] == 0.5
    assert metadata["backend"] == keras.backend.backend()
    loaded = QKFormerClassifier.from_preset(tmp_path)
    x = random_inputs(model)
    np.testing.assert_allclose(to_numpy(loaded(x)), to_numpy(model(x)), atol=1e-6)


CONFIG = {
    "image_size": [32, 48],
    "in_channels": 5,
    "static": False,
    "time_steps": 2,
    "family": "dvs",
    "embed_dim": 16,
    "depths": [2, 1],
    "num_heads": [1, 2],
    "mlp_ratio": 3,
    "attention": ["channel", "token"],
    "residual": "pre_activation",
    "neuron": "plif",
    "tau": 3.0,
    "surrogate": "atan",
    "deformed_shortcut": False,
    "drop_path": 0.1,
    "membrane_state": "sample",
    "num_classes": 7,
    "dropout": 0.25,
}
"""Nothing at its default, but for what the pre-activation residual does not have."""


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "changes", [{}, {"residual": "add", "membrane_state": "batch"}], ids=str
)
@pytest.mark.filterwarnings("ignore:.*a defect of the authors' code")
def test_preset_folder_holds_every_argument_and_where_it_comes_from(tmp_path, changes):
    config = {**CONFIG, **changes}
    own = {key: config[key] for key in ("num_classes", "dropout")}
    rest = {key: value for key, value in config.items() if key not in own}
    model = QKFormerClassifier(QKFormerBackbone(**rest), **own)
    model.save_to_preset(tmp_path, {"preset": "mine", "accuracy": 0.5})
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == {"format": 1, "model_family": "qkformer", **config}
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    age = datetime.date.today() - datetime.date.fromisoformat(metadata.pop("date"))
    assert 0 <= age.days <= 1
    assert metadata == {
        "keras_qkformer": keras_qkformer.__version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "parameters": sum(np.size(w) for w in model.trainable_variables),
        "manifest": True,
        "preset": "mine",
        "accuracy": 0.5,
    }
    manifest = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert {name: entry["sha256"] for name, entry in manifest.items()} == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("config.json", "metadata.json", "model.weights.h5")
    }
    copy = QKFormerClassifier.from_preset(tmp_path)
    assert (copy.dropout, copy.get_layer("dropout").rate) == (0.25, 0.25)
    theirs = copy.backbone.get_config()
    assert {**theirs, "name": None} == {**model.backbone.get_config(), "name": None}


def kills(monkeypatch, folder, states):
    """Copy a folder before each step on the disk: what a kill would leave there."""
    copying = []

    def before(real):
        def step(*arguments, **options):
            if not copying:
                copying.append(1)
                shutil.copytree(folder, states / str(len([*states.iterdir()])))
                copying.pop()
            return real(*arguments, **options)

        return step

    for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync"):
        monkeypatch.setattr(os, name, before(getattr(os, name)))


@pytest.mark.backend_independent
@pytest.mark.parametrize("formats", [("h5", "h5"), ("h5", "safetensors")], ids=str)
def test_a_kill_at_any_step_of_saving_leaves_the_old_or_the_new_model(
    tmp_path, monkeypatch, formats
):
    folder, states = tmp_path / "folder", tmp_path / "states"
    states.mkdir()
    old, new = make_model(), make_model(tau=3.0)
    old.save_to_preset(folder, {"note": "old"}, formats[0])
    (folder / "notes.txt").write_text("mine")
    write_manifest(folder)
    with monkeypatch.context() as patch:
        kills(patch, folder, states)
        new.save_to_preset(folder, {"note": "new"}, formats[1])
    weights = {
        "old": (WEIGHTS_FILES[formats[0]], old.get_weights()),
        "new": (WEIGHTS_FILES[formats[1]], new.get_weights()),
    }
    found = {}
    for number in range(len([*states.iterdir()])):
        state = states / str(number)
        check_preset(state)  # Its first load moves what was finished.
        note = json.loads((state / "metadata.json").read_text())["note"]
        found.setdefault(note, []).append(state)
        assert weights_file(state).name == weights[note][0]
        assert (state / "notes.txt").read_text() == "mine"
    assert [*found] == ["old", "new"]
    assert min(map(len, found.values())) > 5
    for note, state in (("old", found["old"][-1]), ("new", found["new"][0])):
        loaded = QKFormerClassifier.from_preset(state).get_weights()
        for ours, theirs in zip(loaded, weights[note][1], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert len([*state.glob("partial-*")]) == 1
        new.save_to_preset(state, weights_format=formats[1])
        assert {p.name for p in state.iterdir()} == {p.name for p in folder.iterdir()}


@pytest.mark.backend_independent
def test_a_save_that_can_not_be_finished_says_what_to_do(tmp_path, monkeypatch):
    """As on a disk that can only be read."""
    make_model().save_to_preset(tmp_path)
    (tmp_path / ".new").mkdir()
    (tmp_path / "metadata.json").rename(tmp_path / ".new" / "metadata.json")

    def replace(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("keras_qkformer.presets.folders.os.replace", replace)
        rule = (
            r"was interrupted must be writable once, .*'\.new'.*Read-only file system"
        )
        with pytest.raises(OSError, match=rule):
            QKFormerClassifier.from_preset(tmp_path)
    QKFormerClassifier.from_preset(tmp_path)
    assert not (tmp_path / ".new").exists()


@pytest.mark.backend_independent
@pytest.mark.skipif(os.name == "nt", reason="links as on POSIX")
def test_a_link_in_a_folder_moves_no_files_of_others(tmp_path):
    make_model().save_to_preset(tmp_path / "folder")
    make_model().save_to_preset(tmp_path / "other")
    (tmp_path / "folder" / ".new").symlink_to(tmp_path / "other")
    QKFormerClassifier.from_preset(tmp_path / "folder")
    QKFormerClassifier.from_preset(tmp_path / "other")


def test_classifier_of_a_user_is_of_the_family(tmp_path):
    class MyClassifier(QKFormerClassifier):
        pass

    model = MyClassifier(QKFormerBackbone(**TINY), 5)
    model.save_to_preset(tmp_path)
    assert type(MyClassifier.from_preset(tmp_path)) is QKFormerClassifier


def test_overrides_keep_the_weights_of_a_preset_folder(tmp_path):
    model = make_model(residual="pre_activation", neuron="plif")
    model.get_layer("head_neuron").set_weights([np.array(0.5)])
    model.save_to_preset(tmp_path)
    wider = QKFormerClassifier.from_preset(tmp_path, image_size=16, time_steps=5)
    assert wider.input_shape == (None, 16, 16, 2)
    for ours, theirs in zip(wider.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = QKFormerClassifier.from_preset(tmp_path, num_classes=3)
    assert other.output_shape == (None, 3)
    np.testing.assert_array_equal(
        other.backbone.get_weights()[0], model.backbone.get_weights()[0]
    )


@pytest.mark.backend_independent
def test_an_override_may_leave_the_neuron_before_the_head_out(tmp_path):
    make_model(residual="pre_activation").save_to_preset(tmp_path)
    added = QKFormerClassifier.from_preset(tmp_path, residual="add")
    assert "head_neuron" not in {layer.name for layer in added.layers}


def test_override_that_the_weights_do_not_fit_is_refused(tmp_path):
    make_model().save_to_preset(tmp_path)
    with pytest.raises(ValueError, match="must fit the model with the overrides"):
        QKFormerClassifier.from_preset(tmp_path, embed_dim=32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "A preset must be one of"),
        (lambda f: (f / "config.json").write_text("{"), "config.json must be a JSON"),
        (lambda f: (f / "config.json").write_text('{"size": 3}'), r"\['size'\]"),
        (lambda f: (f / "model.weights.h5").unlink(), "The weights must fit"),
        (lambda f: (f / "model.weights.h5").write_bytes(b"x"), "The weights must fit"),
    ],
)
def test_damaged_preset_folder_is_an_error(tmp_path, damage, message):
    make_model().save_to_preset(tmp_path)
    damage(tmp_path)
    if (tmp_path / "config.json").exists():
        with pytest.raises(ValueError, match=r"(size|SHA-256) of (config|model)\."):
            QKFormerClassifier.from_preset(tmp_path)
        write_manifest(tmp_path)  # What was damaged before that is found too.
    with pytest.raises(ValueError, match=message):
        QKFormerClassifier.from_preset(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_classes": 0}, "num_classes=0"), ({"dropout": 1.0}, "dropout=1.0")],
)
def test_wrong_argument_says_the_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        QKFormerClassifier(QKFormerBackbone(**TINY), **arguments)

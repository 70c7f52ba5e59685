"""The classifier: head, presets on disk, independence of the batch."""

import json

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import TINY, random_inputs, settle

from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier


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
    together = to_numpy(model(x, training=False))
    alone = np.concatenate([to_numpy(model(row[None], training=False)) for row in x])
    order = np.random.default_rng(1).permutation(6)
    shuffled = to_numpy(model(x[order], training=False))
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


def test_preset_folder_gives_an_equal_model(tmp_path):
    model = make_model()
    model.compile("adam", "mse")
    model.save_to_preset(tmp_path, {"accuracy": 0.5})
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.weights.h5",
        "metadata.json",
    }
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["accuracy"] == 0.5
    assert metadata["backend"] == keras.backend.backend()
    loaded = QKFormerClassifier.from_preset(tmp_path)
    x = random_inputs(model)
    np.testing.assert_allclose(to_numpy(loaded(x)), to_numpy(model(x)), atol=1e-6)


def test_overrides_keep_the_weights_of_a_preset_folder(tmp_path):
    model = make_model()
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
    with pytest.raises(ValueError, match=message):
        QKFormerClassifier.from_preset(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_classes": 0}, "num_classes=0"), ({"dropout": 1.0}, "dropout=1.0")],
)
def test_wrong_argument_says_the_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        QKFormerClassifier(QKFormerBackbone(**TINY), **arguments)

"""Our models against the authors' code, on golden files that it made in float64."""

import keras
import numpy as np
import pytest
from conftest import SHARED
from golden_models import LARGE, ONCE, QKFORMER, SEWS, SMALLS, Golden, with_features
from model_harness import OPTIMIZED, compiled, training_step

from keras_qkformer.convert import weight_map
from keras_qkformer.layers import BatchNorm

WITH_BATCH_STATE = QKFORMER[:-1]  # MS-QKFormer's code has none.


@pytest.fixture
def golden(request, shared_golden):
    return Golden(request.param, shared_golden)


# A small file is part of a large one, and says no more where that is at hand.
AT_HAND = LARGE if (SHARED / "golden").is_dir() else (*SMALLS, *LARGE)
each = pytest.mark.parametrize("golden", AT_HAND, indirect=True)
once = pytest.mark.parametrize("golden", ONCE, indirect=True)


@each
def test_features_and_logits_are_those_of_the_authors(golden, float64):
    model = golden.model()
    has_potentials = model.backbone.has_potentials
    predict = compiled(with_features(golden, model), compiler_options=OPTIMIZED)
    outputs = predict(golden.inputs)
    logits = outputs.pop("logits")
    np.testing.assert_allclose(logits, golden.arrays["eval/logits"], rtol=0, atol=1e-9)
    expected = golden.features()
    assert outputs.keys() == expected.keys()
    for name, feature in expected.items():
        if has_potentials:
            # Potentials, which the file has in float32; those of the relatives are
            # larger than 1.
            rtol = 0 if golden.name in QKFORMER else 1e-6
            np.testing.assert_allclose(outputs[name], feature, rtol=rtol, atol=2e-6)
        else:
            np.testing.assert_array_equal(outputs[name], feature, err_msg=name)
    # In another order, and beside copies of itself.
    for order in (np.roll(np.arange(len(logits)), 1), [0] * len(logits)):
        np.testing.assert_allclose(
            predict(golden.inputs[order])["logits"],
            golden.arrays["eval/logits"][order],
            rtol=0,
            atol=1e-9,
        )


@pytest.mark.parametrize("golden", ["sdt_plif"], indirect=True)
def test_logits_of_steps_are_those_of_the_authors(golden, float64):
    model = golden.model()
    steps = keras.Model(model.input, model.logits_of_steps(model.input))
    expected = golden.arrays["eval/logits_per_step"].swapaxes(0, 1)
    logits = compiled(steps)(golden.inputs)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)


@once
def test_logits_are_the_same_alone(golden, float64):
    predict = compiled(golden.model())
    alone = np.concatenate([predict(x[None]) for x in golden.inputs])
    np.testing.assert_allclose(alone, golden.arrays["eval/logits"], rtol=0, atol=1e-9)


@pytest.mark.backend_independent
@pytest.mark.parametrize("golden", SEWS, indirect=True)
@pytest.mark.parametrize("connect", ["AND", "IAND"])
def test_other_connections_give_the_logits_of_the_authors(golden, connect, float64):
    logits = compiled(golden.model(connect=connect.lower()))(golden.inputs)
    expected = golden.arrays[f"eval/logits_{connect}"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)
    assert np.abs(expected - golden.arrays["eval/logits"]).max() > 1e-3


@pytest.mark.backend_independent
@pytest.mark.parametrize("golden", SEWS[1:], indirect=True)
def test_sizes_that_strides_do_not_divide_give_the_logits_of_the_authors(
    golden, float64
):
    x = np.moveaxis(golden.arrays["x_wide"], -3, -1).astype("float64")
    assert x.shape[1:3] == (40, 56)  # Then 10, 5, 3, 2 rows and 14, 7, 4, 2 columns.
    logits = compiled(golden.model(image_size=x.shape[1:3]))(x)
    expected = golden.arrays["eval_wide/logits"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("golden", WITH_BATCH_STATE, indirect=True)
def test_batch_state_gives_the_logits_of_the_authors_batch(golden, float64):
    logits = compiled(_batch_state_model(golden))(golden.inputs)
    expected = golden.arrays["eval/logits_batch_state"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)
    apart = np.abs(expected - golden.arrays["eval/logits"]).max()
    assert apart > 1e-3, "the file does not show the difference"


@each
def test_training_step_is_that_of_the_authors(golden, float64):
    # QKFormer's code gives the batch its state; others' steps are of the whole batch.
    mode = "train_batch" if golden.group("train_batch/") else "train_single"
    x = golden.inputs if mode == "train_batch" else golden.inputs[:1]
    _check_training_step(golden, golden.model(), x, mode)


@pytest.mark.parametrize("golden", WITH_BATCH_STATE, indirect=True)
def test_training_step_with_batch_state_is_that_of_the_authors(golden, float64):
    model = _batch_state_model(golden)
    _check_training_step(golden, model, golden.inputs, "train_batch_state")


def _batch_state_model(golden):
    with pytest.warns(UserWarning, match="membrane_state='batch'"):
        return golden.model(membrane_state="batch")


def _check_training_step(golden, model, x, mode):
    expected = golden.group(f"{mode}/")
    loss, logits, grads = training_step(model, x, expected["labels"])
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss, expected["loss"], rtol=0, atol=1e-9)
    entries = weight_map(model)
    _check_gradients(golden, model, mode, entries, grads)
    _check_statistics(golden, model, mode, entries, len(x))


def _check_gradients(golden, model, mode, entries, grads):
    expected = golden.group(f"{mode}/grad/")
    ours = {
        id(variable): grad
        for variable, grad in zip(model.trainable_variables, grads, strict=True)
    }
    trainable = {e.name: e for e in entries if id(e.variable) in ours}
    assert trainable.keys() == expected.keys() or golden.name in SMALLS
    for name, array in expected.items():
        grad = ours[id(trainable[name].variable)]
        largest = np.abs(array).max()
        if name.endswith(("_conv.bias", "_linear.bias")):
            # BatchNorm takes the mean away again, so a bias before it has no gradient.
            assert largest < 1e-9
        bound = 1e-6 * largest if largest > 1e-9 else 1e-9
        np.testing.assert_allclose(
            grad, trainable[name].to_ours(array), rtol=0, atol=bound, err_msg=name
        )


def _check_statistics(golden, model, mode, entries, batch):
    expected = {
        name: array
        for name, array in golden.group(f"{mode}/after/").items()
        if ".running_" in name
    }
    counts = _values_per_channel(model, golden.config["time_steps"], batch)
    moving = {e.name: e.variable for e in entries if ".running_" in e.name}
    assert moving.keys() == expected.keys() or golden.name in SMALLS
    for name, after in expected.items():
        if name.endswith("running_var"):
            # PyTorch averages n / (n - 1) times the variance that we average.
            n = counts[id(moving[name])]
            kept = 0.9 * golden.weights[name].astype("float64")
            after = kept + (after - kept) * (n - 1) / n
        ours = keras.ops.convert_to_numpy(moving[name])
        np.testing.assert_allclose(ours, after, rtol=0, atol=1e-9, err_msg=name)


def _values_per_channel(model, steps, batch):
    """How many values every moving variance stands for, by the variable's id.

    Also where we see a static image once, the authors see it at every time step; only
    those of SEW ResNet do as we do.
    """
    counts = {}
    for layer in model._flatten_layers():
        if isinstance(layer, BatchNorm):
            _, height, width, _ = layer.get_build_config()["input_shape"]
            once = layer.path.endswith("/stem/norm") or layer.path == "stem/norm"
            frames = batch if once else steps * batch
            counts[id(layer.moving_variance)] = frames * height * width
    return counts


@once
def test_float32_flips_few_spikes(golden):
    """Measured on a CPU with each backend: all spikes equal, logits within 4e-7.

    The bounds leave room for machines whose rounding flips a spike where a potential
    lies at the threshold; the closest in these files is 1e-7 away from it.
    """
    outputs = compiled(with_features(golden, golden.model()))(
        golden.inputs.astype("float32")
    )
    error = np.abs(outputs.pop("logits") - golden.arrays["eval/logits"]).max()
    for name, feature in golden.features().items():
        assert np.mean(np.abs(outputs[name] - feature) < 1e-3) >= 0.999, name
    assert error <= 0.02

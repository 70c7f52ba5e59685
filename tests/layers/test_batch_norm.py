"""BatchNorm: PyTorch's constants, moving statistics, and no float32 on the way."""

import keras
import numpy as np
import pytest
from harness import check_layer, gradients, to_numpy
from keras import ops

from keras_qkformer.layers import BatchNorm, ConvBNLIF


def test_batch_norm_is_a_layer():
    kwargs = {"epsilon": 1e-3, "momentum": 0.8}
    check_layer(BatchNorm, kwargs, (4, 3, 2, 5), (4, 3, 2, 5), 4 * 5)


def test_constants_are_those_of_pytorch():
    layer = BatchNorm()
    assert (layer.epsilon, layer.momentum) == (1e-5, 0.9)


@pytest.mark.backend_independent
@pytest.mark.parametrize("option", [{"axis": 1}, {"scale": False}])
def test_options_without_effect_are_refused(option):
    with pytest.raises(TypeError, match=next(iter(option))):
        BatchNorm(**option)


def test_training_uses_the_batch_and_moves_the_statistics():
    layer = BatchNorm(epsilon=1e-12)
    x = np.array([[0.0], [4.0]], "float32")  # mean 2, biased variance 4
    np.testing.assert_allclose(
        to_numpy(layer(x, training=True)), [[-1.0], [1.0]], rtol=1e-6
    )
    np.testing.assert_allclose(to_numpy(layer.moving_mean.value), [0.2], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.moving_variance.value), [1.3], rtol=1e-6)


def test_inference_uses_the_moving_statistics_and_leaves_them():
    layer = BatchNorm(epsilon=1.0)
    layer.build((None, 1))
    for weight, value in (
        (layer.moving_mean, 2.0),
        (layer.moving_variance, 3.0),
        (layer.gamma, 5.0),
        (layer.beta, 7.0),
    ):
        weight.assign([value])
    # (4 - 2) / sqrt(3 + 1) * 5 + 7
    assert to_numpy(layer(np.float32([[4.0]]))).tolist() == [[12.0]]
    assert to_numpy(layer.moving_mean.value).tolist() == [2.0]


def test_a_frozen_layer_runs_in_inference():
    layer = BatchNorm(trainable=False)
    x = np.array([[0.0], [4.0]], "float32")
    np.testing.assert_allclose(to_numpy(layer(x, training=True)), x, rtol=1e-4)
    assert to_numpy(layer.moving_mean.value).tolist() == [0.0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_16_bits_are_computed_with_in_32(dtype):
    layer = BatchNorm(epsilon=1e-3, dtype=dtype)
    x = np.array([[0.0], [4.0]], "float32")  # mean 2, biased variance 4
    y = layer(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    assert to_numpy(ops.cast(y, "float32")).tolist() == [[-1.0], [1.0]]
    np.testing.assert_allclose(float(layer.moving_mean.value[0]), 0.2, rtol=0.01)
    # In a unit with a pooling, channels of a negative gamma are computed with a minus.
    unit = ConvBNLIF(3, max_pool=True, dtype=dtype)
    for training in (True, False):
        assert unit(np.ones((1, 2, 4, 4, 2), "float32"), training=training).shape


@pytest.mark.parametrize("training", [True, False])
def test_float64_is_kept_to_the_last_digit(training, float64):
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(10.0, 1.0, (2, 4, 3, 5))
    layer = BatchNorm()
    layer.build(x.shape)
    gamma, beta, mean, variance = rng.uniform(0.5, 2.0, (4, 5))
    for weight, value in (
        (layer.gamma, gamma),
        (layer.beta, beta),
        (layer.moving_mean, mean),
        (layer.moving_variance, variance),
    ):
        weight.assign(value)

    def loss(x):
        y = layer(x, training=training)
        return ops.sum(y * ops.convert_to_tensor(upstream)), y

    _, y, (grad,) = gradients(loss, x)
    # Gradients on JAX run the layer on tracers, which must not stay in the weights.
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    layer(x, training=training)
    moved = (mean, variance)
    if training:
        now = (x.mean((0, 1)), x.var((0, 1)))
        moved = [0.9 * old + 0.1 * new for old, new in zip(moved, now, strict=True)]
        mean, variance = now
    scale = gamma / np.sqrt(variance + 1e-5)
    wanted_grad = scale * upstream
    if training:
        normal = (x - mean) / np.sqrt(variance + 1e-5)
        wanted_grad -= scale * upstream.mean((0, 1))
        wanted_grad -= scale * normal * (upstream * normal).mean((0, 1))
    np.testing.assert_allclose(
        to_numpy(y), (x - mean) * scale + beta, rtol=0, atol=1e-13
    )
    np.testing.assert_allclose(grad, wanted_grad, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(to_numpy(layer.moving_mean.value), moved[0], rtol=1e-14)
    np.testing.assert_allclose(
        to_numpy(layer.moving_variance.value), moved[1], rtol=1e-13
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_statistics_of_16_bit_inputs_are_float32(policy):
    # The sum of these numbers is too large for float16, and 1016 +- 8 are neighbours in
    # bfloat16.
    x = np.tile([[1008.0], [1024.0]], (128, 1))
    layer = BatchNorm(dtype=policy)
    y = layer(ops.cast(x, layer.compute_dtype), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    np.testing.assert_allclose(to_numpy(ops.cast(y, "float32")), (x - 1016.0) / 8.0)
    np.testing.assert_allclose(to_numpy(layer.moving_mean.value), [101.6], rtol=1e-6)
    np.testing.assert_allclose(
        to_numpy(layer.moving_variance.value), [0.9 + 6.4], rtol=1e-6
    )


def test_a_constant_channel_is_no_trouble():
    # A variance below -epsilon, from rounding, would make NaN of it.
    for value in np.linspace(1.0, 100.0, 20, dtype="float32"):
        y = to_numpy(BatchNorm()(np.full((64, 7, 1), value), training=True))
        assert np.abs(y).max() < 0.1, value

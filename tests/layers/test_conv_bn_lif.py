"""The spiking unit: convolution, normalization, pooling, repetition, neuron."""

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, gradients, to_numpy
from keras import ops

from keras_qkformer.layers import LIF, ConvBNLIF
from keras_qkformer.layers.neurons import NEURONS
from keras_qkformer.ops import lif_sequence
from keras_qkformer.ops.spatial import conv2d, max_pool2d


def test_the_unit_is_a_layer():
    at_default = ("depthwise",)
    kwargs = {
        "filters": 6,
        "kernel_size": 5,
        "strides": 2,
        "max_pool": True,
        "use_bias": True,
        "time_steps": 3,
        "neuron": LIF(tau=3.0, v_threshold=0.5),
    }
    num_weights = 25 * 3 * 6 + 6 + 4 * 6
    shapes = (2, 1, 8, 12, 3), (2, 3, 2, 3, 6)
    check_layer(ConvBNLIF, kwargs, *shapes, num_weights, at_default)


@pytest.mark.parametrize("neuron", [*NEURONS, None])
def test_it_works_with_each_neuron_and_without(neuron):
    num_weights = 9 * 3 * 4 + 4 * 4 + (neuron == "plif")
    kwargs = {"filters": 4, "neuron": neuron}
    check_run(ConvBNLIF, kwargs, (2, 3, 4, 6, 3), (2, 3, 4, 6, 4), num_weights)


def built(input_shape, **kwargs):
    layer = ConvBNLIF(**kwargs)
    layer.build(input_shape)
    plain.randomize(layer)
    return layer


@pytest.mark.parametrize(
    "kwargs",
    [
        {"kernel_size": 3},
        {"kernel_size": 5, "use_bias": True},
        {"kernel_size": 3, "max_pool": True},
        {"kernel_size": 1, "strides": 4},
        {"kernel_size": 1, "max_pool": True},
        {"kernel_size": 3, "strides": 2},
    ],
)
def test_it_equals_numpy(kwargs, float64):
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8, 3))
    layer = built(x.shape, filters=6, **kwargs)
    wanted = plain.conv_bn_lif(x, layer)
    assert 0.1 < wanted.mean() < 0.9
    np.testing.assert_array_equal(to_numpy(layer(x)), wanted)


def test_without_neuron_it_returns_potentials(float64):
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8, 3))
    layer = built(x.shape, filters=6, neuron=None)
    np.testing.assert_allclose(
        to_numpy(layer(x)), plain.conv_bn(x, layer), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("max_pool", [True, False])
def test_a_folded_unit_infers_from_what_was_kept_and_trains_as_before(max_pool):
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8, 3)).astype("float32")
    options = {"filters": 6, "use_bias": True, "max_pool": max_pool, "neuron": None}
    layer, shapes = built(x.shape, **options), []
    before = to_numpy(layer(x))

    def keep(kernel, offset):
        shapes.extend((tuple(kernel.shape), tuple(offset.shape)))
        return lambda: (kernel * 2.0, offset * 2.0)

    layer.fold(keep)
    assert shapes == [(3, 3, 3, 6), (6,)]
    np.testing.assert_array_equal(to_numpy(layer(x)), 2.0 * before)
    trained = to_numpy(layer(x, training=True))
    wanted = to_numpy(built(x.shape, **options)(x, training=True))
    np.testing.assert_array_equal(trained, wanted)
    layer.set_weights([2.0 * weight for weight in layer.get_weights()])
    np.testing.assert_array_equal(to_numpy(layer(x)), 2.0 * before)


def test_the_border_of_max_pooling_never_wins():
    # The unit passes its input on, up to the epsilon of BatchNorm: all negative.
    image = np.array(
        [
            [-9.0, -8.0, -1.0, -9.0],
            [-7.0, -6.0, -5.0, -4.0],
            [-9.0, -9.0, -3.0, -9.0],
            [-9.0, -9.0, -9.0, -2.0],
        ],
        "float32",
    )
    layer = ConvBNLIF(1, kernel_size=1, max_pool=True, neuron=None)
    layer.build((None, 1, 4, 4, 1))
    layer.conv.kernel.assign([[[[1.0]]]])
    y = to_numpy(layer(image.reshape(1, 1, 4, 4, 1)))
    # Windows start one row and column outside: rows and columns (0, 1) and (1, 2, 3).
    np.testing.assert_allclose(y.reshape(2, 2), [[-6.0, -1.0], [-6.0, -2.0]], rtol=1e-4)


@pytest.mark.parametrize("neuron", ["lif", None])
@pytest.mark.parametrize("max_pool", [True, False])
@pytest.mark.parametrize("time_steps", [None, 3])
def test_gradients_are_those_of_the_equations(neuron, max_pool, time_steps, float64):
    """Also where gamma is negative, so that pooling takes the smallest."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 1 if time_steps else 3, 4, 6, 3))
    kernel, beta = rng.normal(size=(3, 3, 3, 4)), rng.uniform(0.5, 1.5, 4)
    gamma = np.array([1.5, -1.5, 0.7, -0.7])
    upstream = rng.normal(size=(2, 3, 2, 3, 4) if max_pool else (2, 3, 4, 6, 4))
    options = {"max_pool": max_pool, "time_steps": time_steps, "neuron": neuron}
    unit = ConvBNLIF(4, **options)
    unit.build(x.shape)

    def ours(x, kernel, gamma, beta):
        others = [variable.value for variable in unit.non_trainable_variables]
        y, others = unit.stateless_call([kernel, gamma, beta], others, x, training=True)
        return ops.sum(ops.multiply(y, upstream)), (y, *others)

    def plainly(x, kernel, gamma, beta):
        y = conv2d(ops.reshape(x, (-1, *x.shape[2:])), kernel)
        count = y.shape[0] * y.shape[1] * y.shape[2]
        mean = ops.sum(y, (0, 1, 2)) / count
        variance = ops.sum(ops.square(y - mean), (0, 1, 2)) / count
        moving = 0.1 * mean, 0.9 + 0.1 * variance
        y = gamma * (y - mean) / ops.sqrt(variance + 1e-5) + beta
        y = max_pool2d(y) if max_pool else y
        y = ops.reshape(y, (2, -1, *y.shape[1:]))
        y = ops.repeat(y, time_steps or 1, axis=1)
        y = y if neuron is None else lif_sequence(y)
        return ops.sum(ops.multiply(y, upstream)), (y, *moving)

    wanted, found = (gradients(f, x, kernel, gamma, beta) for f in (plainly, ours))
    if neuron:
        assert 0.1 < to_numpy(found[1][0]).mean() < 0.9
    for one, other in zip(
        (*found[1], *found[2]), (*wanted[1], *wanted[2]), strict=True
    ):
        one, other = to_numpy(one), to_numpy(other)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("max_pool", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_time_steps_equal_an_image_repeated_by_hand(training, max_pool, float64):
    image = np.random.default_rng(0).normal(size=(3, 1, 4, 6, 3))
    video = np.repeat(image, 4, axis=1)
    options = {"filters": 5, "max_pool": max_pool}
    once = built(image.shape, time_steps=4, **options)
    every = built(video.shape, **options)
    y = to_numpy(once(image, training=training))
    assert 0.1 < y.mean() < 0.9
    np.testing.assert_array_equal(y, to_numpy(every(video, training=training)))
    for a, b in zip(once.weights, every.weights, strict=True):
        np.testing.assert_allclose(to_numpy(a.value), to_numpy(b.value), rtol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "size", "message"),
    [
        ({"strides": 2}, (6, 5), "multiples of 2. Received: height=6, width=5"),
        ({"max_pool": True}, (5, 6), "multiples of 2. Received: height=5, width=6"),
        (
            {"strides": 2, "max_pool": True},
            (8, 6),
            "multiples of 4. Received: height=8, width=6",
        ),
    ],
)
def test_sizes_must_be_multiples_of_the_reduction(kwargs, size, message):
    with pytest.raises(ValueError, match=message):
        ConvBNLIF(4, **kwargs)(np.zeros((1, 2, *size, 3), "float32"))


@pytest.mark.parametrize("strides", [1, 2])
def test_an_even_kernel_is_refused(strides):
    with pytest.raises(ValueError, match=r"must be odd\. Received: kernel_size=2"):
        ConvBNLIF(4, kernel_size=2, strides=strides)


def test_a_depthwise_convolution_has_a_filter_for_each_channel():
    with pytest.raises(ValueError, match=r"as many filters .*filters=4, channels=3"):
        ConvBNLIF(4, depthwise=True).build((1, 2, 4, 4, 3))


def test_only_one_step_can_be_repeated():
    with pytest.raises(ValueError, match=r"one time step.*\(1, 2, 4, 4, 3\).*steps=4"):
        ConvBNLIF(4, time_steps=4)(np.zeros((1, 2, 4, 4, 3), "float32"))


@pytest.mark.parametrize(
    "shape", [(2, 4, 4, 3), (2, None, 4, 4, 3), (2, 1, 4, None, 3)]
)
def test_all_axes_but_the_batch_must_be_there(shape):
    with pytest.raises(ValueError, match=r"\(batch, time, height, width, channels\)"):
        ConvBNLIF(4).build(shape)

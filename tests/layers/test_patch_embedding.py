"""Patch embeddings of each family against NumPy, with and without shortcut."""

import itertools

import numpy as np
import numpy_layers as plain
import pytest
from harness import check_layer, check_run, to_numpy

from keras_qkformer.layers import LIF, PatchEmbedding
from keras_qkformer.layers.neurons import NEURONS

# (family, stem): the units of the main path as (filters of 16, pooling?), where the
# shortcut starts, its stride, and the reduction of the whole. Where the reduction is
# not that of the pools, the first units have stride 2, or the shortcut pools.
PLANS = {
    ("imagenet", True): ([(8, True), (16, True), (16, False)], 1, 2, 4),
    ("cifar", True): ([(8, False), (16, False)], 1, 1, 1),
    ("dvs", True): ([(2, False), (4, True), (8, True), (16, True)], 2, 4, 8),
    ("imagenet", False): ([(16, True), (16, False)], 0, 2, 2),
    ("cifar", False): ([(16, False), (16, True)], 0, 2, 2),
    ("dvs", False): ([(16, False), (16, True)], 0, 2, 2),
    ("max", True): ([(8, False), (16, False), (16, False)], 1, 2, 4),
    ("max", False): ([(16, True), (16, False)], 0, 1, 2),
}
each_plan = pytest.mark.parametrize(("family", "stem"), PLANS)


def num_weights(family, stem, channels, deformed_shortcut=True):
    plan, start, _, _ = PLANS[family, stem]
    widths = [channels, *(filters for filters, _ in plan)]
    main = sum(9 * a * b + 4 * b for a, b in itertools.pairwise(widths))
    return main + (widths[start] * 16 + 4 * 16 if deformed_shortcut else 0)


def test_the_patch_embedding_is_a_layer():
    kwargs = {
        "filters": 16,
        "family": "cifar",
        "stem": True,
        "deformed_shortcut": False,
        "pre_activation": True,
        "time_steps": 3,
        "neuron": LIF(tau=3.0, v_threshold=0.5),
    }
    weights = num_weights("cifar", True, 3, deformed_shortcut=False)
    check_layer(PatchEmbedding, kwargs, (2, 1, 4, 6, 3), (2, 3, 4, 6, 16), weights)


@each_plan
def test_it_works_in_each_family(family, stem):
    reduction = PLANS[family, stem][3]
    kwargs = {"filters": 16, "family": family, "stem": stem}
    check_run(
        PatchEmbedding,
        kwargs,
        (2, 3, 8, 16, 4),
        (2, 3, 8 // reduction, 16 // reduction, 16),
        num_weights(family, stem, 4),
    )


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("stem", [True, False])
def test_pre_activation_works_with_each_neuron(stem, neuron):
    # The stem of cifar has one neuron between its units; a stage has one in front too.
    weights = num_weights("cifar", stem, 4)
    if neuron == "plif":
        weights += 1 if stem else 2
    kwargs = {
        "filters": 16,
        "family": "cifar",
        "stem": stem,
        "pre_activation": True,
        "neuron": neuron,
    }
    output = (2, 3, 4, 8, 16) if stem else (2, 3, 2, 4, 16)
    check_run(PatchEmbedding, kwargs, (2, 3, 4, 8, 4), output, weights)


@pytest.mark.parametrize("pre_activation", [True, False])
@pytest.mark.parametrize("deformed_shortcut", [True, False])
@each_plan
def test_it_equals_numpy(family, stem, deformed_shortcut, pre_activation, float64):
    plan, start, stride, reduction = PLANS[family, stem]
    strided = (family, stem) == ("max", True)
    x = np.random.default_rng(0).normal(0.5, 1.0, (2, 4, 8, 16, 4))
    layer = PatchEmbedding(
        16,
        family,
        stem,
        deformed_shortcut=deformed_shortcut,
        pre_activation=pre_activation,
    )
    layer.build(x.shape)
    plain.randomize(layer)
    assert [(unit.filters, unit.max_pool) for unit in layer.main] == plan
    assert [unit.strides for unit in layer.main[:2]] == [2 if strided else 1] * 2
    assert (layer.shortcut is not None) == deformed_shortcut
    assert layer.reduction == reduction

    def last(x, unit):
        return plain.conv_bn(x, unit) if pre_activation else plain.conv_bn_lif(x, unit)

    y = plain.lif(x) if pre_activation and not stem else x
    for unit in layer.main[:start]:
        y = plain.conv_bn_lif(y, unit)
    branch = y
    for unit in layer.main[start:-1]:
        y = plain.conv_bn_lif(y, unit)
    wanted = last(y, layer.main[-1])
    if deformed_shortcut:
        assert layer.shortcut.strides == stride
        assert layer.shortcut.max_pool == ((family, stem) == ("max", False))
        shortcut = last(branch, layer.shortcut)
        assert shortcut.any()
        wanted = wanted + shortcut
    assert wanted.shape == (2, 4, 8 // reduction, 16 // reduction, 16)
    np.testing.assert_allclose(to_numpy(layer(x)), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("family", ["imagenet", "cifar", "dvs", "max"])
def test_time_steps_equal_an_image_repeated_by_hand(family, training, float64):
    image = np.random.default_rng(0).normal(size=(3, 1, 8, 16, 3))
    video = np.repeat(image, 4, axis=1)
    once = PatchEmbedding(16, family, stem=True, time_steps=4)
    every = PatchEmbedding(16, family, stem=True)
    once.build(image.shape)
    every.build(video.shape)
    plain.randomize(once)
    plain.randomize(every)
    y = to_numpy(once(image, training=training))
    assert y.any()
    np.testing.assert_array_equal(y, to_numpy(every(video, training=training)))
    for a, b in zip(once.weights, every.weights, strict=True):
        np.testing.assert_allclose(to_numpy(a.value), to_numpy(b.value), rtol=1e-12)


@each_plan
def test_sizes_must_be_multiples_of_the_reduction(family, stem):
    reduction = PLANS[family, stem][3]
    layer = PatchEmbedding(16, family, stem)
    good = (1, 2, 3 * reduction, reduction, 4)
    assert layer.compute_output_shape(good) == (1, 2, 3, 1, 16)
    layer.build(good)
    if reduction > 1:
        message = f"multiples of {reduction}. Received: height=8, width=7"
        with pytest.raises(ValueError, match=message):
            PatchEmbedding(16, family, stem).build((1, 2, 8, 7, 4))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"family": "mnist"}, "family must be one of .*family='mnist'"),
        (
            {"family": "dvs", "filters": 12},
            "filters must be a multiple of 8 in family 'dvs'. Received: filters=12",
        ),
        (
            {"family": "cifar", "filters": 15},
            "filters must be a multiple of 2 in family 'cifar'. Received: filters=15",
        ),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding(**{"filters": 16, "stem": True, **kwargs})

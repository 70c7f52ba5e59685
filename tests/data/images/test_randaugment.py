"""RandAugment against Pillow and timm: every operation, and what is drawn."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_qkformer.data.images.randaugment import (
    NOTHING,
    OPERATIONS,
    apply,
    arguments,
    draw,
    randaugment,
)

pytestmark = pytest.mark.backend_independent
GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "image_augment.npz")
FILL = (124, 116, 104)
TIMM = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
CASES = [(level, sign) for level in (3.7, 9.0) for sign in (1, -1)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_gives_the_pixels_of_pillow(name, interpolation):
    number = OPERATIONS.index(name)
    keys = [f"{TIMM[number]}/{level}/{sign}" for level, sign in CASES]
    expected = np.stack([GOLDEN[f"operation/{key}/{interpolation}"] for key in keys])
    values = [float(GOLDEN[f"argument/{key}"]) for key in keys]
    images = np.stack([GOLDEN["image"]] * len(keys))
    result = apply(images, [number] * len(keys), values, FILL, interpolation).numpy()
    differing = abs(result.astype(int) - expected) > 1
    if name in GEOMETRIC:  # A pixel of the edge may be inside here and outside there.
        assert differing.any(-1).mean() < 0.004
    else:
        assert not differing.any()
    assert (expected != images).any()


@pytest.mark.parametrize(("level", "sign"), CASES)
def test_arguments_are_those_of_timm(level, sign):
    result = arguments(tf.constant([level]), tf.constant([float(sign)]))[0].numpy()
    expected = [float(GOLDEN[f"argument/{name}/{level}/{sign}"]) for name in TIMM]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def chi_square(counts, shares):
    expected = np.sum(counts) * np.asarray(shares)
    return np.sum((counts - expected) ** 2 / expected)


def assert_same_distribution(first, second):
    """Kolmogorov-Smirnov with a level of 1e-4."""
    first, second = np.sort(first), np.sort(second)
    values = np.concatenate([first, second])
    distance = abs(
        np.searchsorted(first, values, "right") / len(first)
        - np.searchsorted(second, values, "right") / len(second)
    ).max()
    limit = np.sqrt(-np.log(0.5e-4) / 2 * (1 / len(first) + 1 / len(second)))
    assert distance < limit


def test_every_operation_is_drawn_equally_often_with_replacement():
    # Chi-square with a level of 1e-4: 44.3 for 15 degrees of freedom, 18.4 for 2.
    draws = [draw(30_000, (0, slot))[0].numpy() for slot in range(2)]
    shares = [0.5 / NOTHING] * NOTHING + [0.5]
    counts = np.bincount(np.concatenate(draws), minlength=NOTHING + 1)
    assert chi_square(counts, shares) < 44.3
    per_image = sum(values != NOTHING for values in draws)
    assert chi_square(np.bincount(per_image), [0.25, 0.5, 0.25]) < 18.4
    same = draws[0] == draws[1]
    both = (draws[0] != NOTHING) & (draws[1] != NOTHING)
    assert abs(same[both].mean() - 1 / NOTHING) < 4 * np.sqrt(1 / NOTHING / both.sum())
    # The same bounds hold for timm's own draws.
    counts, images = GOLDEN["policy/counts"], GOLDEN["policy/per_image"]
    assert chi_square(counts, [1 / NOTHING] * NOTHING) < 44.3
    assert chi_square(images, [0.25, 0.5, 0.25]) < 18.4


@pytest.mark.parametrize("name", ["Rotate", "ColorIncreasing", "TranslateXRel"])
def test_arguments_are_distributed_as_those_of_timm(name):
    operation, argument = (value.numpy() for value in draw(60_000, (1, 2)))
    chosen = argument[operation == TIMM.index(name)]
    assert len(chosen) > 1500
    assert_same_distribution(chosen, GOLDEN[f"policy/{name}"])


def test_an_image_gets_its_operation_whatever_the_others_get():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NOTHING + 1, 9, 7, 3)).astype("uint8")
    operation = rng.permutation(NOTHING + 1)
    level, sign = tf.fill([NOTHING + 1], 7.0), tf.ones([NOTHING + 1])
    table = np.pad(arguments(level, sign).numpy(), ((0, 0), (0, 1)))
    argument = table[np.arange(NOTHING + 1), operation]
    # As in a pipeline, where TensorFlow rewrites what it runs.
    together = tf.function(apply)(images, operation, argument, FILL).numpy()
    for number in range(NOTHING + 1):
        one = slice(number, number + 1)
        alone = apply(images[one], operation[one], argument[one], FILL)
        np.testing.assert_array_equal(together[one], alone)
    unchanged = operation == NOTHING
    np.testing.assert_array_equal(together[unchanged], images[unchanged])


def test_grey_images_are_what_colour_images_of_equal_channels_are():
    grey = np.random.default_rng(0).integers(0, 256, (NOTHING, 9, 9, 1))
    grey = grey.astype("uint8")
    argument = np.diag(arguments(tf.fill([NOTHING], 9.0), tf.ones([NOTHING])))
    result = apply(grey, np.arange(NOTHING), argument, (100,))
    colour = apply(
        np.repeat(grey, 3, -1), np.arange(NOTHING), argument, (100, 100, 100)
    )
    np.testing.assert_array_equal(np.repeat(result, 3, -1), colour)


def test_seed_decides_everything():
    images = tf.constant(np.stack([GOLDEN["image"]] * 16))
    first, again, other = (
        randaugment(images, seed).numpy() for seed in ((0, 1), (0, 1), (0, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != images.numpy()).any((1, 2, 3)).sum() >= 8  # Of 12 expected.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(fill=(1, 2)), "Received: 3 and"),
        (dict(fill=FILL, interpolation="nearest"), "Received: 'nearest'"),
    ],
)
def test_wrong_argument_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        apply(np.zeros((1, 4, 4, 3), "uint8"), [0], [0.0], **arguments)

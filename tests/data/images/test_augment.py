"""Crop, flip, erasing, mixup and cutmix against timm, and their order."""

import functools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_qkformer.data.images import augment as images_augment
from keras_qkformer.data.images.augment import (
    draw_rectangles,
    erase,
    flip_some,
    random_window,
)
from keras_qkformer.data.mixing import cutmix, mixup, smooth
from keras_qkformer.data.pipeline import training_dataset
from keras_qkformer.data.settings import ImageAugmentation

pytestmark = pytest.mark.backend_independent
GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "image_augment.npz")
PLAIN = {"num_classes": 10, "mean": (0.0,) * 3, "std": (1 / 255,) * 3, "flip": False}


def augment(
    images, labels, seed, *, num_classes, mean, std, label_smoothing=0.0, epoch=0, **own
):
    return images_augment.augment(
        images,
        labels,
        seed,
        ImageAugmentation(**own),
        num_classes=num_classes,
        mean=mean,
        std=std,
        label_smoothing=label_smoothing,
        epoch=epoch,
    )


def assert_same_distribution(first, second):
    """Kolmogorov-Smirnov with a level of 1e-4."""
    first, second = np.sort(first), np.sort(second)
    values = np.concatenate([first, second])
    distance = abs(
        np.searchsorted(first, values, "right") / len(first)
        - np.searchsorted(second, values, "right") / len(second)
    ).max()
    assert distance < np.sqrt(-np.log(0.5e-4) / 2 * (1 / len(first) + 1 / len(second)))


def batch_of(count=8, size=6):
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3))
    return images.astype("uint8"), np.arange(count)


@pytest.mark.parametrize("share", [1.0, 0.7, 0.25])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_of_mixup_are_those_of_timm(share, smoothing):
    labels = smooth(tf.one_hot(GOLDEN["mixup/labels"], 10), smoothing)
    result = mixup(tf.zeros((4, 1)), labels, share)[1]
    np.testing.assert_allclose(result, GOLDEN[f"mixup/{share}/{smoothing}"], atol=1e-7)


def test_boxes_and_labels_of_cutmix_are_those_of_timm():
    for row in GOLDEN["cutmix"]:
        height, width = row[:2].astype(int)
        share, corrected = row[2], row[-1]
        y, x, top, bottom, left, right = row[3:9].astype(int)
        images = tf.reshape([0.0, 1.0], (2, 1, 1, 1)) * tf.ones((2, height, width, 1))
        centre = [(y + 0.5) / height, (x + 0.5) / width]
        result, labels = cutmix(images, tf.eye(2), share, centre)
        expected = np.zeros((height, width))
        expected[top:bottom, left:right] = 1
        np.testing.assert_array_equal(result[0, :, :, 0], expected)
        np.testing.assert_array_equal(result[1, :, :, 0], 1 - expected)
        np.testing.assert_allclose(labels[0], [corrected, 1 - corrected], atol=1e-6)


@pytest.mark.parametrize("size", [32, 224])
def test_erased_areas_are_distributed_as_those_of_timm(size):
    theirs = GOLDEN[f"erasing/{size}"]
    count = len(theirs)
    assert abs((theirs[:, 0] > 0).mean() - 0.25) < 4 * np.sqrt(0.1875 / count)
    theirs = theirs[theirs[:, 0] > 0].astype(int)
    top, left, tall, wide = (
        value.numpy() for value in draw_rectangles(4000, size, size, (0, 3))
    )
    assert (tall > 0).all()
    assert (top + tall <= size).all() and (left + wide <= size).all()
    assert_same_distribution(tall * wide, theirs[:, 0] * theirs[:, 1])
    assert_same_distribution(tall / wide, theirs[:, 0] / theirs[:, 1])
    room = size - tall  # Every place is equally likely: the mean is the middle.
    assert abs((top / room).mean() - 0.5) < 4 * np.sqrt(1 / 12 / 4000)


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_erasing_replaces_one_rectangle_of_a_share_of_the_images(mode):
    images = tf.fill((400, 16, 16, 3), 9.0)
    erased = erase(images, (0, 1), 0.25, mode).numpy()
    changed = (erased != 9).any(-1)
    hit = changed.any((1, 2))
    assert abs(hit.mean() - 0.25) < 4 * np.sqrt(0.1875 / 400)
    for image, mask in zip(erased[hit], changed[hit], strict=True):
        rows, columns = mask.any(1), mask.any(0)
        np.testing.assert_array_equal(mask, rows[:, None] & columns[None])
        colours = np.unique(image[mask], axis=0)
        if mode == "pixel":
            assert len(colours) == mask.sum()
        else:
            assert len(colours) == 1
            assert (colours == 0).all() == (mode == "const")
    if mode == "pixel":
        values = erased[changed]
        assert abs(values.mean()) < 0.05 and abs(values.std() - 1) < 0.05


def test_window_has_the_area_and_shape_that_were_asked_for():
    draws = np.random.default_rng(0).uniform(size=(4000, 10, 4))

    @tf.function
    def windows_of(draws):
        return tf.map_fn(
            lambda d: random_window(400, 400, d, (0.1, 0.4)),
            draws,
            fn_output_signature=tf.int32,
        )

    windows = windows_of(draws)
    top, left, tall, wide = windows.numpy().T
    assert ((top >= 0) & (top + tall <= 400) & (left >= 0) & (left + wide <= 400)).all()
    rng = np.random.default_rng(1)
    uniform = rng.uniform(0.1, 0.4, 4000)
    assert_same_distribution(tall * wide / 400**2, uniform)
    shapes = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 4000))
    assert_same_distribution(wide / tall, shapes)


@pytest.mark.parametrize(
    ("size", "window"),
    [
        ((300, 30), (130, 0, 40, 30)),  # Narrower than 3/4.
        ((30, 300), (0, 130, 30, 40)),  # Wider than 4/3.
    ],
)
def test_window_that_never_fits_is_the_largest_in_the_middle(size, window):
    found = random_window(*size, np.full((10, 4), 0.5), (1.0, 1.0))
    assert tuple(found.numpy()) == window


def test_whole_image_is_a_window():
    found = random_window(5, 5, np.zeros((10, 4)), (1, 1), (1, 1))
    assert found.numpy().tolist() == [0, 0, 5, 5]


def test_the_first_attempt_that_fits_is_the_window():
    draws = np.full((10, 4), 0.5)
    draws[:2, 1] = 0.0, 1.0  # Too tall for the image, and too wide.
    draws[2, 2:] = 0.999, 0.0
    # 0.81 of 100x100 pixels: 180x45 and 45x180, then a square.
    found = random_window(100, 100, draws, (0.81, 0.81), (0.25, 4.0))
    assert found.numpy().tolist() == [10, 0, 90, 90]


def test_half_of_the_images_are_flipped():
    images = tf.range(6, dtype=tf.float32)[None, None, :, None] * tf.ones(
        (500, 1, 1, 1)
    )
    flipped = flip_some(images, (0, 1)).numpy()[:, 0, :, 0]
    forward = (flipped == np.arange(6)).all(1)
    assert ((flipped == np.arange(6)[::-1]).all(1) ^ forward).all()
    assert abs(forward.mean() - 0.5) < 4 * np.sqrt(0.25 / 500)


def test_without_options_a_batch_is_normalized_and_its_labels_smoothed():
    images, labels = batch_of()
    result, soft = augment(images, labels, (0, 1), **PLAIN, label_smoothing=0.1)
    np.testing.assert_allclose(result, images, atol=1e-4)
    np.testing.assert_allclose(soft, np.eye(10)[:8] * 0.9 + 0.01, atol=1e-7)


def test_mixup_ends_with_its_epoch_and_smoothing_does_not():
    images, labels = batch_of()
    options = {**PLAIN, "mixup_alpha": 0.5, "mixup_off_epoch": 3}
    mixed = [
        augment(images, labels, (0, 1), epoch=epoch, label_smoothing=0.1, **options)[1]
        for epoch in (2, 3)
    ]
    assert (mixed[0].numpy() > 0.02).sum() == 16
    np.testing.assert_allclose(mixed[1], np.eye(10)[:8] * 0.9 + 0.01, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"mixup_alpha": 0.5}, {"mixup"}),
        ({"cutmix_alpha": 1.0}, {"cutmix"}),
        ({"mixup_alpha": 0.5, "cutmix_alpha": 1.0}, {"mixup", "cutmix"}),
        ({"mixup_alpha": 0.5, "mixup_probability": 0.5}, {"mixup", "none"}),
        (
            {
                "mixup_alpha": 0.5,
                "cutmix_alpha": 1.0,
                "mixup_switch_probability": 0.0,
            },
            {"mixup"},
        ),
    ],
)
def test_probabilities_decide_how_a_batch_is_mixed(options, kinds):
    images = np.zeros((2, 16, 16, 3), "uint8")
    images[1] = 255
    hook = tf.function(lambda seed: augment(images, [0, 1], seed, **PLAIN, **options))
    found = set()
    for seed in range(24):
        result, labels = hook(tf.constant([5, seed]))
        share = result.numpy()[0] / 255
        # What the labels say is what the pixels are.
        np.testing.assert_allclose(1 - share.mean(), labels[0, 0], atol=2e-3)
        values = np.unique(share)
        if len(values) > 1:
            found.add("cutmix")
        elif values[0] in (0, 1) and float(labels[0, 0]) in (0, 1):
            found.add("none")
        else:
            found.add("mixup")
    # A box may be empty or all, and a share 0 or 1 within rounding.
    assert kinds <= found <= kinds | {"none"}


@pytest.mark.parametrize("mean", [(0.2, 0.4, 0.6), (0.485, 0.456, 0.406), (0.3,)])
def test_randaugment_fills_with_the_mean_colour(mean):
    # One operation: it changes the whole image alike, or lets the fill colour in.
    images = np.full((48, 12, 12, len(mean)), 240, "uint8")
    fill = {
        (0.2, 0.4, 0.6): (51, 102, 153),
        (0.485, 0.456, 0.406): (124, 116, 104),
        (0.3,): (76,),  # 76.5, rounded to even.
    }[mean]
    options = {"num_classes": 1, "mean": mean, "std": (0.5,) * len(mean)}
    result, _ = augment(
        images, np.zeros(48, int), (0, 1), policy="randaugment", num_ops=1, **options
    )
    pixels = 255 * (result.numpy() * 0.5 + mean)
    filled = 0
    for image in pixels.round().astype(int):
        colours = {tuple(colour) for colour in image.reshape(-1, len(mean)).tolist()}
        corner = [tuple(image[row, column]) for row in (0, -1) for column in (0, -1)]
        if len(colours) > 1:
            # What is interpolated may round to 1 less.
            assert colours - {(239,) * len(mean)} == {(240,) * len(mean), fill}
            assert fill in corner
            filled += 1
    assert filled > 4  # Of 48, a sixth is turned, sheared or shifted.


def test_keras_cv_is_the_other_policy():
    images, labels = batch_of(8, 16)
    options = {**PLAIN, "policy": "keras_cv", "num_ops": 2, "magnitude": 9.0}
    dataset = training_dataset(
        images,
        labels,
        transform=lambda images: images,
        augment=functools.partial(
            augment, mixup_alpha=0.5, cutmix_alpha=1.0, **options
        ),
        batch_size=8,
        seed=0,
        first_epoch=0,
        epochs=1,
    )
    ((result, soft),) = list(dataset)
    assert result.shape == images.shape and soft.shape == (8, 10)
    assert 0 <= result.numpy().min() and result.numpy().max() <= 255
    assert abs(np.sort(result, None) - np.sort(images, None)).mean() > 1
    np.testing.assert_allclose(soft.numpy().sum(1), 1, atol=1e-5)
    with pytest.raises(ValueError, match=r"colour images\. Received: 1 channels"):
        augment(images[..., :1], labels, (0, 1), **options)


def test_erasing_comes_after_the_normalization():
    images, labels = np.full((16, 8, 8, 3), 255, "uint8"), np.zeros(16, int)
    result, _ = augment(
        images,
        labels,
        (0, 1),
        num_classes=2,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        erase_probability=1.0,
        erase_mode="const",
    )
    assert set(np.unique(result)) == {0.0, 2.0}

"""Augmentation of event frames: each operation by definition, draws by their chances.

Draws are judged by Pearson's chi-squared statistic with fixed seeds against its 99.9 %
quantile, so a right implementation with other seeds would fail once in 1000 times.
"""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_qkformer.data.mixing import draw_weight, mixup, smooth
from keras_qkformer.data.recordings import augment as recordings_augment
from keras_qkformer.data.recordings.augment import (
    MIRRORED_GESTURES,
    OPERATIONS,
    draw_flips,
    draw_operations,
    transform,
)
from keras_qkformer.data.settings import EventAugmentation

pytestmark = pytest.mark.backend_independent

# 99.9 % quantiles of the chi-squared distribution, by degrees of freedom.
QUANTILE = {1: 10.83, 5: 20.52, 10: 29.59, 19: 43.82, 30: 59.70, 38: 70.70}
SHAPE = (60_000, 1, 128, 128, 2)


def chi_squared(counts, shares):
    expected = np.asarray(shares) * np.sum(counts)
    return ((counts - expected) ** 2 / expected).sum()


def random_frames(batch=1, time=2, height=20, width=26, seed=0):
    shape = batch, time, height, width, 2
    return np.random.default_rng(seed).random(shape, "float32") + 1


def apply(frames, name, magnitude=0.0, corner=(0, 0), flipped=False):
    batch = len(frames)
    return transform(
        tf.constant(frames),
        flipped=[flipped] * batch,
        operation=[OPERATIONS.index(name)] * batch,
        magnitude=[float(magnitude)] * batch,
        corner=[corner] * batch,
    ).numpy()


def warped(frame, name, magnitude):
    """One (height, width, 2) frame, pixel by pixel, as torchvision defines it.

    In coordinates about the middle, y down, the source of (x, y) is (x + y tan m, y)
    for a shear and the point turned clockwise by m, as seen, for a rotation.
    """
    height, width, _ = frame.shape
    result = np.zeros_like(frame)
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            if name == "shear_x":
                x += y * math.tan(magnitude)
            elif name == "rotate":
                point = complex(x, y) * complex(
                    math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
                )
                x, y = point.real, point.imag
            from_x = round(x + (width - 1) / 2)
            from_y = round(y + (height - 1) / 2)
            if 0 <= from_x < width and 0 <= from_y < height:
                result[row, column] = frame[from_y, from_x]
    return result


@pytest.mark.parametrize("name", ["shear_x", "rotate"])
@pytest.mark.parametrize("share", [-1, -0.4, 0, 0.2, 1])
def test_shear_and_rotation_are_those_of_the_definition(name, share):
    magnitude = share * {"shear_x": 0.3, "rotate": 30}[name]
    frames = random_frames()
    result = apply(frames, name, magnitude)
    for frame, got in zip(frames[0], result[0], strict=True):
        np.testing.assert_array_equal(got, warped(frame, name, np.float32(magnitude)))


def test_a_positive_rotation_is_counter_clockwise():
    frames = np.zeros((1, 1, 21, 21, 2), "float32")
    frames[0, 0, 10, 20] = 1  # Right of the middle, by ten pixels.
    row, column, _ = np.argwhere(apply(frames, "rotate", 30)[0, 0])[0]
    assert (row, column) == (5, 19)  # 10 sin 30 up, 10 cos 30 to the right.


@pytest.mark.parametrize("pixels", [-5, -1, 0, 3])
def test_translation_moves_right_and_down_and_fills_with_zeros(pixels):
    frames = random_frames()
    for name, axis in (("translate_x", 3), ("translate_y", 2)):
        expected = np.roll(frames, pixels, axis)
        entered = np.arange(pixels) if pixels > 0 else np.arange(pixels, 0)
        np.moveaxis(expected, axis, 0)[entered] = 0
        np.testing.assert_array_equal(apply(frames, name, pixels), expected)


def test_cutout_clears_the_same_square_in_every_frame():
    frames = random_frames()
    result = apply(frames, "cutout", 4, corner=(3, 22))
    expected = frames.copy()
    expected[:, :, 3:7, 22:26] = 0
    np.testing.assert_array_equal(result, expected)


def test_a_flip_comes_before_the_operation():
    frames = random_frames()
    flipped = frames[:, :, :, ::-1]
    np.testing.assert_array_equal(apply(frames, "identity", flipped=True), flipped)
    for name, magnitude in (("translate_x", 3), ("rotate", 10), ("cutout", 4)):
        np.testing.assert_array_equal(
            apply(frames, name, magnitude, flipped=True),
            apply(flipped, name, magnitude),
        )


def test_every_recording_has_its_own_operation():
    frames = random_frames(batch=len(OPERATIONS))
    magnitudes = [0, 0.2, 2, -3, 14, 5]
    corners = [(2, 3)] * len(OPERATIONS)
    result = transform(
        tf.constant(frames),
        flipped=[False] * len(OPERATIONS),
        operation=range(len(OPERATIONS)),
        magnitude=magnitudes,
        corner=corners,
    )
    for i, name in enumerate(OPERATIONS):
        alone = apply(frames[i : i + 1], name, magnitudes[i], corners[i])
        np.testing.assert_array_equal(result[i : i + 1], alone)
    np.testing.assert_array_equal(result[0], frames[0])


def drawn():
    draws = draw_operations(SHAPE, (0, 1))
    return {name: value.numpy() for name, value in draws.items()}


def test_operations_are_equally_likely():
    counts = np.bincount(drawn()["operation"], minlength=6)
    assert chi_squared(counts, [1 / 6] * 6) < QUANTILE[5]


def test_flips_are_as_likely_as_none():
    for flip in ("published", "gestures"):
        ones = draw_flips(60_000, (0, 1), flip).numpy().sum()
        assert chi_squared([ones, 60_000 - ones], [0.5, 0.5]) < QUANTILE[1]


@pytest.mark.parametrize("name", ["translate_x", "translate_y"])
def test_pixels_of_translation_have_the_chances_of_31_bins_cut_towards_zero(name):
    draws = drawn()
    pixels = draws["magnitude"][draws["operation"] == OPERATIONS.index(name)]
    values, counts = np.unique(pixels, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(-5, 6))
    shares = np.array([1, 3, 3, 3, 3, 5, 3, 3, 3, 3, 1]) / 31
    assert chi_squared(counts, shares) < QUANTILE[10]


@pytest.mark.parametrize(("name", "largest"), [("shear_x", 0.3), ("rotate", 30)])
def test_shear_and_rotation_have_31_equally_likely_magnitudes(name, largest):
    draws = drawn()
    magnitudes = draws["magnitude"][draws["operation"] == OPERATIONS.index(name)]
    values, counts = np.unique(magnitudes, return_counts=True)
    np.testing.assert_allclose(values, np.linspace(-largest, largest, 31), atol=1e-6)
    assert chi_squared(counts, [1 / 31] * 31) < QUANTILE[30]


def test_areas_of_cutout_are_uniform_and_squares_lie_inside():
    draws = drawn()
    cut = draws["operation"] == OPERATIONS.index("cutout")
    side, corner = draws["magnitude"][cut], draws["corner"][cut]
    assert (side.min(), side.max()) == (4, 42)
    # Side s stands for areas from (s - 1/2)^2 to (s + 1/2)^2.
    edges = np.clip((np.arange(4, 44) - 0.5) ** 2 / 128**2, 0.001, 0.11)
    shares = np.diff(edges) / 0.109
    counts = np.bincount(side.astype(int), minlength=43)[4:]
    assert chi_squared(counts, shares) < QUANTILE[38]
    assert corner.min() == 0
    last = 128 - side[:, None]
    assert ((corner <= last).all(), (corner == last).any()) == (True, True)
    # Given the room, every corner is equally likely: their mean is half of it.
    share = (corner / last).mean(0)
    np.testing.assert_allclose(share, 0.5, atol=4 * 0.29 / math.sqrt(len(side)))


def test_a_square_fits_a_frame_that_is_very_long():
    draws = draw_operations((5000, 1, 4, 400, 2), (0, 1))
    cut = draws["operation"] == OPERATIONS.index("cutout")
    assert draws["magnitude"][cut].numpy().max() == 4
    assert draws["corner"][cut].numpy()[:, 0].max() <= 3


def test_shares_of_mixup_are_beta_distributed_in_half_of_the_batches():
    draw = tf.function(
        lambda number: draw_weight(tf.stack([3, number]), alpha=0.5, probability=0.5)
    )
    shares = tf.map_fn(draw, tf.range(4000), fn_output_signature=tf.float32).numpy()
    mixed = shares[shares < 1]
    assert chi_squared([len(mixed), 4000 - len(mixed)], [0.5, 0.5]) < QUANTILE[1]
    # Beta(1/2, 1/2) has the distribution function 2/pi arcsin(sqrt(x)).
    uniform = 2 / np.pi * np.arcsin(np.sqrt(mixed))
    counts = np.histogram(uniform, 20, (0, 1))[0]
    assert chi_squared(counts, [1 / 20] * 20) < QUANTILE[19]


def test_labels_of_mixup_by_hand():
    labels = smooth(tf.one_hot([0, 1, 1, 3], 4), 0.1)
    np.testing.assert_allclose(labels[0], [0.925, 0.025, 0.025, 0.025], atol=1e-6)
    frames = tf.reshape(tf.constant([10.0, 20.0, 30.0, 40.0]), (4, 1, 1, 1, 1))
    frames, labels = mixup(frames, labels, 0.8)
    np.testing.assert_allclose(tf.squeeze(frames), [16, 22, 28, 34], rtol=1e-6)
    # 0.8 of [.925 .025 .025 .025] and 0.2 of [.025 .025 .025 .925].
    np.testing.assert_allclose(labels[0], [0.745, 0.025, 0.025, 0.205], atol=1e-6)
    np.testing.assert_allclose(labels[1], [0.025, 0.925, 0.025, 0.025], atol=1e-6)


def test_mirrored_gestures_by_hand():
    """Codes of the data set, from 1: right and left change places."""
    pairs = {2: 3, 3: 2, 4: 7, 7: 4, 5: 6, 6: 5}
    for code in range(1, 12):
        assert MIRRORED_GESTURES[code - 1] == pairs.get(code, code) - 1


def augment(*batch, num_classes, label_smoothing=0.1, epoch=0, flip="gestures", **own):
    return recordings_augment.augment(
        *batch,
        settings=EventAugmentation(flip=flip, **own),
        num_classes=num_classes,
        label_smoothing=label_smoothing,
        epoch=epoch,
    )


def hook(**options):
    fixed = {"num_classes": 11, "mixup_probability": 0, "label_smoothing": 0}
    return functools.partial(augment, **{**fixed, **options})


@pytest.mark.parametrize("soft", [False, True])
def test_flipped_gestures_change_their_label_unless_published(soft, monkeypatch):
    identity = {"operation": [0] * 11, "magnitude": [0.0] * 11, "corner": [[0, 0]] * 11}
    monkeypatch.setattr(recordings_augment, "draw_operations", lambda *_: identity)
    frames = random_frames(batch=11, time=1)
    labels = np.eye(11, dtype="float32") if soft else np.arange(11)
    for seed in range(3):
        after, mirrored = hook()(frames, labels, (0, seed))
        same, kept = hook(flip="published")(frames, labels, (0, seed))
        np.testing.assert_array_equal(after, same)
        np.testing.assert_array_equal(kept, np.eye(11))
        flipped = (after.numpy() == frames[:, :, :, ::-1]).all((1, 2, 3, 4))
        assert 0 < flipped.sum() < 11
        expected = np.where(flipped, MIRRORED_GESTURES, np.arange(11))
        np.testing.assert_array_equal(mirrored.numpy().argmax(1), expected)


def test_nothing_is_flipped_on_request():
    assert not draw_flips(1000, (0, 1), "none").numpy().any()


def test_one_seed_is_one_batch_in_a_dataset_too():
    frames, labels = random_frames(batch=8), np.arange(8)
    call = functools.partial(augment, num_classes=11)
    alone = [call(frames, labels, (5, i)) for i in range(3)]
    dataset = tf.data.Dataset.range(3, output_type=tf.int32).map(
        lambda i: call(tf.constant(frames), tf.constant(labels), tf.stack([5, i]))
    )
    assert dataset.element_spec[0].shape == frames.shape
    assert dataset.element_spec[1].shape == (8, 11)
    for once, again in zip(alone, dataset, strict=True):
        np.testing.assert_allclose(once[0], again[0], rtol=1e-6)
        np.testing.assert_allclose(once[1], again[1], rtol=1e-6)
    assert not np.array_equal(alone[0][0], alone[1][0])


def test_mixup_ends_at_its_epoch_and_smoothing_does_not():
    frames, labels = random_frames(batch=4), np.arange(4)
    call = hook(
        mixup_probability=1, mixup_off_epoch=75, label_smoothing=0.1, flip="published"
    )
    on, off = 0.9 + 0.1 / 11, 0.1 / 11
    _, before = call(frames, labels, (1, 2), epoch=74)
    _, after = call(frames, labels, (1, 2), epoch=tf.constant(75))
    assert before.numpy().max() < on - 0.001
    np.testing.assert_allclose(after, off + (on - off) * np.eye(11)[:4], atol=1e-6)


def test_counts_of_whole_numbers_become_float32_and_half_stays():
    counts = np.ones((2, 1, 8, 8, 2), "uint8")
    assert hook()(counts, [0, 1], (0, 0))[0].dtype == "float32"
    assert hook()(counts.astype("float16"), [0, 1], (0, 0))[0].dtype == "float16"


def test_without_operations_only_the_flip_changes_frames():
    frames = random_frames(batch=20)
    plain = hook(operations=False, flip="none", mixup_probability=0)
    np.testing.assert_array_equal(plain(frames, [0] * 20, (0, 0))[0], frames)
    flipping = hook(operations=False, flip="published", mixup_probability=0)
    flipped = flipping(frames, [0] * 20, (0, 0))[0].numpy()
    same = [(a == b).all() for a, b in zip(flipped, frames, strict=True)]
    mirrored = [
        (a == b).all() for a, b in zip(flipped, frames[..., ::-1, :], strict=True)
    ]
    assert np.array_equal(same, np.logical_not(mirrored))
    assert 0 < sum(same) < 20


def test_gain_multiplies_all_counts_of_a_recording_by_one_factor():
    frames = random_frames(batch=400, time=1, height=4, width=4)
    still = {"operations": False, "flip": "none", "mixup_probability": 0}
    ratios = hook(**still, max_gain=4.0)(frames, [0] * 400, (0, 0))[0] / frames
    ratios = ratios.numpy().reshape(400, -1)
    np.testing.assert_allclose(ratios, ratios[:, :1] * np.ones(32), rtol=1e-6)
    places = np.log(ratios[:, 0]) / np.log(4.0)  # Uniform from -1 to 1.
    counts = np.histogram(places, bins=20, range=(-1, 1))[0]
    assert counts.sum() == 400
    assert chi_squared(counts, np.full(20, 1 / 20)) < QUANTILE[19]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 10}, "Received: 10 classes"),
        ({"flip": "vertical"}, r"(?s)flip.*input_value='vertical'"),
        ({"mixup_alpha": 0}, r"(?s)mixup_alpha.*greater than 0.*input_value=0"),
        (
            {"mixup_probability": 1.5},
            r"(?s)mixup_probability.*less than or eq.*=1.5",
        ),
        ({"label_smoothing": 1}, "Received: label_smoothing=1"),
        ({"max_gain": 0.5}, r"(?s)max_gain.*greater than or equal to 1.*=0.5"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        hook(**options)(random_frames(batch=2), [0, 1], (0, 0))


@pytest.mark.parametrize("labels", [[0, 11], [-1, 0]])
def test_labels_out_of_range_are_errors(labels):
    with pytest.raises(ValueError, match=r"from 0 to 10. Received: \[(0, 11|-1, 0)\]"):
        hook()(random_frames(batch=2), labels, (0, 0))
    pairs = tf.data.Dataset.from_tensors((random_frames(batch=2), labels))
    augmented = pairs.map(lambda *pair: hook()(*pair, (0, 0)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="lie from 0 to 10"):
        list(augmented)


@pytest.mark.parametrize("labels", [[0.5, 1.0], [[0.5, 0.5], [1.0, 0.0]]])
def test_labels_of_another_kind_are_errors(labels):
    with pytest.raises(ValueError, match=r"probabilities \(batch, 11\). Received: flo"):
        hook()(random_frames(batch=2), labels, (0, 0))

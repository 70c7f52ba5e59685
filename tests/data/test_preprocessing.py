"""Size, crop and normalization against Pillow, torchvision and by hand."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from fake_images import picture

from keras_qkformer.data.preprocessing import Preprocessing, resize

pytestmark = pytest.mark.backend_independent


def test_preprocess_by_hand():
    images = np.array([0, 51, 255], "uint8").reshape(1, 1, 3, 1)
    result = Preprocessing((1, 3), (0.2,), (0.5,))(images)
    np.testing.assert_allclose(result[0, 0, :, 0], [-0.4, 0.0, 1.6], atol=1e-6)


@pytest.mark.parametrize("shape", [(375, 500), (333, 250), (256, 256), (60, 91)])
@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_middle_is_cut_out_as_pillow_and_torchvision_do(shape, crop):
    image_module = pytest.importorskip("PIL.Image", reason="the reference")
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 1)).astype("uint8")
    short = int(224 / crop)
    height, width = (short * side // min(shape) for side in shape)
    # In floating point, because it rounds bytes to bytes between its two passes.
    resized = image_module.fromarray(pixels[..., 0].astype("float32"))
    resized = resized.resize((width, height), 3)  # Bicubic.
    top, left = round((height - 224) / 2), round((width - 224) / 2)
    expected = np.asarray(resized)[top : top + 224, left : left + 224, None]
    preprocessing = Preprocessing((224, 224), (0,), (1,), 255, crop, "bicubic")
    got = 255 * preprocessing(pixels).numpy()
    np.testing.assert_allclose(got, np.clip(expected, 0, 255), atol=0.01)
    batch = preprocessing(pixels[None, None])
    np.testing.assert_allclose(255 * batch[0, 0], got, atol=1e-4)


def test_middle_of_an_image_that_is_not_square():
    ramp = np.tile(np.arange(40, dtype="float32")[:, None, None], (1, 40, 1))
    middle = 40 * Preprocessing((10, 20), (0,), (1,), 40, crop=0.5)(ramp).numpy()
    np.testing.assert_allclose(middle[:, 0, 0], np.arange(15, 25), atol=1e-4)


@pytest.mark.parametrize(
    ("size", "crop", "left", "top"),
    [((300, 400), 0.875, 58, 16), ((400, 300), 0.875, 16, 58), ((80, 80), 1.0, 0, 0)],
)
def test_evaluation_takes_the_middle_of_the_shorter_side(size, crop, left, top):
    # The shorter side becomes 224 / 0.875 = 256, the other 341; then 224 x 224.
    image = tf.constant(picture(0, size))
    shorter = 256 if crop < 1 else 224
    scaled = [shorter * side // min(size) for side in size]
    whole = tf.image.resize(image, scaled, "bicubic", antialias=True)
    expected = whole[top : top + 224, left : left + 224]
    for result in (
        resize(image, (224, 224), crop, "bicubic"),
        tf.function(
            lambda image: resize(image, (224, 224), crop, "bicubic"),
            input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
        )(image),
    ):
        np.testing.assert_array_equal(result, expected)


def test_resize_is_that_of_pillow():
    image_module = pytest.importorskip("PIL.Image", reason="the one timm uses")
    image = picture(3, (90, 70))
    for name in ("bilinear", "bicubic"):
        way = getattr(image_module.Resampling, name.upper())
        for size in ((32, 32), (120, 100)):
            expected = image_module.fromarray(image).resize(size[::-1], way)
            preprocessing = Preprocessing(size, (), (), interpolation=name)
            result = preprocessing.pixels(image).numpy()
            assert abs(result.astype(int) - np.array(expected)).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 48), (120, 100), (90, 33)])
def test_resize_is_that_of_tensorflow_bit_for_bit(interpolation, size):
    images = np.stack([picture(number, (90, 70)) for number in range(2)])
    expected = tf.image.resize(images, size, interpolation, antialias=True)
    for result in (
        resize(tf.constant(images), size, None, interpolation),
        tf.function(
            lambda images: resize(images, size, None, interpolation),
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
        )(images),
    ):
        assert result.shape[1:] == (*size, 3)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("most", [2.0, 255.0, 1000.0])
def test_overshoot_at_edges_is_cut_at_the_largest_value(most):
    edge = np.repeat([0.0, most], 4).astype("float32")[None, :, None]
    kept = Preprocessing((1, 24), (0,), (1,), most, interpolation="bicubic")(edge)
    free = tf.image.resize(edge, (1, 24), "bicubic", antialias=True) / most
    assert tf.reduce_max(free) > 1.01 and tf.reduce_min(free) < -0.01
    np.testing.assert_allclose(kept, np.clip(free, 0, 1), atol=1e-5)


def test_resizing_and_normalizing_are_the_whole():
    preprocessing = Preprocessing((6, 9), (0.2,), (0.5,), crop=0.8)
    images = picture(0, (20, 30))[None, ..., :1]
    whole = preprocessing(images)
    resized = preprocessing.resized(images)
    assert resized.shape == (1, 6, 9, 1) and resized.dtype == tf.float32
    np.testing.assert_array_equal(preprocessing.normalized(resized), whole)
    pixels = preprocessing.pixels(images)
    assert pixels.dtype == tf.uint8
    np.testing.assert_array_equal(pixels, tf.round(resized))


def test_pixels_before_the_crop_give_what_the_images_give():
    preprocessing = Preprocessing((8, 12), (0.2,), (0.5,), 255, 0.75, "bicubic")
    images = picture(0, (40, 50))[..., :1]
    pixels = preprocessing.uncropped().pixels(images)
    assert pixels.shape == (10, 16, 1)
    difference = preprocessing(pixels) - preprocessing(images)
    assert np.abs(difference).max() < 0.51 / 255 / 0.5
    whole = Preprocessing((8, 12), (0.2,), (0.5,))
    assert whole.uncropped() is whole


def test_preprocessing_goes_through_json():
    preprocessing = Preprocessing([8, 12], [0.2], (0.5,), 1.0, 0.75, "bicubic")
    values = json.loads(json.dumps(preprocessing.to_dict()))
    assert values == {
        "image_size": [8, 12],
        "mean": [0.2],
        "std": [0.5],
        "max_value": 1.0,
        "crop": 0.75,
        "interpolation": "bicubic",
    }
    assert Preprocessing.from_dict(values) == preprocessing
    for change in ({"crop": None}, {"interpolation": "bilinear"}):
        other = dataclasses.replace(preprocessing, **change)
        assert Preprocessing.from_dict(other.to_dict()) == other
    # Folders of event frames name no crop.
    del values["crop"], values["interpolation"]
    assert Preprocessing.from_dict(values) == Preprocessing((8, 12), (0.2,), (0.5,), 1)
    del values["mean"]
    with pytest.raises(ValueError, match=r"must have .* Received: \['image_size'"):
        Preprocessing.from_dict(values)

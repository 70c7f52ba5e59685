"""Size, crop and normalization against Pillow, torchvision and by hand."""

import numpy as np
import pytest
import tensorflow as tf
from fake_images import picture

from keras_qkformer.data.preprocessing import preprocess, resize, to_pixels

pytestmark = pytest.mark.backend_independent


def test_preprocess_by_hand():
    images = np.array([0, 51, 255], "uint8").reshape(1, 1, 3, 1)
    result = preprocess(images, (1, 3), (0.2,), (0.5,))
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
    arguments = (224, 224), (0,), (1,), 255, crop, "bicubic"
    got = 255 * preprocess(pixels, *arguments).numpy()
    np.testing.assert_allclose(got, np.clip(expected, 0, 255), atol=0.01)
    batch = preprocess(pixels[None, None], *arguments)
    np.testing.assert_allclose(255 * batch[0, 0], got, atol=1e-4)


def test_middle_of_an_image_that_is_not_square():
    ramp = np.tile(np.arange(40, dtype="float32")[:, None, None], (1, 40, 1))
    middle = 40 * preprocess(ramp, (10, 20), (0,), (1,), 40, crop=0.5).numpy()
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
            result = to_pixels(image, size, interpolation=name).numpy()
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

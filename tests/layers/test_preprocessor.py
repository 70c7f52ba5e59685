"""The layer that preprocesses: the same numbers as the pipeline's, on every backend."""

import keras
import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.layers import Preprocessor

STATISTICS = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.3]}
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 31, 47, 3), "uint8")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [None, 0.875, 1.0])
@pytest.mark.parametrize("image_size", [(8, 12), (40, 50), (31, 47)])
def test_it_computes_what_the_pipeline_computes(image_size, crop, interpolation):
    options = {**STATISTICS, "crop": crop, "interpolation": interpolation}
    found = to_numpy(Preprocessor(image_size, **options)(PIXELS))
    expected = Preprocessing(image_size, **options)(PIXELS).numpy()
    assert found.shape == (2, *image_size, 3)
    np.testing.assert_allclose(found, expected, atol=5e-5)


def test_event_frames_keep_their_time_axis():
    counts = np.random.default_rng(1).poisson(2.0, (2, 3, 16, 16, 2)).astype("uint16")
    options = {"mean": [0.5, 0.0], "std": [1.5, 1.0], "max_value": 1.0}
    layer = Preprocessor((8, 8), **options)
    expected = Preprocessing((8, 8), **options)(counts).numpy()
    np.testing.assert_allclose(to_numpy(layer(counts)), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_it_is_part_of_a_model_that_is_saved(tmp_path, dtype):
    layer = Preprocessor((8, 8), **STATISTICS, interpolation="bicubic", dtype=dtype)
    pixels = keras.Input((31, 47, 3), dtype="uint8")
    model = keras.Model(pixels, layer(pixels))
    assert model.output_shape == (None, 8, 8, 3)
    expected = model.predict(PIXELS, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(PIXELS, verbose=0), expected)
    assert again.layers[-1].get_config() == layer.get_config()
    exact = to_numpy(
        Preprocessor((8, 8), **STATISTICS, interpolation="bicubic")(PIXELS)
    )
    found = to_numpy(ops.cast(ops.convert_to_tensor(expected), "float32"))
    np.testing.assert_allclose(found, exact, atol=1e-6 if dtype == "float32" else 0.02)


def test_pixels_of_unknown_size_need_no_crop():
    unknown = keras.Input((None, None, 3))
    assert Preprocessor((8, 8), **STATISTICS)(unknown).shape == (None, 8, 8, 3)
    with pytest.raises(ValueError, match="without a crop"):
        Preprocessor((8, 8), **STATISTICS, crop=0.875)(unknown)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [1.0, 1.0]}, "one value per channel"),
        ({"std": [1.0, 1.0, 0.0]}, "above 0"),
        ({"max_value": 0}, "max_value must be above 0. Received: 0"),
        ({"crop": 1.5}, "Received: 1.5"),
        ({"crop": 0}, "Received: 0"),
        ({"interpolation": "nearest"}, "Received: 'nearest'"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Preprocessor((8, 8), **{**STATISTICS, **changes})


@pytest.mark.parametrize("shape", [(8, 8, 3), (2, 8, 8, 4)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="must have the shape"):
        Preprocessor((8, 8), **STATISTICS)(np.zeros(shape, "uint8"))

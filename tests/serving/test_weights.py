"""Every model in `weights/` exports to every format and answers there as here.

But for ONNX of the largest, `cifar10`, whose conversion takes a minute and gigabytes.
"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_qkformer.data.sources import load_examples
from keras_qkformer.kept_examples import read_examples
from keras_qkformer.serving import EXAMPLES_FILE
from keras_qkformer.serving.export import export_portable, export_saved_model
from keras_qkformer.trained import load_trained

WEIGHTS = Path(__file__).parents[2] / "weights"
FOLDERS = sorted(path.parent for path in WEIGHTS.glob("*/config.json"))

pytestmark = pytest.mark.backend_independent
each = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def test_there_are_weights():
    assert {"digits", "dvs_digits", "cifar10"} <= {path.name for path in FOLDERS}


@each
def test_a_saved_model_gives_the_same_logits(folder, tmp_path):
    version = export_saved_model(folder, tmp_path / "served", batch_sizes=(1, 2))
    examples = read_examples(version / EXAMPLES_FILE, ("images", "logits"))
    images = tf.constant(examples["images"], "float32")
    served = tf.saved_model.load(str(version)).signatures
    name = "predict_pixels" if "predict_pixels" in served else "serving_default"
    (argument,) = served[name].structured_input_signature[1]
    logits = served[name](**{argument: images})["logits"].numpy()
    assert np.ptp(examples["logits"], axis=0).max() > 1e-3  # Its neurons fire.
    assert np.abs(logits - examples["logits"]).max() < 1e-4


@each
@pytest.mark.parametrize(
    ("format", "package"),
    [("onnx", "tf2onnx"), ("litert", "ai_edge_litert"), ("openvino", "openvino")],
)
def test_another_runtime_gives_the_same_logits(folder, tmp_path, format, package):
    pytest.importorskip(package, reason="the export needs an extra")
    if (folder.name, format) == ("cifar10", "onnx"):
        pytest.skip(
            "takes a minute and gigabytes: keras-qkformer export weights/cifar10"
        )
    weights = "int8" if format == "openvino" else "float32"
    found = export_portable(folder, tmp_path / "out", format, weights)
    for run in found.values():
        # The logits of these models are as large as 10 in float32.
        assert run["largest_difference"] < 1e-4
    if (folder.name, format) == ("digits", "openvino"):
        from keras_qkformer.serving.openvino_bundle import load_bundle

        images, labels = load_examples("digits", "test")
        models = load_trained(folder), load_bundle(tmp_path / "out")
        right = [(each.logits(images).argmax(-1) == labels).sum() for each in models]
        # Weights of 8 bits change the class of one test image at most.
        assert right[0] > 0.98 * len(labels) and abs(right[1] - right[0]) <= 1

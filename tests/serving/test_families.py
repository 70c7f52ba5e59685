"""Models of every family are served, and give the same logits in other runtimes."""

import keras
import numpy as np
import pytest
from model_harness import settle
from small_models import SMALL_MODELS

from keras_qkformer.serving.check import serve_check
from keras_qkformer.serving.export import export_portable, export_saved_model

pytestmark = pytest.mark.backend_independent


@pytest.fixture(scope="module", params=SMALL_MODELS)
def preset(request, tmp_path_factory):
    """A preset folder of a small model for event frames, whose neurons fire."""
    folder = tmp_path_factory.mktemp("preset")
    small = SMALL_MODELS[request.param]
    shallow = {"depth": 1} if "depth" in small.changes else {}
    keras.utils.set_random_seed(0)  # Whatever ran before.
    model = settle(small.make(static=False, **shallow))
    metadata = {
        "class_names": ["a", "b", "c"],
        "preprocessing": {
            "image_size": [8, 12],
            "mean": [0.5, 0.25],
            "std": [0.5, 0.2],
            "max_value": 2.0,
        },
    }
    model.save_to_preset(folder, metadata)
    return folder


def test_a_bundle_passes_its_check(preset, tmp_path, capfd, monkeypatch):
    export_saved_model(preset, tmp_path / "served", batch_sizes=(1, 2))
    capfd.readouterr()
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    assert serve_check(tmp_path / "served", preset, seconds=0.001) == 0
    told, notices = capfd.readouterr()
    assert "0 failed" in told and "stream" in told
    assert not notices  # Of TensorFlow.
    with np.load(tmp_path / "served" / "1" / "assets.extra" / "examples.npz") as kept:
        assert np.ptp(kept["logits"], axis=0).max() > 1e-3


@pytest.mark.parametrize(
    ("format", "package"),
    [("onnx", "tf2onnx"), ("litert", "ai_edge_litert"), ("openvino", "openvino")],
)
def test_other_runtimes_give_the_same_logits(preset, tmp_path, format, package):
    pytest.importorskip(package, reason="the export needs an extra")
    weights = "int8" if format == "openvino" else "float32"
    found = export_portable(preset, tmp_path / "out", format, weights)
    assert set(found) == {"model", "stream"}
    assert max(run["largest_difference"] for run in found.values()) < 1e-5

"""Models of every family are served, and give the same logits in other runtimes."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from model_harness import settle
from small_models import SMALL_MODELS

from keras_qkformer.serving import EXAMPLES_FILE
from keras_qkformer.serving.export import export_portable, export_saved_model
from keras_qkformer.trained import load_trained

pytestmark = pytest.mark.backend_independent
each = pytest.mark.parametrize("family", SMALL_MODELS)


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """By family: a preset folder of a model for event frames, whose neurons fire."""
    folders = {}
    for family, small in SMALL_MODELS.items():
        folders[family] = tmp_path_factory.mktemp(family)
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
        model.save_to_preset(folders[family], metadata)
    return folders


CHECKS = """
import sys
from keras_qkformer.serving.check import main
for version, examples in zip(sys.argv[1::2], sys.argv[2::2]):
    print("version", version)
    print("status", main(version, examples, 0.001))
"""


def test_every_bundle_passes_its_check(presets, tmp_path, monkeypatch):
    """In one process, which starts TensorFlow once; against the model's own logits."""
    arguments = []
    for family, preset in presets.items():
        version = export_saved_model(preset, tmp_path / family, batch_sizes=(1, 2))
        with np.load(version / EXAMPLES_FILE) as kept:
            examples = dict(kept)
        assert np.ptp(examples["logits"], axis=0).max() > 1e-3
        examples["logits"] = load_trained(preset).logits(examples["images"])
        np.savez(tmp_path / f"{family}.npz", **examples)
        arguments += [version, tmp_path / f"{family}.npz"]
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    done = subprocess.run(
        [sys.executable, "-c", CHECKS, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # No notices of TensorFlow.
    _, *reports = re.split("^version .*\n", done.stdout, flags=re.M)
    assert len(reports) == len(SMALL_MODELS)
    for report in reports:
        assert "0 failed" in report and "stream" in report
        assert report.endswith("status 0\n")


@each
@pytest.mark.parametrize(
    ("format", "package"),
    [("onnx", "tf2onnx"), ("litert", "ai_edge_litert"), ("openvino", "openvino")],
)
def test_other_runtimes_give_the_same_logits(
    presets, family, tmp_path, format, package
):
    pytest.importorskip(package, reason="the export needs an extra")
    weights = "int8" if format == "openvino" else "float32"
    found = export_portable(presets[family], tmp_path / "out", format, weights)
    assert set(found) == {"model", "stream"}
    assert max(run["largest_difference"] for run in found.values()) < 1e-5

"""Every model in `weights/` exports to every format and answers there as here."""

from pathlib import Path

import pytest

from keras_qkformer.serving.check import serve_check
from keras_qkformer.serving.export import export_portable, export_saved_model

WEIGHTS = Path(__file__).parents[2] / "weights"
FOLDERS = sorted(path.parent for path in WEIGHTS.glob("*/config.json"))

pytestmark = pytest.mark.backend_independent
each = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def test_there_are_weights():
    assert {"digits", "dvs_digits", "cifar10"} <= {path.name for path in FOLDERS}


@each
def test_a_saved_model_passes_its_check(folder, tmp_path, capfd):
    export_saved_model(folder, tmp_path / "served", batch_sizes=(1, 2))
    assert serve_check(tmp_path / "served", seconds=0.001) == 0
    assert " 0 failed" in capfd.readouterr().out


@each
@pytest.mark.parametrize(
    ("format", "package"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert")]
)
def test_another_runtime_gives_the_same_logits(folder, tmp_path, format, package):
    pytest.importorskip(package, reason="the export needs an extra")
    found = export_portable(folder, tmp_path / "out", format)
    for run in found.values():
        # The logits of these models are as large as 10 in float32.
        assert run["largest_difference"] < 1e-4

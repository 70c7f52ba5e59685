"""The files that start a server."""

from pathlib import Path

import pytest

from keras_qkformer.serving.server_files import write_server_files

pytestmark = pytest.mark.backend_independent
GOLDEN = Path(__file__).parents[1] / "golden" / "server_files"


def test_files_for_a_server_stay_as_they_were(tmp_path):
    write_server_files(tmp_path, "My_Model 1", 3, (1, 4, 100))
    written = {path.name: path.read_text() for path in (tmp_path / "server").iterdir()}
    assert written == {path.name: path.read_text() for path in GOLDEN.iterdir()}


def test_small_batch_sizes_leave_room_for_large_requests(tmp_path):
    write_server_files(tmp_path, "__", 1, [1, 8])
    batching = (tmp_path / "server" / "batching.config").read_text()
    assert "max_batch_size { value: 64 }" in batching
    assert "max_execution_batch_size { value: 8 }" in batching
    assert "  name: model\n" in (tmp_path / "server" / "kubernetes.yaml").read_text()


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "compose.yaml").write_text("mine")
    write_server_files(tmp_path, "digits", 1, (1,))
    assert (tmp_path / "server" / "compose.yaml").read_text() == "mine"
    assert (tmp_path / "server" / "models.config").is_file()

"""The files that start a server."""

from pathlib import Path

import pytest
import yaml

from keras_qkformer.serving.export import export_saved_model
from keras_qkformer.serving.server_files import check_name, write_server_files

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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("3d", "model-3d"),
        ("On", "model-on"),
        ("no_", "model-no"),
        ("\u6a21", "model"),
        ("a" * 49 + "_b" * 50, "a" * 49),
    ],
)
def test_names_are_text_that_kubernetes_takes(tmp_path, name, expected):
    write_server_files(tmp_path, name, 1, (1,))
    text = (tmp_path / "server" / "kubernetes.yaml").read_text("utf-8")
    assert f"  name: {expected}\n" in text
    for part in yaml.safe_load_all(text):
        assert part["metadata"]["name"] == expected


HOSTILE = ("a'b", 'a"b', "a b", "a$b", "a#b", "a:b", "a\nb", "a;b", "-a", ".a", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_could_do_more_than_name_are_refused(name):
    with pytest.raises(ValueError, match="must have only letters, digits and _ - "):
        check_name(name)


def test_usual_names_are_taken(tmp_path):
    for name in ("digits", "qkformer_4-384.v2", "\u6a21\u578b", "7"):
        check_name(name)
    with pytest.raises(ValueError, match=r"Received: \"it's\""):
        export_saved_model(tmp_path, tmp_path / "it's")


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr("keras_qkformer.files.os.replace", fail)
        write_server_files(tmp_path, "digits", 1, (1,))
    assert [*(tmp_path / "server").iterdir()] == []

"""A folder is what its manifest says, or it is refused with the name of the file."""

import json
import os
import shutil
from pathlib import Path

import pytest

from keras_qkformer.files import file_digest
from keras_qkformer.manifest import (
    MANIFEST_FILE,
    IntegrityWarning,
    check_folder,
    check_folder_and_read,
    trusting,
    write_manifest,
)

pytestmark = pytest.mark.backend_independent


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    (path / "deep").mkdir(parents=True)
    (path / "a.json").write_text("{}")
    (path / "b.bin").write_bytes(bytes(1000))
    (path / "deep" / "c").write_text("")
    write_manifest(path)
    return path


def test_a_manifest_lists_every_file_and_depends_on_them_alone(folder, tmp_path):
    listed = json.loads((folder / MANIFEST_FILE).read_text())
    assert listed == {
        "format": 1,
        "files": {
            name: {
                "size": (folder / name).stat().st_size,
                "sha256": file_digest(folder / name),
            }
            for name in ("a.json", "b.bin", "deep/c")
        },
    }
    check_folder(folder)
    other = shutil.copytree(folder, tmp_path / "other")
    (other / ".DS_Store").write_text("of a file manager")
    check_folder(other)
    write_manifest(other)
    assert file_digest(other / MANIFEST_FILE) == file_digest(folder / MANIFEST_FILE)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "flip": (lambda f: flip(f / "b.bin"), r"SHA-256 of b\.bin must be"),
    "longer": (lambda f: (f / "deep/c").write_text("x"), "size of deep/c must be 0 b"),
    "shorter": (lambda f: (f / "b.bin").write_bytes(b""), r"b\.bin must be 1,000 b"),
    "gone": (lambda f: (f / "a.json").unlink(), r"a\.json must be .* no such file"),
    "more": (lambda f: (f / "d").write_text(""), "folder/d', which it does not list"),
    "folder": (
        lambda f: ((f / "a.json").unlink(), (f / "a.json").mkdir()),
        r"a\.json must be .* no such file",
    ),
    "manifest": (lambda f: flip(f / MANIFEST_FILE), r"manifest\.json"),
    "no manifest": (
        lambda f: (f / MANIFEST_FILE).write_text("[]"),
        r"manifest\.json must hold a JSON object",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_changed_folder_is_refused_and_loaded_on_trust(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        check_folder(folder)
    with trusting(), pytest.warns(IntegrityWarning, match=f"{message}.*on trust"):
        check_folder(folder)
    with pytest.raises(ValueError, match=message), trusting(False):
        check_folder(folder)


def test_trust_of_the_caller_holds_inside(folder):
    flip(folder / "b.bin")
    with trusting(), trusting(False), pytest.warns(IntegrityWarning):
        check_folder(folder)


def test_without_a_manifest_older_digests_are_checked_and_a_warning_says_so(folder):
    (folder / MANIFEST_FILE).unlink()
    with pytest.warns(IntegrityWarning, match=r"no manifest\.json.* nothing in it"):
        check_folder(folder)
    older = {"b.bin": file_digest(folder / "b.bin")}
    with pytest.warns(IntegrityWarning, match=r"versions: b\.bin in it"):
        check_folder(folder, lambda _: older)
    flip(folder / "b.bin")
    with pytest.raises(ValueError, match=r"SHA-256 of b\.bin must be"):
        check_folder(folder, lambda _: older)


def test_a_large_file_is_read_once_and_given_only_if_it_is_whole(folder):
    contents = check_folder_and_read(folder, "b.bin")()
    assert contents.read() == bytes(1000)
    assert str(contents) == str(folder / "b.bin")
    flip(folder / "b.bin")
    verified = check_folder_and_read(folder, "b.bin")
    with pytest.raises(ValueError, match=r"SHA-256 of b\.bin must be"):
        verified()
    with trusting(), pytest.warns(IntegrityWarning, match=r"SHA-256 of b\.bin"):
        assert verified().read() == (folder / "b.bin").read_bytes()
    (folder / "b.bin").write_bytes(bytes(999))
    with pytest.raises(ValueError, match=r"size of b\.bin must be 1,000"):
        check_folder_and_read(folder, "b.bin")
    with pytest.raises(ValueError, match=r"size of b\.bin must be 1,000"):
        check_folder_and_read(folder, "a.json")


def test_a_large_file_of_an_older_folder_has_its_older_digest(folder):
    (folder / MANIFEST_FILE).unlink()
    older = {"b.bin": file_digest(folder / "b.bin")}
    flip(folder / "b.bin")
    with pytest.warns(IntegrityWarning, match=r"versions: b\.bin in it"):
        verified = check_folder_and_read(folder, "b.bin", lambda _: older)
    with pytest.raises(ValueError, match=r"SHA-256 of b\.bin must be"):
        verified()


def test_a_file_larger_than_the_memory_is_no_bug_of_ours(folder, monkeypatch):
    def read_bytes(path):
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(OSError, match=r"b\.bin must fit into memory"):
        check_folder_and_read(folder, "b.bin")()


@pytest.mark.skipif(os.name == "nt", reason="pipes as on POSIX")
def test_a_pipe_in_place_of_a_file_is_refused(folder):
    (folder / MANIFEST_FILE).unlink()
    os.mkfifo(folder / MANIFEST_FILE)
    with pytest.raises(OSError, match=r"manifest\.json must be a regular file"):
        check_folder(folder)

"""One training at a time in a workdir."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from keras_qkformer.training import lock
from keras_qkformer.training.lock import only_training
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(os.name == "nt", reason="locks as on POSIX"),
]

RECIPE = Recipe(
    preset="qkformer_tiny",
    data=Data(name="digits", train="a", validation="b", test="c", batch_size=8),
    optimizer=Optimizer(epochs=1, learning_rate=0.1),
)
HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("process 7 \\x1b[2J", file=file, flush=True)
print("locked", flush=True)
time.sleep(600)
"""


def test_a_second_training_is_refused_while_the_first_lives(tmp_path):
    path = tmp_path / "fit.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout.readline() == b"locked\n"
            rule = r"Only one process .*, into which process 7 \\x1b\[2J trains"
            with pytest.raises(ValueError, match=rule):
                with only_training(RECIPE, tmp_path):
                    pass
        finally:
            holder.send_signal(signal.SIGKILL)
    assert path.exists()  # And locks nothing.
    with only_training(RECIPE, tmp_path):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(ValueError, match=f"which process {os.getpid()} on"):
            with only_training(RECIPE, tmp_path):
                pass
        assert path.exists()
    assert not path.exists()


def test_a_lock_that_another_training_has_just_removed_is_taken_again(
    tmp_path, monkeypatch
):
    """A process that ended after this one opened its file, before it was locked."""
    real, removed = lock.fcntl.flock, []

    def flock(descriptor, how):
        if not removed:
            removed.append(tmp_path / "fit.lock")
            removed[0].unlink()
        return real(descriptor, how)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with only_training(RECIPE, tmp_path):
        with pytest.raises(ValueError, match="Only one process at a time"):
            with only_training(RECIPE, tmp_path):
                pass


def test_a_new_workdir_that_stays_empty_is_removed(tmp_path):
    with pytest.raises(KeyError), only_training(RECIPE, tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with only_training(RECIPE, tmp_path):
        pass
    assert tmp_path.exists()
    with only_training(RECIPE, tmp_path / "new"):
        (tmp_path / "new" / "recipe.json").write_text("{}")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["recipe.json"]


def test_other_files_are_left_as_they_are(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="which holds other files"):
        with only_training(RECIPE, tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, number):
    """Of other machines, for one: NFS without its daemon of locks says ENOLCK."""

    def flock(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="a file system without locks"):
        with only_training(RECIPE, tmp_path):
            pass
    assert not [*tmp_path.iterdir()]


def test_a_lock_that_fails_otherwise_is_told(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"fit\.lock could not be written; .* Input/out"):
        with only_training(RECIPE, tmp_path):
            pass


def test_a_folder_that_is_read_only_is_named(tmp_path, monkeypatch):
    def mkdir(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    rule = r"new.fit\.lock could not be written; .* Read-only file system"
    with monkeypatch.context() as patch, pytest.raises(OSError, match=rule):
        patch.setattr(os, "mkdir", mkdir)
        with only_training(RECIPE, tmp_path / "new"):
            pass


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def write(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match=r"fit\.lock could not be written"):
            with only_training(RECIPE, tmp_path):
                pass
    with only_training(RECIPE, tmp_path):
        pass


def test_a_link_in_place_of_the_lock_empties_no_other_file(tmp_path):
    other, workdir = tmp_path / "other", tmp_path / "run"
    other.write_text("mine")
    workdir.mkdir()
    (workdir / "fit.lock").symlink_to(other)
    with pytest.raises(OSError, match=r"fit\.lock could not be written"):
        with only_training(RECIPE, workdir):
            pass
    assert other.read_text() == "mine"

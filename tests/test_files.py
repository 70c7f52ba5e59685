"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from keras_qkformer import partial_folders
from keras_qkformer.files import (
    CACHE_VARIABLE,
    beside,
    cache_folder,
    check_writable,
    file_digest,
    finish_replacing,
    move,
    open_regular,
    replace_folder,
    whole_file,
    write_json,
    write_text,
    writing,
)
from keras_qkformer.json_files import read_json
from keras_qkformer.manifest import Contents
from keras_qkformer.partial_folders import remove_partial

pytestmark = pytest.mark.backend_independent


WRITER = """
import sys
from keras_qkformer.files import whole_file

with whole_file(sys.argv[1]) as place:
    place.write_text("half")
    print("half", flush=True)
    sys.stdin.readline()
    place.write_text("half and whole")
"""


@contextlib.contextmanager
def writer_of(path):
    """A process that has written a half of a file; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "half\n"
            yield process
        finally:
            process.kill()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end_and_keeps_its_name_until_then(tmp_path):
    path = tmp_path / "new" / "a.weights.h5"
    with whole_file(path) as place:
        assert place.name == path.name and place.parent != path.parent
        place.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all"
    assert names(path.parent) == [path.name]


def test_a_named_cache_needs_no_home(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setenv(CACHE_VARIABLE, "/cache")
    assert cache_folder() == Path("/cache")


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    rule = r"a\.txt could not be written; any previous version is intact: disk full"
    with pytest.raises(OSError, match=rule), whole_file(path) as place:
        place.write_text("ne")
        raise error("disk full")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_other_errors_pass_as_they_are(tmp_path):
    for context in (whole_file, beside, writing):
        with pytest.raises(ValueError, match=r"^ours$"), context(tmp_path / "a"):
            raise ValueError("ours")
    with pytest.raises(RuntimeError, match=r"^ours$"), beside(tmp_path / "a"):
        raise RuntimeError("ours")
    assert names(tmp_path) == []


def test_a_folder_that_can_not_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"a\.json could not be written"):
        write_json(tmp_path / "file" / "a.json", {})


def test_two_who_write_the_same_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as first, whole_file(path) as second:
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"  # That which ended last.
    assert names(tmp_path) == ["a.txt"]


def test_json_ends_with_a_line(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1]})
    text = '{\n  "b": [\n    1\n  ]\n}\n'
    assert (tmp_path / "a.json").read_text() == text


def write_folder(path, text):
    path.mkdir()
    (path / text).write_text(text)


def test_a_folder_replaces_another(tmp_path):
    path = tmp_path / "best"
    for text in ("first", "second"):
        with beside(path) as new:
            write_folder(new, text)
            replace_folder(new, path)
        assert names(path) == [text]
        assert names(tmp_path) == ["best"]


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_replacement_that_was_killed_can_be_gone_on_with(
    tmp_path, monkeypatch, killed_at
):
    path, calls = tmp_path / "best", []
    write_folder(path, "old")
    write_folder(tmp_path / "new", "new")

    def replace(*arguments):
        calls.append(arguments)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        os.rename(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("keras_qkformer.files.os.replace", replace)
        replace_folder(tmp_path / "new", path)
    finish_replacing(path)
    assert names(path) == ["old"]
    replace_folder(tmp_path / "new", path)
    finish_replacing(path)
    assert names(path) == ["new"]
    assert names(tmp_path) == ["best"]


def test_an_old_folder_that_was_left_behind_is_not_in_the_way(tmp_path, monkeypatch):
    path, calls = tmp_path / "best", []
    write_folder(path, "first")
    write_folder(tmp_path / "new", "second")

    def remove(*_, **__):
        calls.append("remove")
        if len(calls) == 2:  # The new folder is there, the old one still too.
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("keras_qkformer.files.shutil.rmtree", remove)
        replace_folder(tmp_path / "new", path)
    assert names(path) == ["second"]
    assert len(names(tmp_path)) == 2
    write_folder(tmp_path / "new", "third")
    replace_folder(tmp_path / "new", path)
    assert names(path) == ["third"]
    assert names(tmp_path) == ["best"]


def image_of_a_container(monkeypatch, path):
    """Let a folder be removed but not renamed, until it was removed."""
    is_there = path.exists()

    def replace(source, target):
        if source == path and is_there:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        os.rename(source, target)

    def remove(folder, **options):
        nonlocal is_there
        is_there = is_there and folder != path
        real(folder, **options)

    real = shutil.rmtree
    monkeypatch.setattr("keras_qkformer.files.os.replace", replace)
    monkeypatch.setattr("keras_qkformer.files.shutil.rmtree", remove)


def test_a_folder_that_can_not_be_renamed_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "best"
    write_folder(path, "old")
    image_of_a_container(monkeypatch, path)
    for text in ("new", "newer"):
        with beside(path) as new:
            write_folder(new, text)
            replace_folder(new, path)
        assert names(path) == [text]
        assert names(tmp_path) == ["best"]


def test_a_folder_that_was_half_removed_comes_back(tmp_path, monkeypatch):
    path = tmp_path / "best"
    write_folder(path, "old")
    write_folder(tmp_path / "new", "new")
    image_of_a_container(monkeypatch, path)

    def remove(folder, **options):
        if folder == path:
            (path / "old").unlink()
            raise KeyboardInterrupt
        real(folder, **options)

    real = shutil.rmtree
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("keras_qkformer.files.shutil.rmtree", remove)
        replace_folder(tmp_path / "new", path)
    assert names(path) == []
    finish_replacing(path)
    assert names(path) == ["old"]
    assert names(tmp_path) == ["best", "new"]


def test_a_folder_that_can_not_be_moved_leaves_the_old_one(tmp_path, monkeypatch):
    """Of another disk, for one."""
    path = tmp_path / "best"
    write_folder(path, "old")
    write_folder(tmp_path / "new", "new")

    def replace(source, target):
        if source == tmp_path / "new":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        os.rename(source, target)

    monkeypatch.setattr("keras_qkformer.files.os.replace", replace)
    with pytest.raises(OSError, match="cross-device"):
        replace_folder(tmp_path / "new", path)
    assert names(path) == ["old"]
    assert names(tmp_path) == ["best", "new"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EIO])
def test_folders_that_can_not_be_synced_are_taken_as_they_are(
    tmp_path, monkeypatch, number
):
    """As of other machines; a disk that fails is told, and so are files."""

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == is_folder:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("keras_qkformer.files.os.fsync", fsync)
    for is_folder in (True, False):
        if is_folder and number != errno.EIO:
            write_text(tmp_path / "a.txt", "whole")
        else:
            with pytest.raises(OSError, match=r"a\.txt could not be written"):
                write_text(tmp_path / "a.txt", "other")


def test_folders_that_can_not_be_opened_are_written_to(tmp_path, monkeypatch):
    def open_(path, flags):
        if path == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags)

    real, new = os.open, tmp_path / "new"
    new.write_text("whole")
    with monkeypatch.context() as patch:
        patch.setattr("keras_qkformer.files.os.open", open_)
        move(new, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    with writer_of(tmp_path / "a.txt"):
        pass
    (tmp_path / "b.txt").write_text("whole")
    (tmp_path / "partial-c.txt").write_text("of an older version")
    remove_partial(tmp_path)
    assert names(tmp_path) == ["b.txt"]


@pytest.mark.skipif(os.name == "nt", reason="locks as on POSIX")
def test_what_a_killed_process_has_left_is_not_in_the_way_of_the_next(tmp_path):
    for name in ("folder", "other"):
        with writer_of(tmp_path / name):
            pass
    assert len(names(tmp_path)) == 2
    with beside(tmp_path / "folder") as new:
        write_folder(new, "whole")
        move(new, tmp_path / "folder")
    assert len(names(tmp_path)) == 2 and names(tmp_path / "folder") == ["whole"]
    remove_partial(tmp_path)
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(os.name == "nt", reason="locks as on POSIX")
def test_a_folder_of_a_process_that_lives_stays(tmp_path):
    with writer_of(tmp_path / "a.txt") as process:
        write_text(tmp_path / "a.txt", "ours")
        remove_partial(tmp_path)
        assert len(names(tmp_path)) == 2
        print("go on", file=process.stdin, flush=True)
        assert process.wait(60) == 0
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "half and whole"


@pytest.mark.skipif(os.name == "nt", reason="locks as on POSIX")
@pytest.mark.parametrize("locks", ["of another machine", "none"])
def test_where_locks_say_nothing_the_age_counts(tmp_path, monkeypatch, locks):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    with writer_of(tmp_path / "a.txt"):
        pass
    if locks == "none":
        monkeypatch.setattr("keras_qkformer.partial_folders.fcntl.flock", flock)
    else:
        monkeypatch.setattr(partial_folders, "_line", lambda: b"another\n")
    (left,) = tmp_path.iterdir()
    write_text(tmp_path / "a.txt", "whole")
    remove_partial(tmp_path)
    assert names(tmp_path) == ["a.txt", left.name]
    long_ago = time.time() - 25 * 60 * 60
    for path in (*left.iterdir(), left):
        os.utime(path, (long_ago, long_ago))
    write_text(tmp_path / "a.txt", "whole again")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="locks as on POSIX")
@pytest.mark.parametrize("moment", ["mkdir", "flock"])
def test_who_removes_and_who_begins_do_not_meet(tmp_path, monkeypatch, moment):
    """A folder is removed after it was made, and before its lock is held."""
    met = []

    def mkdir(path, **options):
        real_mkdir(path, **options)
        meet()

    def flock(descriptor, how):
        meet()
        real_flock(descriptor, how)

    def meet():
        if not met:
            met.append(1)
            remove_partial(tmp_path)

    real_mkdir, real_flock = Path.mkdir, partial_folders.fcntl.flock
    with monkeypatch.context() as patch:
        if moment == "mkdir":
            patch.setattr(Path, "mkdir", mkdir)
        else:
            patch.setattr(partial_folders.fcntl, "flock", flock)
        with whole_file(tmp_path / "a.txt") as place:
            place.write_text("whole")
            remove_partial(tmp_path)
    assert met and names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


@pytest.mark.skipif(os.name == "nt", reason="pipes and links as on POSIX")
@pytest.mark.parametrize("kind", ["link", "pipe", "file"])
def test_what_others_put_in_the_place_is_left_alone(tmp_path, kind):
    with writer_of(tmp_path / "a.txt"):
        pass
    (left,) = tmp_path.iterdir()
    shutil.rmtree(left)
    (tmp_path / "mine").mkdir()
    if kind == "link":
        left.symlink_to(tmp_path / "mine")
    elif kind == "file":
        left.write_text("mine")
    else:
        left.mkdir()
        os.mkfifo(left / ".writer")
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt", "mine", left.name]
    assert not names(tmp_path / "mine")


def test_a_folder_is_tried_whatever_its_permissions_say(tmp_path):
    """As of root, whom no permission stops, on a file system that takes no files."""
    check_writable(tmp_path / "new" / "folder")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(OSError, match=r"/proc/report must be writable\. Received: /pr"):
        check_writable("/proc/report")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, is_there):
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "run" / "best"
    if is_there:
        write_folder(elsewhere, "first")
    path.parent.mkdir()
    path.symlink_to(elsewhere)
    for text in ("second", "third"):
        with beside(path) as new:
            write_folder(new, text)
            replace_folder(new, path)
        assert (names(path), names(path.parent)) == ([text], ["best"])
    assert not is_there or names(elsewhere) == ["first"]


def test_json_of_names_that_are_no_utf8_is_read_back(tmp_path):
    written = {"command": "fit caf\udce9.py", "\ud800": ["\\ud800", "\u732b"]}
    write_json(tmp_path / "a.json", written)
    read = {"command": r"fit caf\udce9.py", r"\ud800": ["\\ud800", "\u732b"]}
    assert read_json(tmp_path / "a.json", dict[str, Any]) == read


def test_text_of_any_letters_is_written(tmp_path):
    write_text(tmp_path / "a.txt", "\u732b, caf\udce9\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xe7\x8c\xab, caf\\udce9\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices as on POSIX")
def test_pipes_and_devices_are_not_waited_at(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        for read in (open_regular, file_digest, Contents):
            with pytest.raises(OSError, match=f"{name} must be a regular file"):
                read(tmp_path / name)
        with pytest.raises(OSError, match=f"{name} must be a regular file"):
            read_json(tmp_path / name, dict[str, Any])

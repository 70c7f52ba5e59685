"""Zip files from outside: each rule of `CheckedZip` broken, and whole ones read."""

import struct
import zipfile

import fuzzing
import pytest

from keras_qkformer.zip_file import CheckedZip

pytestmark = pytest.mark.backend_independent


def write(path, *names, content=b"content", **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name in names:
            file.writestr(name, content)
    return path


def patch(path, place, value):
    """Change bytes of the last entry in the directory."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\1\2") + place
    data[start : start + len(value)] = value
    path.write_bytes(data)


def read_all(path):
    with CheckedZip(path, 1 << 20) as archive:
        return [archive.read_entry(name, 1 << 20) for name in archive.namelist()]


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_whole_zip_is_read(tmp_path, kind):
    path = write(tmp_path / "a.zip", "a", "b/c", "d/", compression=kind)
    assert read_all(path) == [b"content"] * 3
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())  # As self-extracting ones.
    assert read_all(path) == [b"content"] * 3


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "b/../../a", "b/.."])
def test_names_stay_inside(tmp_path, name):
    path = write(tmp_path / "a.zip", "a", name)
    with pytest.raises(ValueError, match="outside its folder"):
        CheckedZip(path, 1 << 20)


def test_names_are_escaped_and_bounded_in_errors(tmp_path):
    path = write(tmp_path / "a.zip", "/\x1b[2J" + "x" * 60_000)
    with pytest.raises(ValueError, match="outside its folder") as found:
        CheckedZip(path, 1 << 20)
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 1000


def test_no_name_comes_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write(tmp_path / "a.zip", "a", "a")
    with pytest.raises(ValueError, match="same name"):
        CheckedZip(path, 1 << 20)


def test_links_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        link = zipfile.ZipInfo("a")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="a link a"):
        CheckedZip(path, 1 << 20)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (8, b"\1\0", "encrypted"),
        (10, b"\x0c\0", "neither stored nor deflated"),  # bzip2
        (10, b"\x63\0", "neither stored nor deflated"),
        (24, struct.pack("<I", 2**32 - 2), "claims 4294967294 bytes"),
        (24, struct.pack("<I", 8), "claims 8 bytes in 7"),
        (20, struct.pack("<I", 2**31), "overlaps"),
        (42, struct.pack("<I", 0), "overlaps"),
        (42, struct.pack("<I", 2**31), "overlaps"),
        (6, b"\xff\0", "zip file version"),
    ],
)
def test_directory_tells_no_lies(tmp_path, place, value, message):
    path = write(tmp_path / "a.zip", "a", "b")
    patch(path, place, value)
    with pytest.raises(ValueError, match=message):
        CheckedZip(path, 1 << 20)


def test_sizes_of_64_bits_are_checked_too(tmp_path):
    extra = struct.pack("<HHQ", 1, 8, 2**62)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", b"content")
        file.filelist[0].extra = extra
    patch(path, 24, b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="claims 4611686018427387904 bytes"):
        CheckedZip(path, 1 << 20)


def test_wrong_checksum_and_damaged_data_are_errors(tmp_path):
    path = write(tmp_path / "a.zip", "a")
    patch(path, 16, b"\0\0\0\0")
    with pytest.raises(ValueError, match=r"entry a is damaged: Bad CRC-32"):
        read_all(path)
    content = bytes(range(256)) * 4
    path = write(tmp_path / "b.zip", "a", content=content, compression=8)
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="entry a is damaged"):
        read_all(path)


def test_entry_is_read_up_to_a_limit(tmp_path):
    path = write(tmp_path / "a.zip", "a")
    with CheckedZip(path, 1 << 20) as archive:
        assert archive.read_entry("a", 7) == b"content"
        with pytest.raises(ValueError, match="has 7 bytes, of at most 6"):
            archive.read_entry("a", 6)
        with pytest.raises(ValueError, match="b is missing"):
            archive.read_entry("b", 6)


def test_directory_is_read_up_to_a_limit(tmp_path):
    path = tmp_path / "a.zip"
    size = 600_000_000
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0)
    with path.open("wb") as file:
        file.seek(size)
        file.write(end)

    def open_it():
        CheckedZip(path, 1 << 20)

    assert fuzzing.ending(open_it, most_bytes=100 << 20) == "refused"
    with pytest.raises(ValueError, match="a directory of 600000000 bytes"):
        open_it()


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"PK\5\6" + bytes(17)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="no zip file that can be trusted"):
        CheckedZip(tmp_path / "a.zip", 1 << 20)

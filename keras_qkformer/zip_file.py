"""Zip files from outside: checked as a whole before anything in them is read."""

import io
import itertools
import os
import stat
import struct
import zipfile
import zlib

from keras_qkformer.printable import printable

LARGEST_DEFLATION = 1032
"""Deflate can't make data smaller than by this factor, so a larger claim is a lie."""
LOCAL_HEADER = 30
"""Bytes of the header in front of an entry, without its name and extra fields."""
# Errors of `zipfile` about damaged files, and about those that it can't read.
_DAMAGE = (
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class _BoundedFile(io.BufferedReader):
    """A file of which no single `read` may ask for more than `limit` bytes."""

    limit = None

    def read(self, size=-1):
        if self.limit is not None and size > self.limit:
            raise ValueError(f"a directory of {size} bytes, of at most {self.limit}")
        return super().read(size)


class CheckedZip(zipfile.ZipFile):
    """A zip file to be read, whose entries were checked by its directory.

    It holds relative names, each once; files and folders, no links; stored or deflated
    entries, not encrypted ones. No entry overlaps another, lies outside the file, or
    claims more than `LARGEST_DEFLATION` times its bytes. What is read from it is
    therefore bounded by the size of the file.

    Args:
        path: str or path of the file.
        directory_bytes: int. Largest size of the directory. An entry takes 46 bytes and
            its name there, and about a kilobyte of memory.

    Raises:
        ValueError: if the file is damaged or breaks a rule.
        OSError: if the file can't be read.
    """

    def __init__(self, path, directory_bytes):
        self._own_file = _BoundedFile(io.FileIO(path))
        try:
            self._own_file.limit = directory_bytes
            super().__init__(self._own_file)
            self._own_file.limit = None
            self._check()
        except _DAMAGE as error:
            self._own_file.close()
            raise ValueError(f"no zip file that can be trusted: {_say(error)}") from (
                error
            )

    def close(self):
        super().close()
        self._own_file.close()

    def read_entry(self, name, most_bytes):
        """Read an entry.

        Args:
            name: str. Its name.
            most_bytes: int. Largest size of its content.

        Returns:
            bytes.

        Raises:
            ValueError: if there is no such entry, or it is damaged or larger.
        """
        info = self.NameToInfo.get(name)
        if info is None:
            raise ValueError(f"an entry {printable(name)} is missing")
        if info.file_size > most_bytes:
            raise ValueError(
                f"its entry {printable(name)} has {info.file_size} bytes, of at most "
                f"{most_bytes}"
            )
        try:
            return self.read(info)
        except _DAMAGE as error:
            raise ValueError(
                f"its entry {printable(name)} is damaged: {_say(error)}"
            ) from error

    def place_of(self, name):
        """Find where in the file the content of a stored entry lies.

        Args:
            name: str. Name of an entry.

        Returns:
            int, in bytes from the start of the file.

        Raises:
            ValueError: if the entry is compressed, or has no header.
        """
        info = self.NameToInfo[name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its entry {printable(name)} is compressed")
        header = self.read_at(info.header_offset, LOCAL_HEADER)
        if len(header) < LOCAL_HEADER or header[:4] != b"PK\3\4":
            raise ValueError(f"its entry {printable(name)} has no header")
        lengths = struct.unpack_from("<HH", header, 26)
        return info.header_offset + LOCAL_HEADER + sum(lengths)

    def read_at(self, place, count):
        """Read bytes of the file itself.

        Args:
            place: int. Where to start, in bytes from the start of the file.
            count: int. How many.

        Returns:
            bytes, fewer than `count` at the end of the file.
        """
        file = self._own_file.fileno()
        data = os.pread(file, count, place)
        # At once, Linux reads at most 2 GiB.
        while len(data) < count and (more := os.pread(file, count, place + len(data))):
            data += more[: count - len(data)]
        return data

    def _check(self):
        entries = self.infolist()
        if len(self.NameToInfo) != len(entries):
            raise ValueError("two entries of the same name")
        for info in entries:
            name = info.filename
            if info.flag_bits & 1:
                raise ValueError(f"an encrypted entry {name}")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"an entry {name} that is neither stored nor deflated")
            if name[:1] == "/" or (".." in name and ".." in name.split("/")):
                raise ValueError(f"an entry outside its folder, {name}")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise ValueError(f"a link {name}")
            stored = info.compress_type == zipfile.ZIP_STORED
            largest = info.compress_size * (1 if stored else LARGEST_DEFLATION)
            if info.file_size > largest:
                raise ValueError(
                    f"an entry {name} that claims {info.file_size} bytes in "
                    f"{info.compress_size}"
                )
        entries = sorted(entries, key=lambda info: info.header_offset)
        starts = [info.header_offset for info in entries]
        if starts and starts[0] < 0:
            raise ValueError(f"an entry {entries[0].filename} outside the file")
        for info, after in itertools.zip_longest(entries, starts[1:]):
            after = self.start_dir if after is None else after
            if info.header_offset + LOCAL_HEADER + info.compress_size > after:
                raise ValueError(
                    f"an entry {info.filename} that overlaps another or the directory"
                )


def _say(error):
    return printable(f"{error}") or type(error).__name__

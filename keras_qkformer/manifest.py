"""The SHA-256 of every file of a folder, written beside them and checked at loading."""

import concurrent.futures
import contextlib
import contextvars
import hashlib
import io
import warnings
from pathlib import Path

from keras_qkformer.files import file_digest, open_regular, write_json
from keras_qkformer.json_files import read_json
from keras_qkformer.partial_folders import is_partial

MANIFEST_FILE = "manifest.json"
CARD_FILE = "README.md"
"""What people read of a folder, and may edit there or on a hub; nothing else does."""
_TRUSTING = contextvars.ContextVar("trusting", default=False)


class IntegrityWarning(UserWarning):
    """Something is loaded that differs from its digests, or has none."""


class Contents(io.BytesIO):
    """The bytes of a file, read once, so that those in use are those verified.

    Keras, HDF5 and `read_safetensors` take it in place of the path, which is its `str`.

    Args:
        path: str or path of the file.

    Attributes:
        digest: str. The SHA-256 of the bytes, 64 hexadecimal digits.

    Raises:
        OSError: if the file can't be read, or does not fit into memory.
    """

    def __init__(self, path):
        try:
            with open_regular(path):  # A pipe would be waited at for ever.
                data = Path(path).read_bytes()
        except MemoryError as error:
            raise OSError(f"{path} must fit into memory") from error
        super().__init__(data)
        self._path = str(path)
        self.digest = hashlib.sha256(data).hexdigest()

    def __str__(self):
        return self._path


@contextlib.contextmanager
def trusting(trust=True):
    """Context in which a folder that differs from its manifest is loaded all the same.

    Each difference is a warning then instead of an error. Values that are not finite
    and files that can't be read stay errors.

    Args:
        trust: bool. False leaves what holds outside.

    Example:
        with trusting():
            probabilities = predict_files("runs/digits", ["seven.png"])
    """
    token = _TRUSTING.set(trust or _TRUSTING.get())
    try:
        yield
    finally:
        _TRUSTING.reset(token)


def is_trusting():
    """Return whether this is within `trusting()`."""
    return _TRUSTING.get()


def write_manifest(folder, others=None):
    """Write `manifest.json` with size and SHA-256 of every other file of a folder.

    The same files give the same manifest, so its own SHA-256 stands for the folder.
    `README.md`, and files and folders whose names start with a dot, or with `partial-`
    as while another process writes, do not count; nothing reads them.

    Args:
        folder: str or path.
        others: dict from names to paths of other files, beside which those of the
            folder will lie, or `None`.
    """
    folder = Path(folder)
    paths = {**(others or {}), **{name: folder / name for name in file_names(folder)}}
    files = {
        name: {"size": path.stat().st_size, "sha256": file_digest(path)}
        for name, path in sorted(paths.items())
    }
    write_json(folder / MANIFEST_FILE, {"format": 1, "files": files})


def read_manifest(folder):
    """Read the entries of a folder's manifest.

    Args:
        folder: str or path.

    Returns:
        Dict from the names of files, relative to the folder, to dicts of `size`, in
        bytes, and `sha256`.

    Raises:
        ValueError: if it is not a manifest.
        OSError: if it can't be read.
    """
    from keras_qkformer.forms import Manifest

    return read_json(Path(folder) / MANIFEST_FILE, Manifest)["files"]


def _no_digests(folder):
    return {}


def check_folder(folder, digests_before=_no_digests):
    """Raise an error unless a folder holds exactly the files of its manifest.

    Args:
        folder: str or path.
        digests_before: function of the folder that returns the digests, a dict from
            file names, that folders of before there were manifests hold elsewhere.
            These are checked if the folder has no manifest, and a warning says so.

    Raises:
        ValueError: if a file is damaged, missing or not listed, unless `trusting()`.
        OSError: if a file can't be read.
    """
    _check_all_but(None, Path(folder), digests_before)


def check_folder_and_read(folder, name, digests_before=_no_digests):
    """Check a folder as `check_folder` does, and one large file of it in a thread.

    Args:
        folder: str or path.
        name: str. Name of the large file.
        digests_before: see `check_folder`.

    Returns:
        Function without arguments that waits for the thread and returns the verified
        `Contents` of the file. It raises what `check_folder` would raise for it.

    Raises:
        ValueError: see `check_folder`, for all other files.
        OSError: see there.
    """
    path = Path(folder) / name
    wanted = _check_all_but(name, path.parent, digests_before)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    reading = pool.submit(Contents, path)
    pool.shutdown(wait=False)

    def verified():
        contents = reading.result()
        if wanted is not None:
            with forgiven():
                _check_digest(name, wanted, contents.digest, path.parent)
        return contents

    return verified


def _check_all_but(later, folder, digests_before):
    """Check a folder, but for the digest of the file `later`, which is returned.

    It is `None` if no such file is listed, or its folder is loaded on trust.
    """
    with forgiven():
        if (folder / MANIFEST_FILE).exists():
            entries = read_manifest(folder)
            unlisted = sorted({*file_names(folder)} - {*entries})
            if unlisted:
                raise ValueError(
                    f"{MANIFEST_FILE} must list every file of its folder. "
                    f"Received: {str(folder / unlisted[0])!r}, which it does not list"
                )
            check_files(folder, entries, later)
            return entries.get(later, {}).get("sha256")
        digests = digests_before(folder)
        entries = {name: {"sha256": digest} for name, digest in digests.items()}
        check_files(folder, entries, later)
        which = " and ".join(sorted(digests)) or "nothing"
        warnings.warn(
            f"{folder} has no {MANIFEST_FILE}, as folders of older versions: {which} "
            "in it could be checked; keras_qkformer.manifest.write_manifest adds one",
            IntegrityWarning,
            stacklevel=4,
        )
        return digests.get(later)


def check_files(folder, entries, later=None):
    """Raise `ValueError` unless files have their sizes and SHA-256.

    Args:
        folder: path.
        entries: dict from names to dicts of `sha256` and perhaps `size`.
        later: str. Name of a file whose SHA-256 is not checked here, or `None`.
    """
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(
                f"The SHA-256 of {name} must be {entry['sha256']}. "
                f"Received: no such file in {str(folder)!r}"
            )
        size = path.stat().st_size
        if entry.get("size", size) != size:
            raise ValueError(
                f"The size of {name} must be {entry['size']:,} bytes. "
                f"Received: {size:,} in {str(folder)!r}"
            )
        if name != later:
            _check_digest(name, entry["sha256"], file_digest(path), folder)


def _check_digest(name, wanted, digest, folder):
    if digest != wanted:
        raise ValueError(
            f"The SHA-256 of {name} must be {wanted}. "
            f"Received: {digest} from {str(folder)!r}"
        )


@contextlib.contextmanager
def forgiven():
    """Context that turns a `ValueError` into a warning within `trusting()`."""
    try:
        yield
    except ValueError as error:
        if not is_trusting():
            raise
        warnings.warn(f"{error}; it is loaded on trust", IntegrityWarning, stacklevel=4)


def file_names(folder):
    """Return the names of the files that a manifest lists, relative to its folder.

    Args:
        folder: path.

    Returns:
        Sorted list of str, with `/` between folders.
    """
    names = (
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir()
    )
    return sorted(
        name
        for name in names
        if name not in (MANIFEST_FILE, CARD_FILE)
        and not any(p[:1] == "." or is_partial(p) for p in name.split("/"))
    )

"""Fetch preset folders from web servers and hubs into a cache, checked and whole."""

import hashlib
import http.client
import os
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from keras_qkformer.files import beside, cache_folder, file_digest, move
from keras_qkformer.forms import PresetMetadata
from keras_qkformer.json_files import read_json
from keras_qkformer.manifest import MANIFEST_FILE, check_files, read_manifest
from keras_qkformer.mistakes import did_you_mean
from keras_qkformer.presets.folders import (
    CONFIG_FILE,
    FILES,
    METADATA_FILE,
    WEIGHTS_FILE,
    WEIGHTS_FILES,
    digests_before,
    kept_weights,
    named_folder,
)
from keras_qkformer.presets.hubs import HUBS, check_growth, hub_of, with_revision
from keras_qkformer.printable import printable

# What is fetched has at most so many bytes, and so many files.
MAX_WEIGHTS = 4 << 30
MAX_FILE = 1 << 20
MAX_FILES = 16
ADDRESS = re.compile(r"(hf|kaggle|https?)://")
"""How the address of a preset folder starts."""
_TIMEOUT = 60  # Seconds without a byte.


def is_address(preset):
    """Return whether a string is an address, and not a name or a path.

    Args:
        preset: str.

    Returns:
        bool. True for `"hf://..."`, `"kaggle://..."`, `"https://..."`, `"http://..."`.
    """
    return ADDRESS.match(preset) is not None


def fetch(address, revision=None):
    """Fetch the preset folder of an address into the cache, unless it is there.

    The files are checked against the folder's manifest and appear in the cache all at
    once. Loading the folder checks them again.

    Args:
        address: str. `"https://host/folder"`; `"hf://owner/repository"` with
            optional `"@revision"` and `"/folder"`, in which a `/` of the revision is
            `%2F`; or `"kaggle://owner/model/framework/variation"` with optional
            `"/version"`. All may end with `"#sha256=..."`, the SHA-256 of the folder's
            `manifest.json`, which pins every file. An `"http://"` address must end
            with it. Without revision or version, the cache keeps what was the newest
            when it was fetched.
        revision: str, a branch, tag or commit of a repository at `"hf://..."`, or
            `None`.

    Returns:
        Path of the local folder.

    Raises:
        ValueError: if the address has another form; the manifest is not the pinned one;
            a file differs from the manifest, or is larger than `MAX_FILE` (`.json`) or
            `MAX_WEIGHTS` (others).
        OSError: if a file can't be fetched, or not within 60 s plus 1 s for each 50 kB.
        ImportError: if the package of the hub is not installed.
    """
    base, _, fragment = address.partition("#")
    base = with_revision(base.rstrip("/"), revision)
    pin = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if fragment and not pin:
        raise ValueError(
            "What follows # in an address must be sha256= and 64 hexadecimal digits. "
            f"Received: {address!r}"
        )
    if base.startswith("http://") and not pin:
        raise ValueError(
            "An address of http:// needs #sha256=..., because nothing else tells whose "
            f"weights they are. Received: {address!r}"
        )
    pin = pin and pin[1].lower()
    name = re.sub(r"[^\w.-]+", "-", base.partition("://")[2])[-80:]
    key = hashlib.sha256(f"{base}#{fragment.lower()}".encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    if not folder.is_dir():
        with beside(folder) as new:
            new.mkdir()
            _download(base, new, pin)
            try:
                move(new, folder)
            except OSError:
                # Another process may have been faster.
                if not folder.is_dir():
                    raise
    elif pin:
        _check_pin(folder, pin, f"delete the folder {folder} to fetch it again")
    return folder


def fetched(place, revision=None):
    """Return the local folder of a place.

    Args:
        place: str or path. A folder; the name of weights, see `folders.kept_weights`;
            or the address of a preset folder, see `fetch`.
        revision: str or `None`, see `fetch`.

    Returns:
        Path.

    Raises:
        ValueError: as `fetch`, or if a local folder has a revision.
        OSError: if an address can't be reached.
    """
    place = os.fspath(place)
    if is_address(place):
        return fetch(place, revision)
    if revision is not None:
        raise ValueError(
            "revision belongs to an address of hf://. "
            f"Received: revision={revision!r} with {place!r}"
        )
    return Path(named_folder(place))


def find_preset(preset, names, revision=None):
    """Find a preset by its name, path or address; an address is downloaded.

    Args:
        preset: str or path. See `SpikingClassifier.from_preset`.
        names: iterable of str. Names of presets.
        revision: str or `None`, see `fetch`.

    Returns:
        str if it is one of the names, else `Path` of its folder.

    Raises:
        ValueError: if there is no such preset.
        OSError: if an address can't be reached.
    """
    preset = os.fspath(preset)
    if preset in names and revision is None:
        return preset
    folder = fetched(preset, revision)
    if not (folder / CONFIG_FILE).is_file():
        raise _missing_preset(preset, names)
    return folder


def _missing_preset(preset, names):
    name, weights = Path(preset).name, kept_weights()
    hint = did_you_mean(preset, [*names, *weights])
    if name in weights:
        hint = f" (did you mean {name!r}? `keras-qkformer samples` copies it)"
    return ValueError(
        "A preset must be one of `keras-qkformer presets`, such as qkformer_tiny, a "
        f"folder with a {CONFIG_FILE}, or the address of one; import the module that "
        "registers another one first (--import on the command line). "
        f"Received: {preset!r}{hint}"
    )


def cached_presets():
    """Return the folders in the cache that have weights of named presets.

    Returns:
        dict from the names of presets to lists of paths.
    """
    found = {}
    for path in sorted(cache_folder().glob(f"*/{METADATA_FILE}")):
        try:
            name = read_json(path, PresetMetadata)["preset"]
        except (OSError, ValueError, KeyError):
            continue
        found.setdefault(name, []).append(path.parent)
    return found


def _download(base, new, pin):
    """Fetch and check the files of an address."""
    hub = hub_of(base)
    get = _get_by_http if hub is None else HUBS[hub].get
    try:
        _within(_seconds(MAX_FILE), get, base, MANIFEST_FILE, new, MAX_FILE)
    except FileNotFoundError:
        if pin:  # Without the manifest, it would pin less than the user wants.
            raise
        entries = {file: {} for file in FILES[1:]}
    else:
        if pin:
            _check_pin(new, pin, f"from {base}")
        entries = read_manifest(new)
        missing = {CONFIG_FILE, METADATA_FILE} - {*entries}
        weights = {*WEIGHTS_FILES.values()} & {*entries}
        if (
            missing
            or len(weights) != 1
            or len(entries) > MAX_FILES
            or any("/" in name for name in entries)
        ):
            raise ValueError(
                f"The {MANIFEST_FILE} of a preset must list {CONFIG_FILE}, "
                f"{METADATA_FILE}, either {' or '.join(WEIGHTS_FILES.values())}, at "
                f"most {MAX_FILES} files, and no folders. Received: "
                f"{printable(str(sorted(entries)))} from {base}"
            )
    sizes = {}
    for file, entry in entries.items():
        limit = MAX_FILE if file.endswith(".json") else MAX_WEIGHTS
        sizes[file] = entry.get("size", limit)
        if sizes[file] > limit:
            raise ValueError(
                f"{file} of a preset must have at most {limit:,} bytes. "
                f"Received: {sizes[file]:,} in the {MANIFEST_FILE} of {base}"
            )
    for file, size in sizes.items():
        _within(_seconds(size), get, base, file, new, size)
    if not (new / MANIFEST_FILE).exists():
        digests = digests_before(new)
        if WEIGHTS_FILE not in digests:
            raise ValueError(
                f"A preset must have a {MANIFEST_FILE}, or the SHA-256 of its weights "
                f"in its {METADATA_FILE}. Received: neither from {base}"
            )
        entries = {name: {"sha256": digest} for name, digest in digests.items()}
    check_files(new, entries)


def _check_pin(folder, pin, more):
    """Raise `ValueError` unless the manifest of a folder is the pinned one."""
    path = folder / MANIFEST_FILE
    received = file_digest(path) if path.is_file() else "none"
    if received == pin:
        return
    entries = read_manifest(folder) if path.is_file() else {}
    if pin == entries.get(WEIGHTS_FILE, {}).get("sha256"):
        raise ValueError(
            f"#sha256= must be the SHA-256 of {MANIFEST_FILE}, which covers all files. "
            f"Received: that of {WEIGHTS_FILE}, which leaves the others open"
        )
    raise ValueError(
        f"The SHA-256 of {MANIFEST_FILE} must be {pin}. Received: {received}; {more}"
    )


def _seconds(size):
    return 60 + size / 50_000


def _within(seconds, get, *arguments):
    """Call a function in a thread; raise `TimeoutError` if it takes longer.

    A timeout of a socket alone would not end an answer of one byte per second.
    """
    outcome = []

    def call():
        try:
            get(*arguments)
            outcome.append(None)
        except BaseException as error:  # Raised in the thread that waits.
            outcome.append(error)

    # A daemon: the end of the process does not wait for it.
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    end = time.monotonic() + seconds
    while thread.is_alive() and (left := end - time.monotonic()) > 0:
        thread.join(min(left, 0.5))
        check_growth(*arguments)
    if not outcome:
        raise TimeoutError(
            f"A file of a preset must come within {seconds:.0f} s. "
            f"Received: a part of {arguments[1]} from {arguments[0]}"
        )
    if outcome[0] is not None:
        raise outcome[0]


def _get_by_http(base, file, folder, limit):
    url = f"{base}/{urllib.parse.quote(file)}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            if not response.geturl().startswith(base.partition("//")[0]):
                raise OSError(f"it leads to {response.geturl()}")
            length, received = response.length, 0
            if (length or 0) > limit:
                raise OSError(f"{length:,} bytes, at most {limit:,} are read")
            with open(folder / file, "wb") as out:
                while data := response.read1(1 << 20):
                    received += len(data)
                    if received > limit:
                        raise OSError(f"more than {limit:,} bytes")
                    out.write(data)
            # A connection that ends early is no error to `read1`.
            if length is not None and received != length:
                raise OSError(f"only {received} of {length} bytes came")
    # ValueError is a redirection to what is no address.
    except (OSError, ValueError, http.client.HTTPException) as error:
        missing = getattr(error, "code", None) == 404
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # It is the response too.
        raise (FileNotFoundError if missing else OSError)(
            f"Every file of a preset must be at its address. Received: {url!r}: {error}"
        ) from error

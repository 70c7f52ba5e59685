"""Find preset folders, here or at addresses, check and read their files."""

import hashlib
import http.client
import os
import re
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from keras_qkformer.files import beside, cache_folder, file_digest, move
from keras_qkformer.forms import PresetMetadata
from keras_qkformer.json_files import read_json
from keras_qkformer.manifest import (
    MANIFEST_FILE,
    check_files,
    check_folder,
    read_manifest,
)
from keras_qkformer.mistakes import did_you_mean
from keras_qkformer.printable import printable

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
METADATA_FILE = "metadata.json"
FILES = (MANIFEST_FILE, CONFIG_FILE, METADATA_FILE, WEIGHTS_FILE)
# What is fetched has at most so many bytes, and so many files.
MAX_WEIGHTS = 4 << 30
MAX_FILE = 1 << 20
MAX_FILES = 16
# config.json of a preset folder holds the arguments of a model and, since format 1,
# these two keys. "family" is not free: QKFormerBackbone has an argument of that name.
FORMAT_KEY, FAMILY_KEY = "format", "model_family"
FORMAT = 1
# Folders without a format were written when there was only this family.
FIRST_FAMILY = "qkformer"
WEIGHTS_VARIABLE = "KERAS_QKFORMER_WEIGHTS"
PACKAGE = Path(__file__).resolve().parents[1]
_BEFORE = (CONFIG_FILE, WEIGHTS_FILE)  # With digests in metadata of older versions.
_TIMEOUT = 60  # Seconds without a byte.


def weights_folder():
    """Return the folder of weights trained with this library.

    It is `$KERAS_QKFORMER_WEIGHTS`, or `weights` of the checkout, or those that are
    installed with the package, and holds one preset folder for each name.
    """
    given = os.environ.get(WEIGHTS_VARIABLE)
    if given:
        return Path(given)
    is_checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    return (PACKAGE.parent if is_checkout else PACKAGE / "shipped") / "weights"


def kept_weights():
    """Return the sorted names of the weights in `weights_folder()`."""
    paths = weights_folder().glob(f"*/{METADATA_FILE}")
    return sorted(path.parent.name for path in paths)


def find_weights(name, preset):
    """Find the folder of named weights.

    Args:
        name: str. Name of a folder in `weights_folder()`.
        preset: str. Name of the preset that the weights must belong to.

    Returns:
        Path of the folder.

    Raises:
        ValueError: if the weights do not exist or belong to another preset.
    """
    folder = weights_folder() / name
    if name not in kept_weights():
        raise ValueError(
            f"weights must be one of {kept_weights()} in {folder.parent} (larger ones "
            f"are in a checkout; ${WEIGHTS_VARIABLE} names another folder). "
            f"Received: weights={name!r}"
        )
    theirs = read_json(folder / METADATA_FILE, PresetMetadata).get("preset")
    if theirs != preset:
        raise ValueError(
            f"The weights {name!r} are of the preset {theirs!r}. "
            f"Received: preset={preset!r}"
        )
    return folder


def is_address(preset):
    """Return whether a string is an address, and not a name or a path.

    Args:
        preset: str.

    Returns:
        bool. True for `"hf://..."`, `"http://..."` and `"https://..."`.
    """
    return re.match(r"(hf|https?)://", preset) is not None


def fetch(address):
    """Fetch the preset folder of an address into the cache, unless it is there.

    The files are checked against the folder's manifest and appear in the cache all at
    once. Loading the folder checks them again.

    Args:
        address: str. `"https://host/folder"`, or `"hf://owner/repository"` with
            optional `"@revision"` and `"/folder"` (needs the package
            `huggingface_hub`). Both may end with `"#sha256=..."`, the SHA-256 of the
            folder's `manifest.json`, which pins every file. An `"http://"` address
            must end with it.

    Returns:
        Path of the local folder.

    Raises:
        ValueError: if the address has another form; the manifest is not the pinned one;
            a file differs from the manifest, or is larger than `MAX_FILE` (`.json`) or
            `MAX_WEIGHTS` (others).
        OSError: if a file can't be fetched, or not within 60 s plus 1 s for each 50 kB.
        ImportError: for `"hf://"` without `huggingface_hub`.
    """
    base, _, fragment = address.partition("#")
    base = base.rstrip("/")
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


def _download(base, new, pin):
    """Fetch and check the files of an address."""
    get = _get_from_hub if base.startswith("hf://") else _get_by_http
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
        missing = {*FILES[1:]} - {*entries}
        if missing or len(entries) > MAX_FILES or any("/" in name for name in entries):
            raise ValueError(
                f"The {MANIFEST_FILE} of a preset must list {', '.join(FILES[1:])}, at "
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
        digests = _digests_before(new)
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


def check_preset(folder):
    """Check the files of a preset folder, see `manifest.check_folder`.

    Args:
        folder: str or path.

    Raises:
        ValueError: if a file is damaged, missing or not listed, unless `trusting()`.
    """
    check_folder(folder, _digests_before)


def _digests_before(folder):
    """Digests that the metadata of a folder without a manifest holds."""
    if not (folder / METADATA_FILE).is_file():
        return {}
    metadata = read_json(folder / METADATA_FILE, PresetMetadata)
    if metadata.get("manifest"):
        raise ValueError(
            f"The folder of a preset must have its {MANIFEST_FILE}. "
            f"Received: {str(folder)!r} without"
        )
    digests = metadata.get("sha256", {})
    return {name: digests[name] for name in _BEFORE if name in digests}


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
    thread.join(seconds)
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
    except (OSError, http.client.HTTPException) as error:
        missing = getattr(error, "code", None) == 404
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # It is the response too.
        raise (FileNotFoundError if missing else OSError)(
            f"Every file of a preset must be at its address. Received: {url!r}: {error}"
        ) from error


def _get_from_hub(base, file, folder, limit):
    parts = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?", base)
    if parts is None:
        raise ValueError(
            "An address of the Hugging Face Hub must be hf://owner/repository, perhaps "
            f"with @revision and /folder. Received: {base!r}"
        )
    try:
        import huggingface_hub  # Optional: only hf:// needs it.
    except ImportError as error:
        raise ImportError(
            "An address of hf:// needs huggingface_hub: pip install huggingface_hub"
        ) from error
    repository, revision, subfolder = parts.groups()
    place = dict(subfolder=subfolder, revision=revision)
    try:
        url = huggingface_hub.hf_hub_url(repository, file, **place)
        size = huggingface_hub.get_hf_file_metadata(url).size
        if size is None or size > limit:
            raise OSError(f"{size} bytes, at most {limit:,} are read")
        local = huggingface_hub.hf_hub_download(repository, file, **place)
    except Exception as error:
        response = getattr(error, "response", None)
        missing = getattr(response, "status_code", None) == 404
        raise (FileNotFoundError if missing else OSError)(
            f"Every file of a preset must be at its address. Received: {base!r}, "
            f"{file}: {error}"
        ) from error
    shutil.copyfile(local, folder / file)


def read_config_file(path):
    """Read the name of the family and the arguments of a model from a `config.json`.

    Args:
        path: path of the file.

    Returns:
        `(name, arguments)`: the name is checked by those who need the family.

    Raises:
        ValueError: if the file is not a JSON object, or its format is newer.
    """
    arguments = read_json(path, dict[str, Any])
    version = arguments.pop(FORMAT_KEY, 0)
    if type(version) is not int or version not in range(FORMAT + 1):
        raise ValueError(
            f"The format of {path} must be at most {FORMAT}, which this version of "
            "keras_qkformer reads; a newer one may read it. "
            f"Received: {printable(repr(version))}"
        )
    return arguments.pop(FAMILY_KEY, FIRST_FAMILY), arguments


def find_preset(preset, names):
    """Find a preset by its name, path or address; an address is downloaded.

    Args:
        preset: str or path. See `SpikingClassifier.from_preset`.
        names: iterable of str. Names of presets.

    Returns:
        str if it is one of the names, else `Path` of its folder.

    Raises:
        ValueError: if there is no such preset.
        OSError: if an address can't be reached.
    """
    preset = os.fspath(preset)
    if preset in names:
        return preset
    folder = fetch(preset) if is_address(preset) else Path(preset)
    if not (folder / CONFIG_FILE).is_file():
        raise _missing_preset(preset, names)
    return folder


def _missing_preset(preset, names):
    name, hint = Path(preset).name, did_you_mean(preset, names)
    if name in kept_weights():
        hint = (
            f" (that is {weights_folder() / name}; `keras-qkformer samples` copies it)"
        )
    return ValueError(
        "A preset must be one of `keras-qkformer presets`, such as qkformer_tiny, a "
        f"folder with a {CONFIG_FILE}, or the address of one; import the module that "
        "registers another one first (--import on the command line). "
        f"Received: {preset!r}{hint}"
    )

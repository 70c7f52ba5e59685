"""Fetch preset folders from addresses into a cache, and check their SHA-256."""

import hashlib
import http.client
import json
import os
import re
import shutil
import urllib.request
from pathlib import Path

from keras_qkformer.files import beside, cache_folder, file_digest

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
METADATA_FILE = "metadata.json"
FILES = (CONFIG_FILE, METADATA_FILE, WEIGHTS_FILE)
WEIGHTS_VARIABLE = "KERAS_QKFORMER_WEIGHTS"
_TIMEOUT = 60  # Seconds without a byte.


def weights_folder():
    """Return the folder of weights trained with this library.

    It is `$KERAS_QKFORMER_WEIGHTS`, or `weights` in the checkout, and holds one preset
    folder for each name.
    """
    default = Path(__file__).resolve().parents[2] / "weights"
    return Path(os.environ.get(WEIGHTS_VARIABLE) or default)


def kept_weights():
    """Return the sorted names of the weights in `weights_folder()`."""
    paths = weights_folder().glob(f"*/{METADATA_FILE}")
    return sorted(path.parent.name for path in paths)


def find_weights(name, preset):
    """Find and check the folder of named weights.

    Args:
        name: str. Name of a folder in `weights_folder()`.
        preset: str. Name of the preset that the weights must belong to.

    Returns:
        Path of the folder.

    Raises:
        ValueError: if the weights do not exist or belong to another preset, or a file
            differs from its SHA-256.
    """
    folder = weights_folder() / name
    if name not in kept_weights():
        raise ValueError(
            f"weights must be one of {kept_weights()} in {folder.parent} (a checkout "
            f"has them; ${WEIGHTS_VARIABLE} names another folder). "
            f"Received: weights={name!r}"
        )
    try:
        theirs = json.loads((folder / METADATA_FILE).read_text())["preset"]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"The {METADATA_FILE} of weights must be JSON with their preset. "
            f"Received: {str(folder)!r}: {error!r}"
        ) from error
    if theirs != preset:
        raise ValueError(
            f"The weights {name!r} are of the preset {theirs!r}. "
            f"Received: preset={preset!r}"
        )
    _check_files(folder, str(folder), None)
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

    The files are checked against their SHA-256 and appear in the cache all at once.

    Args:
        address: str. `"https://host/folder"`, or `"hf://owner/repository"` with
            optional `"@revision"` and `"/folder"` (needs the package
            `huggingface_hub`). Both may end with `"#sha256=..."`, the SHA-256 of the
            weights file; without it, the folder's metadata must hold it, as
            `save_to_preset` writes it. An `"http://"` address must end with it.

    Returns:
        Path of the local folder.

    Raises:
        ValueError: if the address has another form, or a file differs from its SHA-256.
        OSError: if a file can't be fetched.
        ImportError: for `"hf://"` without `huggingface_hub`.
    """
    base, _, fragment = address.partition("#")
    base = base.rstrip("/")
    digest = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if fragment and not digest:
        raise ValueError(
            "What follows # in an address must be sha256= and 64 hexadecimal digits. "
            f"Received: {address!r}"
        )
    if base.startswith("http://") and not digest:
        raise ValueError(
            "An address of http:// needs #sha256=..., because nothing else tells whose "
            f"weights they are. Received: {address!r}"
        )
    name = re.sub(r"[^\w.-]+", "-", base.partition("://")[2])[-80:]
    key = hashlib.sha256(f"{base}#{fragment.lower()}".encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    if folder.is_dir():
        return folder
    with beside(folder) as new:
        new.mkdir()
        for file in FILES:
            get = _get_from_hub if base.startswith("hf://") else _get_by_http
            get(base, file, new / file)
        _check_files(new, address, digest and digest[1].lower())
        try:
            new.rename(folder)
        except OSError:
            # Another process may have been faster.
            if not folder.is_dir():
                raise
    return folder


def digests(folder):
    """Compute the SHA-256 of the config and the weights of a preset folder.

    Args:
        folder: str or path.

    Returns:
        dict from file names to hexadecimal str. The metadata is not among them, because
        it holds them.
    """
    return {file: file_digest(Path(folder) / file) for file in FILES[::2]}


def cached_presets():
    """Return the folders in the cache that have weights of named presets.

    Returns:
        dict from the names of presets to lists of paths.
    """
    found = {}
    for path in sorted(cache_folder().glob(f"*/{METADATA_FILE}")):
        try:
            name = json.loads(path.read_text())["preset"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.setdefault(name, []).append(path.parent)
    return found


def _get_by_http(base, file, target):
    url = f"{base}/{file}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            if not response.geturl().startswith(base.partition("//")[0]):
                raise OSError(f"it leads to {response.geturl()}")
            with open(target, "wb") as out:
                shutil.copyfileobj(response, out)
            # A connection that ends early is no error to copyfileobj.
            length = response.headers.get("Content-Length")
            if length is not None and target.stat().st_size != int(length):
                raise OSError(f"only {target.stat().st_size} of {length} bytes came")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"Every file of a preset must be at its address. Received: {url!r}: {error}"
        ) from error


def _get_from_hub(base, file, target):
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
    repository, revision, folder = parts.groups()
    try:
        local = huggingface_hub.hf_hub_download(
            repository, file, subfolder=folder, revision=revision
        )
    except Exception as error:
        raise OSError(
            f"Every file of a preset must be at its address. Received: {base!r}, "
            f"{file}: {error}"
        ) from error
    shutil.copyfile(local, target)


def _check_files(folder, address, digest):
    try:
        wanted = dict(
            json.loads((folder / METADATA_FILE).read_text()).get("sha256", {})
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"The {METADATA_FILE} of a preset must be JSON. Received: {address!r}: "
            f"{error}"
        ) from error
    received = digests(folder)
    if digest is not None:
        wanted[WEIGHTS_FILE] = digest
    if WEIGHTS_FILE not in wanted:
        raise ValueError(
            "The SHA-256 of weights must be in the folder's metadata, or given as "
            f"#sha256=.... Received: {address!r} without; the weights there have "
            f"{received[WEIGHTS_FILE]}"
        )
    for file, value in received.items():
        if wanted.get(file, value) != value:
            raise ValueError(
                f"The SHA-256 of {file} must be {wanted[file]}. Received: {value} from "
                f"{address!r}"
            )

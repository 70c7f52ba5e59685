"""The hubs of models: their addresses, and their files through their own packages."""

import dataclasses
import importlib
import re
import shutil
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from keras_qkformer.printable import printable

_KAGGLE_PARTIAL = ".kaggle"  # Folder that a file comes into; no manifest lists it.
_HF_REASONS = {
    "GatedRepoError": "its owner must grant access first, and this machine needs a "
    "token (hf auth login, or $HF_TOKEN)",
    "RepositoryNotFoundError": "there is no such repository, or it is private and this "
    "machine has no token for it (hf auth login, or $HF_TOKEN)",
    "RevisionNotFoundError": "the repository has no such revision",
    "LocalEntryNotFoundError": "the hub can't be reached, and the cache of "
    "huggingface_hub does not have it",
    "EntryNotFoundError": "the repository has no such file",
}
_REFUSED = {
    401: "the hub refuses this machine's token, or needs one",
    403: "the hub does not allow it with this machine's token",
}


@dataclasses.dataclass(frozen=True)
class Hub:
    """A hub of models.

    Attributes:
        package: str. The package of the hub's owner that speaks to it.
        form: compiled pattern of an address without `#`.
        rule: str. What an address must be.
        get: function `(base, file, folder, limit)` that gets a file of an address into
            a folder, if it has at most `limit` bytes.
    """

    package: str
    form: re.Pattern
    rule: str
    get: Callable


def hub_of(base):
    """Return the name of an address's hub, its key in `HUBS`, or `None`.

    Args:
        base: str. Address without `#`.
    """
    scheme = base.partition("://")[0]
    return scheme if scheme in HUBS else None


def parse(base):
    """Take the address of a hub apart.

    Args:
        base: str. Address without `#`.

    Returns:
        Tuple of str or `None`: for `hf://`, the repository, the revision and the folder
        in it; for `kaggle://`, the variation of the model and its version.

    Raises:
        ValueError: if it has another form.
    """
    hub = HUBS[hub_of(base)]
    parts = hub.form.fullmatch(base)
    places = base.split("/")[2:] + urllib.parse.unquote(base).split("/")[2:]
    if parts is None or any(set(place) <= {"."} for place in places):
        raise ValueError(f"{hub.rule} Received: {printable(repr(base))}")
    return tuple(part and urllib.parse.unquote(part) for part in parts.groups())


def check_address(address):
    """Raise `ValueError` if an address is of a hub and has another form than its own.

    Args:
        address: str.
    """
    base = address.partition("#")[0].rstrip("/")
    if hub_of(base) is not None:
        parse(base)


def with_revision(base, revision):
    """Return an address with a revision in it.

    Args:
        base: str. Address without `#`.
        revision: str, or `None` to return the address itself.

    Raises:
        ValueError: if it is no address of hf://, or names a revision already.
    """
    if revision is None:
        return base
    if hub_of(base) != "hf" or parse(base)[1] is not None or not revision:
        raise ValueError(
            "revision belongs to an address of hf:// without @revision; the version of "
            "a kaggle:// address is its last part. "
            f"Received: revision={revision!r} with {base!r}"
        )
    repository, _, folder = parse(base)
    quoted = urllib.parse.quote(revision, safe="")
    return f"hf://{repository}@{quoted}" + (f"/{folder}" if folder else "")


def package_of(name):
    """Import the package of a hub.

    Args:
        name: str. Key of `HUBS`.

    Returns:
        The module.

    Raises:
        ImportError: if it is not installed.
    """
    package = HUBS[name].package
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"An address of {name}:// needs {package}: pip install {package}"
        ) from error


def reason_of(error):
    """Say in one line why a hub's package failed.

    Args:
        error: exception of the package.

    Returns:
        str.
    """
    for kind in type(error).__mro__:
        if kind.__name__ in _HF_REASONS:
            return _HF_REASONS[kind.__name__]
    text = " ".join(str(error).split()) or type(error).__name__
    return _REFUSED.get(_status(error), printable(text, 300))


def _status(error):
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_missing(error):
    """Whether a file is missing, in a repository and a revision that are there."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
        return False
    return "RemoteEntryNotFoundError" in names or _status(error) == 404


def _failed(base, file, error):
    """The `OSError` that says why a file of an address can't be had."""
    return (FileNotFoundError if _is_missing(error) else OSError)(
        f"Every file of a preset must be at its address. Received: {base!r}, {file}: "
        f"{reason_of(error)}"
    )


def _get_from_hf(base, file, folder, limit):
    repository, revision, subfolder = parse(base)
    hub = package_of("hf")
    place = dict(subfolder=subfolder, revision=revision)
    try:
        url, options = hub.hf_hub_url(repository, file, **place), {}
        try:
            size = hub.get_hf_file_metadata(url).size
        except Exception as error:
            if getattr(error, "response", None) is not None:
                raise
            # Nobody answers: what the package has in its own cache will do.
            size, options = 0, {"local_files_only": True}
        if size is None or size > limit:
            raise OSError(f"{size} bytes, at most {limit:,} are read")
        local = hub.hf_hub_download(repository, file, **place, **options)
        _take(local, folder / file, limit)
    except Exception as error:
        raise _failed(base, file, error) from error


def _get_from_kaggle(base, file, folder, limit):
    variation, version = parse(base)
    handle = "/".join(filter(None, (variation, version)))
    hub, partial = package_of("kaggle"), folder / _KAGGLE_PARTIAL
    try:
        _take(
            hub.model_download(handle, file, output_dir=str(partial)),
            folder / file,
            limit,
        )
    except Exception as error:
        raise _failed(base, file, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _take(local, target, limit):
    """Copy a file that a package has fetched."""
    size = Path(local).stat().st_size
    if size > limit:
        raise OSError(f"{size:,} bytes, at most {limit:,} are read")
    shutil.copyfile(local, target)


def check_growth(base, file, folder, limit):
    """Raise `OSError` if a file that is being fetched has grown beyond its limit.

    kagglehub does not say how large a file will be.

    Args:
        base: str. Address.
        file: str. Name of the file.
        folder: path of the folder that the file is fetched into.
        limit: int. Largest number of bytes.
    """
    try:
        size = sum(
            path.lstat().st_size for path in (folder / _KAGGLE_PARTIAL).rglob("*")
        )
    except FileNotFoundError:  # Moved meanwhile.
        return
    if size > limit + _FOLDERS:
        raise OSError(
            f"Every file of a preset must be at its address. Received: {base!r}, "
            f"{file}: more than {limit:,} bytes"
        )


_FOLDERS = 1 << 20  # Bytes that a few folders and an archive's envelope may take.
HUBS = {
    "hf": Hub(
        "huggingface_hub",
        re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?"),
        "An address of the Hugging Face Hub must be hf://owner/repository, perhaps "
        "with @revision and /folder.",
        _get_from_hf,
    ),
    "kaggle": Hub(
        "kagglehub",
        re.compile(r"kaggle://([^/@]+(?:/[^/@]+){3})(?:/([0-9]+))?"),
        "An address of Kaggle must be kaggle://owner/model/framework/variation, "
        "perhaps with /version.",
        _get_from_kaggle,
    ),
}
"""The hubs by the scheme of their addresses."""

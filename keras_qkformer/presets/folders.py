"""The files of preset folders: their names, and how they are found, checked, read."""

import contextlib
import os
from pathlib import Path
from typing import Any

from keras_qkformer.files import move
from keras_qkformer.forms import PresetMetadata
from keras_qkformer.json_files import read_json
from keras_qkformer.manifest import (
    CARD_FILE,
    MANIFEST_FILE,
    check_folder,
    check_folder_and_read,
    file_names,
    write_manifest,
)
from keras_qkformer.mistakes import did_you_mean
from keras_qkformer.presets.published import PRESETS
from keras_qkformer.printable import printable

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
SAFETENSORS_FILE = "model.safetensors"
WEIGHTS_FILES = {"h5": WEIGHTS_FILE, "safetensors": SAFETENSORS_FILE}
"""Names of a weights file by its format; a folder has one of them."""
METADATA_FILE = "metadata.json"
FILES = (MANIFEST_FILE, CONFIG_FILE, METADATA_FILE, WEIGHTS_FILE)
NEW_FOLDER = ".new"
"""Folder in a preset folder with the files of a save, until these are in place."""
_SAVED = (MANIFEST_FILE, CARD_FILE, CONFIG_FILE, METADATA_FILE, *WEIGHTS_FILES.values())
# config.json of a preset folder holds the arguments of a model and, since format 1,
# these two keys. "family" is not free: QKFormerBackbone has an argument of that name.
FORMAT_KEY, FAMILY_KEY = "format", "model_family"
FORMAT = 1
# Folders without a format were written when there was only this family.
FIRST_FAMILY = "qkformer"
WEIGHTS_VARIABLE = "KERAS_QKFORMER_WEIGHTS"
PACKAGE = Path(__file__).resolve().parents[1]
_BEFORE = (CONFIG_FILE, WEIGHTS_FILE)  # With digests in metadata of older versions.


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


def named_folder(place):
    """Return the folder of a place, which may be the name of kept weights.

    Args:
        place: str or path. A path that exists comes before a name.

    Returns:
        Path of the folder of these weights, or else `place` itself.

    Raises:
        OSError: see `finish_saving`.
    """
    name = os.fspath(place)
    if not os.path.exists(name) and name in kept_weights():
        return weights_folder() / name
    finish_saving(Path(name))
    return place


def like_weights(place):
    """Return a hint at the weights whose name a wrong place may have been.

    A preset is a model without weights, which only training or a checkpoint gives it.

    Args:
        place: str or path.

    Returns:
        str that starts with a space, or is empty for a path of more than a name.
    """
    name = os.fspath(place)
    if os.path.exists(name) or os.path.basename(name) != name:
        return ""
    names = kept_weights()
    if name in PRESETS:
        return (
            " (a preset, which has no weights: keras-qkformer fit RECIPE --set "
            f"preset={name} trains it, convert takes a checkpoint of its authors; "
            f"weights: {', '.join(names) or 'none'})"
        )
    return did_you_mean(name, names) or f" (weights: {', '.join(names) or 'none'})"


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


def weights_file(folder):
    """Find the weights of a preset folder.

    Args:
        folder: path.

    Returns:
        Path of `model.weights.h5` or `model.safetensors`; of the former if the folder
        has neither.

    Raises:
        ValueError: if the folder has both.
    """
    found = [n for n in WEIGHTS_FILES.values() if (folder / n).exists()]
    if len(found) > 1:
        raise ValueError(
            f"A preset folder must have one file of weights. Received: {str(folder)!r} "
            f"with {' and '.join(found)}"
        )
    return folder / (found or [WEIGHTS_FILE])[0]


def replace_preset(new, folder):
    """Put the files of a new preset in place of those of a folder.

    At any moment, either the old or the new files load: the new ones appear in
    `NEW_FOLDER` in one step, and whoever reads the folder next moves them from there if
    this process is killed. Other files of the folder stay.

    Args:
        new: path of a folder on the same disk with the files, but for the manifest.
        folder: path of the folder.

    Raises:
        OSError: if the files can't be read or moved.
    """
    names = [name for name in file_names(folder) if name not in _SAVED]
    write_manifest(new, {name: folder / name for name in names})
    finish_saving(folder)
    move(new, folder / NEW_FOLDER)
    finish_saving(folder)


def finish_saving(folder):
    """Move what `replace_preset` has saved into its place, if it was killed meanwhile.

    Args:
        folder: path of a preset folder, or of anything else.

    Raises:
        OSError: if it can't be moved, as in a folder that can only be read.
    """
    new = folder / NEW_FOLDER
    if new.is_symlink() or not new.is_dir():
        return
    try:
        found = [name for name in _SAVED if (new / name).is_file()]
        weights = {*WEIGHTS_FILES.values()}
        # First, while the new weights tell that others must go.
        for name in weights - {*found} if weights & {*found} else ():
            (folder / name).unlink(missing_ok=True)
        for name in found:
            with contextlib.suppress(FileNotFoundError):  # Another process was faster.
                os.replace(new / name, folder / name)
    except OSError as error:
        raise OSError(
            "A preset folder whose saving was interrupted must be writable once, to "
            f"move the new files from {NEW_FOLDER!r} in it. Received: {str(folder)!r}: "
            f"{error}"
        ) from error
    with contextlib.suppress(OSError):  # Something else may lie there.
        new.rmdir()


def check_preset(folder):
    """Check the files of a preset folder, see `manifest.check_folder`.

    Args:
        folder: str or path.

    Raises:
        ValueError: if a file is damaged, missing or not listed, unless `trusting()`.
        OSError: see `finish_saving`.
    """
    finish_saving(Path(folder))
    check_folder(folder, digests_before)


def check_preset_and_read(folder):
    """Check a preset folder, and read its weights in a thread.

    Args:
        folder: path.

    Returns:
        Function that returns the verified weights, see `check_folder_and_read`. It
        raises `ValueError` if there are none: what is wrong with the config is told
        first.

    Raises:
        ValueError: see `check_preset`, or if the folder has two files of weights.
        OSError: see `finish_saving`.
    """
    finish_saving(folder)
    path = weights_file(folder)
    verified = check_folder_and_read(folder, path.name, digests_before)

    def weights():
        if not path.is_file():
            raise ValueError(
                f"The weights must fit the {CONFIG_FILE} beside them. "
                f"Received: no such file as {str(path)!r}"
            )
        return verified()

    return weights


def digests_before(folder):
    """Return the digests that the metadata of a folder without a manifest hold.

    Args:
        folder: path.

    Returns:
        Dict from the names of files to their SHA-256.

    Raises:
        ValueError: if the folder must have a manifest.
    """
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

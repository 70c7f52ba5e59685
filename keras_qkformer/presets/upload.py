"""Upload preset folders to hubs, with a model card and a licence."""

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from keras_qkformer.forms import PresetMetadata, Results
from keras_qkformer.json_files import LARGE_LIMIT, read_json
from keras_qkformer.manifest import CARD_FILE, MANIFEST_FILE, read_manifest
from keras_qkformer.presets.card import (
    LICENCE,
    is_edited,
    licence_of,
    make_card,
)
from keras_qkformer.presets.folders import (
    METADATA_FILE,
    WEIGHTS_FILES,
    check_preset,
    finish_saving,
)
from keras_qkformer.presets.hubs import hub_of, package_of, parse, reason_of
from keras_qkformer.printable import printable


@dataclasses.dataclass(frozen=True)
class Upload:
    """What is to be uploaded, see `prepare_upload`.

    Attributes:
        address: str. Where to.
        folder: path of the preset folder.
        licence: str. Identifier of the licence.
        card: str. The model card.
        sizes: dict from the names of all files to their sizes in bytes.
    """

    address: str
    folder: Path
    licence: str
    card: str
    sizes: Mapping


def upload_preset(
    address: str,
    folder: str | os.PathLike,
    licence: str | None = None,
    private: bool = False,
    report: str | os.PathLike | None = None,
) -> str:
    """Upload a preset folder to a hub, so that `from_preset(address)` loads it.

    Sent are the files of its manifest, the manifest, and the model card: `README.md`,
    made anew unless you edited it. Nothing else in the folder is.

    Args:
        address: str. `"hf://owner/repository"`, perhaps with `"@branch"` of it and
            `"/folder"`; or `"kaggle://owner/model/framework/variation"`. The repository
            is made if needed.
        folder: str or path of a preset folder, or of a workdir of `fit`, whose best
            epoch is sent and whose results and report stand in the card.
        licence: str. Identifier of the weights' licence, such as `"apache-2.0"` (for
            Kaggle, one of its names). `None` if the folder's metadata, or its edited
            card, name one.
        private: bool. Whether the repository must be private. New ones of Kaggle always
            are, until you publish them on its page.
        report: str or path of the `report.json` of an analysis, for the card, or `None`
            for that in `report/` of a workdir, if it is newer than the weights.

    Returns:
        str: address of the page of what was uploaded.

    Raises:
        ValueError: if there is no such folder, a file in it is damaged, no licence is
            named, or the address has another form.
        OSError: if the hub can't be reached, or refuses; or `private` is true and the
            repository is public.
        ImportError: if the package of the hub is not installed.

    Example:
        upload_preset("hf://someone/digits", "runs/digits", licence="apache-2.0")
    """
    return send(prepare_upload(address, folder, licence, report), private)


def prepare_upload(address, folder, licence=None, report=None):
    """Check what `upload_preset` is to send, and make its card.

    Args:
        address: see `upload_preset`.
        folder: see `upload_preset`.
        licence: see `upload_preset`.
        report: see `upload_preset`.

    Returns:
        `Upload`.

    Raises:
        ValueError: see `upload_preset`.
    """
    hub = hub_of(address)
    if hub is None:
        raise ValueError(
            "An upload goes to hf://owner/repository or to "
            f"kaggle://owner/model/framework/variation. Received: {address!r}"
        )
    parts = parse(address)
    if hub == "kaggle" and parts[1] is not None:
        raise ValueError(
            "An upload to Kaggle makes the next version, so the address has none. "
            f"Received: {address!r}"
        )
    workdir, folder = Path(folder), Path(folder)
    if (folder / "best").is_dir():
        folder = folder / "best"
    finish_saving(folder)
    if not (folder / MANIFEST_FILE).is_file():
        raise ValueError(
            "What is uploaded must be a workdir of `fit` with at least one finished "
            f"epoch, or a preset folder with its {MANIFEST_FILE}. "
            f"Received: {str(folder)!r}"
        )
    check_preset(folder)
    entries = read_manifest(folder)
    card, licence = _card(address, workdir, folder, licence, report)
    sizes = {name: entry["size"] for name, entry in entries.items()}
    sizes[MANIFEST_FILE] = (folder / MANIFEST_FILE).stat().st_size
    sizes[CARD_FILE] = len(card.encode())
    return Upload(address, folder, licence, card, dict(sorted(sizes.items())))


def _card(address, workdir, folder, licence, report):
    """The model card of an upload, and the licence that it names."""
    metadata = read_json(folder / METADATA_FILE, PresetMetadata)
    if is_edited(folder):
        text = (folder / CARD_FILE).read_text("utf-8", "replace")
        found = licence_of(text)
        if licence not in (None, found) or found is None:
            raise ValueError(
                f"An edited {CARD_FILE} is sent as it is, so its front matter must "
                f"name the licence, such as license: apache-2.0. Received: {found!r} "
                f"in it, licence={licence!r}"
            )
        return text, found
    licence = licence or metadata.get("licence")
    if not isinstance(licence, str) or not _LICENCES[hub_of(address)].fullmatch(
        licence
    ):
        raise ValueError(
            "What is uploaded needs the licence of its weights, such as apache-2.0, "
            "cc-by-4.0 or other (--licence, or licence=). "
            f"Received: {licence!r}"
        )
    results = workdir / "results.json"
    has_results = folder != workdir and results.is_file()
    if report is None and folder != workdir:
        made = workdir / "report" / "report.json"
        weights = (folder / MANIFEST_FILE).stat().st_mtime
        report = made if made.is_file() and made.stat().st_mtime > weights else None
    card = make_card(
        folder,
        address=address,
        licence=licence,
        results=read_json(results, Results, LARGE_LIMIT) if has_results else None,
        report=report,
    )
    return card, licence


def send(upload, private=False):
    """Send what `prepare_upload` has prepared.

    Args:
        upload: `Upload`.
        private: see `upload_preset`.

    Returns:
        str: address of the page of what was uploaded.

    Raises:
        OSError: if the hub can't be reached, or refuses; or `private` is true and the
            repository is public.
        ImportError: if the package of the hub is not installed.
    """
    hub = hub_of(upload.address)
    package = package_of(hub)
    try:
        return _SENDERS[hub](package, upload, private)
    except Exception as error:
        raise OSError(
            f"Nothing could be uploaded to {upload.address}: {reason_of(error)}"
        ) from error


def _send_to_hf(package, upload, private):
    repository, revision, subfolder = parse(upload.address)
    api = package.HfApi()
    api.create_repo(repository, private=private or None, exist_ok=True)
    if private and not api.repo_info(repository).private:
        raise OSError("the repository is public, and must be private")
    place = f"{subfolder}/" if subfolder else ""
    operations = [
        package.CommitOperationAdd(
            place + name,
            upload.card.encode() if name == CARD_FILE else str(upload.folder / name),
        )
        for name in upload.sizes
    ]
    there = {*api.list_repo_files(repository, revision=revision)}
    # A preset has one file of weights: that of another format is no part of this one.
    operations += [
        package.CommitOperationDelete(place + name)
        for name in WEIGHTS_FILES.values()
        if name not in upload.sizes and place + name in there
    ]
    # One commit, so that nobody finds a half.
    commit = api.create_commit(
        repository,
        operations,
        commit_message=f"Upload a preset of {_made_by(upload)}",
        revision=revision,
    )
    return str(commit.commit_url)


def _send_to_kaggle(package, upload, private):
    variation, _ = parse(upload.address)
    # kagglehub sends whole folders; this one holds no more than was said.
    with tempfile.TemporaryDirectory(prefix="keras_qkformer_upload_") as place:
        for name in upload.sizes:
            target = Path(place) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name == CARD_FILE:
                target.write_text(upload.card, "utf-8")
            else:
                shutil.copyfile(upload.folder / name, target)
        package.model_upload(variation, place, license_name=upload.licence)
    return upload.address


def _made_by(upload):
    metadata = read_json(upload.folder / METADATA_FILE, PresetMetadata)
    version = printable(str(metadata.get("keras_qkformer", "")), 50)
    return f"keras_qkformer {version}".strip()


_SENDERS = {"hf": _send_to_hf, "kaggle": _send_to_kaggle}
_LICENCES = {"hf": LICENCE, "kaggle": re.compile(r"[\x20-\x7e]{1,100}")}

"""The base of the TFDS builders for recordings in a folder per class, or in a zip."""

import dataclasses
import math
import zipfile
from pathlib import PurePosixPath
from typing import NamedTuple

import tensorflow_datasets as tfds

from keras_qkformer.data.recordings.builder import (
    EventCameraBuilder,
    Recording,
    check_file,
    event_configs,
)
from keras_qkformer.events.byte_stream import DamagedRecordingError


class Place(NamedTuple):
    """Where the recordings of a split are: `<folder>/<class>/<name>`.

    Attributes:
        split: str, or `None` if the data set has no splits of its own.
        folder: str. Path from `manual_dir` or within the archive; `"."` stands for
            `manual_dir` itself.
        archive: str. Name of the zip that holds the folder, or empty if none is read.
        md5: str of hexadecimal digits. Digest of the archive, or empty if unknown.
        count: int. Number of recordings that are published, 0 if unknown.
    """

    split: str | None
    folder: str
    archive: str = ""
    md5: str = ""
    count: int = 0


@dataclasses.dataclass(frozen=True)
class ClassRecording(Recording):
    """A recording with its class.

    Attributes:
        label: str. Name of the class.
        split: str, or `None` if the data set has no splits of its own.
    """

    label: str = ""
    split: str | None = None


class ClassFolderBuilder(EventCameraBuilder, skip_registration=True):
    """Builds a data set whose recordings lie in a folder per class.

    A data set without splits of its own is split class by class: of the recordings
    sorted by name as strings, the first are for training, as many as `TRAIN_SHARE` of
    them, rounded up.

    Attributes:
        PLACES: tuple of `Place`.
        EXTENSION: str. Extension of the recordings.
        TRAIN_SHARE: float. See above.
    """

    BUILDER_CONFIGS = event_configs()
    PLACES = ()
    EXTENSION = ".bin"
    TRAIN_SHARE = 0.9

    def find_recordings(self, manual_dir):
        recordings, verified = [], set()
        for place in self.PLACES:
            archive, folder = manual_dir / place.archive, manual_dir / place.folder
            if place.archive and archive.is_file():
                if self.verify_files and place.archive not in verified:
                    check_file(archive, md5=place.md5)
                    verified.add(place.archive)
                paths = _paths_in(archive, place.folder)
            elif folder.is_dir():
                paths = [(path.relative_to(folder), path) for path in _files(folder)]
                archive = None
            else:
                either = f"{place.archive} or " if place.archive else ""
                raise ValueError(
                    f"The folder must hold {either}{place.folder}/, see the builder's "
                    f"README.md. Received: {str(manual_dir)!r}"
                )
            found = [
                self._recording(place.split, inner, path, archive)
                for inner, path in sorted(paths)
                if inner.suffix == self.EXTENSION and not inner.name.startswith(".")
            ]
            self._check(found, place, manual_dir)
            recordings += found
        return recordings

    def _recording(self, split, inner, path, archive):
        label = inner.parts[0]
        name = "_".join([part for part in (split, label, inner.stem) if part])
        where = (path, None) if archive is None else (archive, path)
        return ClassRecording(name, *where, self.SENSOR_SIZE, label, split)

    def _check(self, found, place, manual_dir):
        """Raise `ValueError` unless all classes are there and nothing else is."""
        labels = {recording.label for recording in found}
        unknown = sorted(labels - {*self.CLASS_NAMES})
        missing = [name for name in self.CLASS_NAMES if name not in labels]
        if unknown or (missing and self.verify_files) or not found:
            raise ValueError(
                f"{place.folder}/ must have a folder of recordings ({self.EXTENSION}) "
                f"for each of the {len(self.CLASS_NAMES)} classes, and for nothing "
                f"else. Received: {str(manual_dir)!r} without {missing[:3]} and with "
                f"{unknown[:3]}"
            )
        if self.verify_files and place.count not in (0, len(found)):
            raise ValueError(
                f"{place.folder}/ must have the {place.count} published recordings; "
                "--any-files (verify_files=False) accepts others. "
                f"Received: {len(found)}"
            )
        names = {recording.name for recording in found}
        if len(names) != len(found):
            raise ValueError(
                f"The recordings of {place.folder}/ must have different names. "
                f"Received: {len(found)} recordings with {len(names)} names"
            )

    def split_recordings(self, recordings):
        splits = {}
        for label in self.CLASS_NAMES:
            chosen = [r for r in recordings if r.label == label]
            first = math.ceil(self.TRAIN_SHARE * len(chosen))
            for number, recording in enumerate(chosen):
                split = recording.split or ("train" if number < first else "test")
                splits.setdefault(split, []).append(recording)
        return {split: splits.get(split, []) for split in ("train", "test")}

    def cut(self, recording, events, damage):
        if not len(events):
            if damage:
                return  # The damage precedes all events.
            raise DamagedRecordingError(0, "expected events. Received: none.")
        yield (
            recording.name,
            events,
            {"label": recording.label, "recording": recording.name},
        )

    def extra_features(self):
        return {"recording": tfds.features.Text()}


def _files(folder):
    return (path for path in folder.glob("*/*") if path.is_file())


def _paths_in(archive, folder):
    """Yield `(path within the folder, name in the archive)` of `<class>/<file>`."""
    try:
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{archive} must be a whole archive. Received: {error}"
        ) from error
    for name in names:
        inner = PurePosixPath(name.removeprefix(f"{folder}/"))
        if name.startswith(f"{folder}/") and len(inner.parts) == 2:
            yield inner, name

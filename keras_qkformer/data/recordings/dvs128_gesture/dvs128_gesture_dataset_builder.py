"""The TFDS builder of DVS128 Gesture."""

import csv
import gzip
import re
import tarfile
import zlib

import numpy as np
import tensorflow_datasets as tfds

from keras_qkformer.data.recordings.builder import (
    EventCameraBuilder,
    Recording,
    check_file,
    event_configs,
)
from keras_qkformer.events.byte_stream import DamagedRecordingError
from keras_qkformer.files import beside, move
from keras_qkformer.printable import printable
from keras_qkformer.published_data import DVS128_GESTURE_NAMES

FOLDER = "DvsGesture"
LIGHTS = ("fluorescent", "fluorescent_led", "lab", "led", "natural")
SPLIT_FILES = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
RECORDINGS = 122
ARCHIVE_MD5 = "8a5c71fb11e24e5ca5b11866ca6c00a1"
FILES = {
    "gesture_mapping.csv": {"md5": "109b2ae64a0e1f3ef535b18ad7367fd1"},
    "user01_natural.aedat": {
        "size": 67_386_381,
        "sha256": "c32f9c9e465424794fcddb0b31317c5d7ef627c3ef95277b364f3728fff79f04",
    },
}


class Builder(EventCameraBuilder):
    """DVS128 Gesture; see README.md beside this file."""

    BUILDER_CONFIGS = event_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download DvsGesture.tar.gz by hand from "
        "https://research.ibm.com/interactive/dvsgesture/ and put it, or the folder "
        "DvsGesture unpacked from it, into manual_dir."
    )
    HOMEPAGE = "https://research.ibm.com/interactive/dvsgesture/"
    CLASS_NAMES = DVS128_GESTURE_NAMES  # In the order of their codes, 1 to 11.

    def find_recordings(self, manual_dir):
        folder = self._find_folder(manual_dir)
        if self.verify_files:
            for name, expected in FILES.items():
                if not (folder / name).is_file():
                    raise ValueError(f"{folder} must hold {name}. Received: none")
                check_file(folder / name, **expected)
        recordings = [
            Recording(name, folder / f"{name}.aedat")
            for split in SPLIT_FILES
            for name in _read_split(folder, split)
        ]
        for recording in recordings:
            for path in (recording.path, _labels_path(recording)):
                if not path.is_file():
                    raise ValueError(f"{folder} must hold {path.name}. Received: none")
        names = {recording.name for recording in recordings}
        if len(names) != len(recordings) or (
            self.verify_files and len(names) != RECORDINGS
        ):
            raise ValueError(
                f"The splits must name {RECORDINGS} different recordings. "
                f"Received: {len(recordings)}, {len(names)} of them different"
            )
        return recordings

    def split_recordings(self, recordings):
        splits = {}
        for split in SPLIT_FILES:
            names = set(_read_split(recordings[0].path.parent, split))
            splits[split] = [r for r in recordings if r.name in names]
        return splits

    def cut(self, recording, events, damage):
        user, light = re.fullmatch(r"user(\d\d)_(\w+)", recording.name).groups()
        t = events["t"]
        last = int(t[-1]) if len(t) else -1
        for number, (code, start, end) in enumerate(read_labels(recording)):
            if damage and end > last:
                continue  # The damage cuts off the end of this example.
            part = events[(t >= start) & (t < end)]
            if not len(part):
                raise DamagedRecordingError(
                    recording.path.stat().st_size,
                    f"expected events from {start} to {end} microseconds before, as "
                    f"{_labels_path(recording).name} says. Received: none.",
                )
            yield (
                f"{recording.name}_{number:02d}",
                part,
                {
                    "label": code - 1,
                    "recording": recording.name,
                    "number": number,
                    "user": int(user),
                    "light": light,
                    "start_us": start,
                    "end_us": end,
                },
            )

    def extra_features(self):
        return {
            "recording": tfds.features.Text(),
            "number": np.int64,
            "user": np.int64,
            "light": tfds.features.ClassLabel(names=LIGHTS),
            "start_us": np.int64,
            "end_us": np.int64,
        }

    def _find_folder(self, manual_dir):
        for folder in (manual_dir / FOLDER, manual_dir):
            if (folder / SPLIT_FILES["train"]).is_file():
                return folder
        archive = manual_dir / f"{FOLDER}.tar.gz"
        if not archive.is_file():
            raise ValueError(
                f"The folder must hold {FOLDER}/ or {FOLDER}.tar.gz, see the builder's "
                f"README.md. Received: {str(manual_dir)!r}"
            )
        if self.verify_files:
            check_file(archive, md5=ARCHIVE_MD5)
        with beside(manual_dir / FOLDER) as new:
            try:
                with tarfile.open(archive) as unpacked:
                    unpacked.extractall(new.parent, filter="data")
                    while unpacked.fileobj.read(1 << 20):
                        pass  # The checksum of gzip comes last.
            except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
                raise ValueError(
                    f"{archive} must be a whole archive. Received: {error}"
                ) from error
            if not (new / SPLIT_FILES["train"]).is_file():
                raise ValueError(
                    f"{archive} must hold {FOLDER}/{SPLIT_FILES['train']}. "
                    "Received: none"
                )
            move(new, manual_dir / FOLDER)
        return manual_dir / FOLDER


def read_labels(recording):
    """Read the label file of a recording.

    Args:
        recording: `Recording`.

    Returns:
        List of `(code, start_us, end_us)`: codes from 1 to 11, times in microseconds,
        the end exclusive.

    Raises:
        ValueError: if the file is no label file.
    """
    path = _labels_path(recording)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
        if header != ["class", "startTime_usec", "endTime_usec"]:
            raise ValueError(f"the first line {header}")
        labels = []
        for row in rows:
            code, start, end = map(int, row)
            if not (
                1 <= code <= len(Builder.CLASS_NAMES) and 0 <= start < end < 1 << 63
            ):
                raise ValueError(row)
            labels.append((code, start, end))
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} must have the columns class (1 to 11), startTime_usec and "
            f"endTime_usec, in UTF-8. Received: {printable(str(error))}"
        ) from error
    return labels


def _read_split(folder, split):
    path = folder / SPLIT_FILES[split]
    if not path.is_file():
        raise ValueError(f"{folder} must hold {path.name}. Received: none")
    text = path.read_text(encoding="utf-8", errors="replace")  # Then no name fits.
    names = [line.strip() for line in text.splitlines() if line.strip()]
    for name in names:
        match = re.fullmatch(r"user\d\d_(\w+)\.aedat", name)
        if not match or match[1] not in LIGHTS:
            raise ValueError(
                f"{path} must name recordings such as user01_natural.aedat. "
                f"Received: {name!r}"
            )
    return [name.removesuffix(".aedat") for name in names]


def _labels_path(recording):
    return recording.path.with_name(f"{recording.name}_labels.csv")

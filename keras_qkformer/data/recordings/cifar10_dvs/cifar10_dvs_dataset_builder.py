"""The TFDS builder of CIFAR10-DVS."""

import math
import re
import zipfile

import numpy as np
import tensorflow_datasets as tfds

from keras_qkformer.data.recordings.builder import (
    EventCameraBuilder,
    Recording,
    check_file,
    event_configs,
)
from keras_qkformer.events.byte_stream import DamagedRecordingError
from keras_qkformer.published_data import CIFAR10_NAMES

RECORDINGS_PER_CLASS = 1000


class Builder(EventCameraBuilder):
    """CIFAR10-DVS; see README.md beside this file."""

    BUILDER_CONFIGS = event_configs() + event_configs(clean=True)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download the ten archives airplane.zip to truck.zip by hand from "
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671 and put them, "
        "or the folders airplane/ to truck/ unpacked from them, into manual_dir."
    )
    HOMEPAGE = "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671"
    ORIENTATION = "spikingjelly"
    CLASS_NAMES = CIFAR10_NAMES

    def find_recordings(self, manual_dir):
        published = {info.filename: info for info in self.url_infos.values()}
        recordings = []
        for name in self.CLASS_NAMES:
            archive, folder = manual_dir / f"{name}.zip", manual_dir / name
            if archive.is_file():
                if self.verify_files:
                    info = published[archive.name]
                    check_file(archive, size=int(info.size), sha256=info.checksum)
                found = _members(archive)
            elif folder.is_dir():
                paths = [path for path in folder.glob("*.aedat") if path.is_file()]
                found = [Recording(path.stem, path) for path in paths]
            else:
                raise ValueError(
                    f"The folder must hold {name}.zip or {name}/, see the builder's "
                    f"README.md. Received: {str(manual_dir)!r}"
                )
            numbers = [_number(recording) for recording in found]
            if self.verify_files and sorted(numbers) != [*range(RECORDINGS_PER_CLASS)]:
                raise ValueError(
                    f"Class {name} must have {RECORDINGS_PER_CLASS} recordings, "
                    f"cifar10_{name}_0.aedat and so on. Received: {len(found)}"
                )
            if len({recording.name for recording in found}) != len(found):
                raise ValueError(
                    f"Recordings of class {name} must have different names. "
                    f"Received: a name twice in {str(archive)!r}"
                )
            recordings += sorted(found, key=lambda recording: recording.name)
        return recordings

    def split_recordings(self, recordings):
        splits = {}
        for name in self.CLASS_NAMES:
            chosen = [r for r in recordings if class_of(r) == name]
            split = split_clean if self.builder_config.clean else split_as_published
            for key, part in split(chosen).items():
                splits.setdefault(key, []).extend(part)
        return splits

    def cut(self, recording, events, damage):
        if not len(events):
            if damage:
                return  # The damage precedes all events.
            raise DamagedRecordingError(0, "expected events. Received: none.")
        yield (
            recording.name,
            events,
            {
                "label": class_of(recording),
                "recording": recording.name,
                "number": _number(recording),
            },
        )

    def extra_features(self):
        return {"recording": tfds.features.Text(), "number": np.int64}


def split_as_published(recordings):
    """Split recordings into train and test as QKFormer's authors do.

    The first nine tenths (rounded up) of the recordings, sorted by name as strings, are
    for training. With 1000 recordings, the test has numbers 91 to 99 and 909 to 999.

    Args:
        recordings: list of `Recording` of one class.

    Returns:
        Dict with the lists `train` and `test`.
    """
    ordered = sorted(recordings, key=lambda r: f"{r.name}.aedat")
    count = math.ceil(0.9 * len(ordered))
    return {"train": ordered[:count], "test": ordered[count:]}


def split_clean(recordings):
    """Split recordings into train, validation and test, 8 : 1 : 1, sorted by number.

    Args:
        recordings: list of `Recording` of one class.

    Returns:
        Dict with the lists `train`, `validation` and `test`: with 1000 recordings, the
        numbers 0 to 799, 800 to 899 and 900 to 999.
    """
    ordered = sorted(recordings, key=_number)
    first, second = (math.ceil(part * len(ordered)) for part in (0.8, 0.9))
    return {
        "train": ordered[:first],
        "validation": ordered[first:second],
        "test": ordered[second:],
    }


def class_of(recording):
    """Return the name of the class of a recording.

    Args:
        recording: `Recording` named `cifar10_<class>_<number>`.

    Returns:
        str.

    Raises:
        ValueError: if it has another name.
    """
    return _parse(recording)[1]


def _number(recording):
    return int(_parse(recording)[2])


def _parse(recording):
    match = re.fullmatch(r"cifar10_([a-z]+)_(\d+)", recording.name)
    if not match or match[1] not in Builder.CLASS_NAMES:
        raise ValueError(
            "Recordings must be called like cifar10_airplane_0.aedat. "
            f"Received: {str(recording)!r}"
        )
    return match


def _members(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} must be a whole archive. Received: {error}"
        ) from error
    return [
        Recording(name.rpartition("/")[2].removesuffix(".aedat"), path, name)
        for name in names
        if name.endswith(".aedat")
    ]

"""The base of the TFDS builders for recordings of event cameras."""

import abc
import dataclasses
import functools
import hashlib
import lzma
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from keras_qkformer.events.byte_stream import DamagedRecordingError
from keras_qkformer.events.event_array import EVENT_DTYPE
from keras_qkformer.events.frames import events_to_frames
from keras_qkformer.events.recording import iter_recording
from keras_qkformer.files import whole_file

FRAME_COUNTS = (10, 16)
_LARGEST_MEMBER = 1 << 30  # In bytes. Published recordings have a mebibyte on average.


@dataclasses.dataclass(eq=False)
class EventConfig(tfds.core.BuilderConfig):
    """A config of a data set: events or frames, and the splits.

    Attributes:
        num_frames: int, the number of frames of equally many events per example, or
            `None` for the events themselves.
        clean: bool. Whether to use the clean splits, which choose an epoch and report
            on different examples, instead of the published ones.
    """

    num_frames: int | None = None
    clean: bool = False


def event_configs(*, clean=False):
    """Make the configs `events`, `frames_t10` and `frames_t16`.

    Args:
        clean: bool. Whether to make `events_clean`, `frames_t10_clean` and
            `frames_t16_clean` instead, with the clean splits, see `EventConfig`.

    Returns:
        List of `EventConfig`.
    """
    suffix = "_clean" if clean else ""
    splits = "separate validation and test splits" if clean else "published splits"
    return [
        EventConfig(
            name=f"events{suffix}",
            description=f"The events themselves; {splits}.",
            clean=clean,
        ),
        *(
            EventConfig(
                name=f"frames_t{count}{suffix}",
                description=f"{count} frames of equally many events; {splits}.",
                num_frames=count,
                clean=clean,
            )
            for count in FRAME_COUNTS
        ),
    ]


@dataclasses.dataclass(frozen=True)
class Recording:
    """A file of events, perhaps in a zip archive.

    Attributes:
        name: str. File name without extension.
        path: `Path` of the file or of the archive.
        member: str, the name in the archive, or `None`.
        sensor_size: (height, width) in pixels, for files that don't state it.
    """

    name: str
    path: Path
    member: str | None = None
    sensor_size: tuple[int, int] = (128, 128)

    def __str__(self):
        return f"{self.path}" if self.member is None else f"{self.path}:{self.member}"

    def fingerprint(self):
        """Return a short text that changes with the file."""
        if self.member is None:
            status = self.path.stat()
            return f"{status.st_size:x}-{status.st_mtime_ns:x}"
        info = _archive(self.path).getinfo(self.member)
        return f"{info.file_size:x}-{info.CRC:x}"

    def read(self, orientation):
        """Read all events before the first damage.

        Time may run backwards: frames of equally many events need no order.

        Args:
            orientation: str. See `keras_qkformer.events.aedat2.read_aedat2`.

        Returns:
            `(events, damage)`: array `(events,)` of `EVENT_DTYPE`, and
            `DamagedRecordingError` or `None`.
        """
        chunks, damage = [np.empty(0, EVENT_DTYPE)], None
        try:
            source = self.path if self.member is None else self._unpacked()
            chunks.extend(
                iter_recording(
                    source,
                    name=self.member,
                    orientation=orientation,
                    sensor_size=self.sensor_size,
                    ordered=False,
                )
            )
        except DamagedRecordingError as error:
            damage = error
        return np.concatenate(chunks), damage

    def _unpacked(self):
        archive = _archive(self.path)
        size = archive.getinfo(self.member).file_size
        if size > _LARGEST_MEMBER:
            raise DamagedRecordingError(
                0, f"expected at most {_LARGEST_MEMBER} bytes. Received: {size}."
            )
        # Encryption is a RuntimeError, an unknown compression a NotImplementedError.
        kinds = zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError
        try:
            return archive.read(self.member)
        except (*kinds, OSError, ValueError) as error:
            raise DamagedRecordingError(
                0, f"expected a whole file in the archive {self.path}: {error}."
            ) from error


class EventCameraBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds a data set of recordings that are downloaded by hand.

    Attributes:
        ORIENTATION: str. How AEDAT 2.0 is read, see `aedat2.read_aedat2`.
        SENSOR_SIZE: (height, width) in pixels, at most 256 each.
        HOMEPAGE: str. Address of the data set's page.
        CLASS_NAMES: tuple of str, in the order of the labels.

    Args:
        verify_files: bool. Whether files must be the published ones.
        strict: bool. Whether a damaged recording is an error; otherwise its events
            before the damage are used.
        cache_dir: str, path or `None`. Folder with the examples of recordings that were
            read before.
        **kwargs: passed to `tfds.core.GeneratorBasedBuilder`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    ORIENTATION = "jaer"
    SENSOR_SIZE = (128, 128)
    HOMEPAGE = None
    CLASS_NAMES = ()

    def __init__(self, *, verify_files=True, strict=True, cache_dir=None, **kwargs):
        super().__init__(**kwargs)
        self.verify_files = verify_files
        self.strict = strict
        self.cache_dir = cache_dir

    @abc.abstractmethod
    def find_recordings(self, manual_dir):
        """Find and verify all recordings, in the order of the published splits.

        Args:
            manual_dir: `Path` of the folder with the downloaded files.

        Returns:
            List of `Recording`.

        Raises:
            ValueError: if files are missing or, with `verify_files`, not the published
                ones.
        """

    @abc.abstractmethod
    def split_recordings(self, recordings):
        """Return `{split: recordings}` for this config.

        Args:
            recordings: list of `Recording`, see `find_recordings`.
        """

    @abc.abstractmethod
    def cut(self, recording, events, damage):
        """Yield `(key, events, fields)` of each example in a recording.

        Args:
            recording: `Recording`.
            events: array `(events,)` of `EVENT_DTYPE`.
            damage: error that ends the events, or `None`.

        Raises:
            DamagedRecordingError: if a part that should have events has none.
        """

    @abc.abstractmethod
    def extra_features(self):
        """Return a dict of the features besides the label and events or frames."""

    def examples_of(self, recording, events, damage):
        """Make the examples of a recording for this config.

        Args:
            recording: `Recording`.
            events: see `cut`.
            damage: see `cut`.

        Yields:
            `(key, example)`, an example a dict of features.
        """
        for key, part, fields in self.cut(recording, events, damage):
            yield key, {**self._inputs(part), **fields}

    def is_cached(self, recording):
        """Return whether the examples of a recording are in the cache."""
        return self.cache_dir is not None and self._cached(recording).exists()

    def save_to_cache(self, recording, examples):
        """Write the examples of a recording to the cache, as one whole file.

        Args:
            recording: `Recording`.
            examples: iterable of `(key, example)`, see `examples_of`.
        """
        target = self._cached(recording)
        packing = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 1}
        with (
            whole_file(target) as place,
            zipfile.ZipFile(place, "w", **packing) as archive,
        ):
            for key, example in examples:
                for name, value in example.items():
                    with archive.open(f"{key}/{name}.npy", "w") as file:
                        np.lib.format.write_array(file, np.asarray(value))

    def _cached(self, recording):
        name = f"{recording.name}-{recording.fingerprint()}.npz"
        return Path(self.cache_dir) / self.builder_config.name / name

    def _inputs(self, events):
        if self.builder_config.num_frames is None:
            return {
                "t": events["t"],
                "x": events["x"].astype("uint8"),
                "y": events["y"].astype("uint8"),
                "p": events["p"],
            }
        return {
            "frames": events_to_frames(
                events, self.builder_config.num_frames, self.SENSOR_SIZE, dtype="uint16"
            )
        }

    def _info(self):
        def tensor(shape, dtype):
            return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="zlib")

        count = self.builder_config.num_frames
        if count is None:
            types = {"t": np.int64, "x": np.uint8, "y": np.uint8, "p": np.bool_}
            inputs = {name: tensor((None,), dtype) for name, dtype in types.items()}
        else:
            inputs = {"frames": tensor((count, *self.SENSOR_SIZE, 2), np.uint16)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **inputs,
                    "label": tfds.features.ClassLabel(names=self.CLASS_NAMES),
                    **self.extra_features(),
                }
            ),
            supervised_keys=None if count is None else ("frames", "label"),
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager):
        recordings = self.find_recordings(Path(os.fspath(dl_manager.manual_dir)))
        return {
            split: self._generate_examples(chosen)
            for split, chosen in self.split_recordings(recordings).items()
        }

    def _generate_examples(self, recordings):
        for recording in recordings:
            if self.is_cached(recording):
                yield from _load_examples(self._cached(recording))
                continue
            events, damage = recording.read(self.ORIENTATION)
            if damage and self.strict:
                raise ValueError(f"{recording}: {damage}") from damage
            try:
                yield from self.examples_of(recording, events, damage)
            except DamagedRecordingError:  # No events, as `prepare` tells.
                if self.strict:
                    raise


def check_file(path, *, size=None, md5=None, sha256=None):
    """Raise `ValueError` unless a file is the published one.

    Args:
        path: `Path` of the file.
        size: int, in bytes, or `None` not to check it.
        md5: str of hexadecimal digits, or `None` not to check it.
        sha256: str of hexadecimal digits, or `None` not to check it.
    """
    expected = {"bytes": size, "md5": md5, "sha256": sha256}
    for kind, wanted in expected.items():
        if wanted is None:
            continue
        if kind == "bytes":
            found = path.stat().st_size
        else:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
        if found != wanted:
            raise ValueError(
                f"{path} must be the published file with {kind} {wanted}. "
                f"Received: {found}. Download it again or, if it differs on purpose, "
                "use --any-files (verify_files=False)"
            )


def _load_examples(path):
    """Yield `(key, example)` of a file of the cache."""
    with path.open("rb") as file, np.load(file) as arrays:
        examples = {}
        for place in arrays.files:
            key, _, name = place.partition("/")
            value = arrays[place]
            examples.setdefault(key, {})[name] = value if value.ndim else value.item()
        yield from examples.items()


@functools.lru_cache(maxsize=32)
def _archive(path):
    return zipfile.ZipFile(path)

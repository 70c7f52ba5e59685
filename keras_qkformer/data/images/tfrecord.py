"""Images in TFRecord files, of TFDS or your own, as a source."""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_qkformer.data.images.encoded_images import IN_PARALLEL, EncodedImages
from keras_qkformer.data.records import HEADER, scan_records, single
from keras_qkformer.data.source import Source, check_split
from keras_qkformer.data.tracing import without_autograph
from keras_qkformer.files import whole_file
from keras_qkformer.printable import printable
from keras_qkformer.published_data import GREY_PIXELS, IMAGENET_PIXELS

IMAGE_KEYS = ("image", "image/encoded")
LABEL_KEYS = ("label", "image/class/label")
"""Features of a record, of which the first present is read: TFDS's, then Slim's."""


def tfds(name, *, data_dir=None, channels=3, strict=False, statistics=IMAGENET_PIXELS):
    """Return the images of a prepared TFDS data set, decoded when needed.

    Args:
        name: str. Name of a TFDS data set such as `"imagenet2012"`, perhaps with a
            config.
        data_dir: str or path of the folder with prepared data sets, or `None` for the
            default of TFDS.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.
        statistics: dict of `mean` and `std`, one float per channel, of the values in
            [0, 1] of colour images.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such data set, it has no images with labels, or it
            is not prepared, or its files name a feature of a module that is not loaded.
    """
    import tensorflow_datasets  # Importing takes a second, and few sources need it.

    try:
        with _no_modules_of_files():
            _check_plain(name)
            builder = tensorflow_datasets.builder(name, data_dir=data_dir)
            features = builder.info.features
    except (
        *(tensorflow_datasets.core.DatasetNotFoundError, ValueError),
        *(KeyError, TypeError, AttributeError),  # Of damaged files.
    ) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            "data.name must be that of a data set of TFDS. "
            f"Received: {name!r}: {printable(reason, 1000)}"
        ) from error
    if not {"image", "label"} <= set(features):
        raise ValueError(
            "A data set of TFDS must have the features image and label. "
            f"Received: {sorted(features)} of {name!r}"
        )
    if not builder.data_path.exists():
        raise ValueError(
            'The data set must be prepared: python -c "import tensorflow_datasets; '
            f"tensorflow_datasets.builder('{name}', data_dir={data_dir!r})"
            '.download_and_prepare()" (imagenet2012: put the two tar files into '
            "downloads/manual first). "
            f"Received: nothing at {os.fspath(builder.data_path)!r}"
        )

    def load(split, bounds):
        check_split(split, builder.info.splits)
        paths = builder.info.splits[split].filepaths
        classes = len(features["label"].names)
        return _load_records(paths, bounds, channels, strict, damaged, classes)

    damaged = {}
    return Source(
        class_names=tuple(features["label"].names),
        load=load,
        damaged=damaged,
        **(statistics if channels == 3 else GREY_PIXELS),
    )


def _check_plain(name):
    """Raise `ValueError` for a name with a namespace: its code would be downloaded."""
    from tensorflow_datasets.core import naming

    if naming.parse_builder_name_kwargs(name)[0].namespace:
        raise ValueError("a namespace stands for code that would be downloaded")


@contextlib.contextmanager
def _no_modules_of_files():
    """Context in which TFDS imports no module because a data set's files name it.

    Its `features.json` names classes. TFDS imports their modules, whatever they are,
    and the data set may be that of a recipe in a workdir of others.
    """
    from tensorflow_datasets.core.features import FeatureConnector

    kept = FeatureConnector.__dict__["cls_from_name"]
    find = FeatureConnector.cls_from_name

    def known(name):
        module = name.rpartition(".")[0]
        if module not in sys.modules:
            raise ValueError(
                f"its features need {printable(module)}: name it, --import MODULE"
            )
        return find(name)

    FeatureConnector.cls_from_name = staticmethod(known)
    try:
        yield
    finally:
        FeatureConnector.cls_from_name = kept


def tfrecord(*, data_dir=None, channels=3, strict=False):
    """Return the images in the files `<split>-*` or `<split>.tfrecord*` of a folder.

    A record is a `tf.train.Example` with an encoded image (`image` or `image/encoded`)
    and a label from 0 (`label` or `image/class/label`). A file `labels.txt` in the
    folder holds the names of the classes, one per line.

    Args:
        data_dir: str or path of the folder, always needed.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such folder or no `labels.txt` in it.
    """
    root = Path(data_dir or ".")
    names_file = root / "labels.txt"
    if data_dir is None or not names_file.is_file():
        raise ValueError(
            "data.data_dir must be a folder with TFRecord files and the names of their "
            f"classes in labels.txt. Received: {data_dir!r}"
        )
    names = names_file.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    names = [name.strip() for name in names if name.strip()]

    def load(split, bounds):
        starts = (f"{split}-", f"{split}.tfrecord")
        paths = sorted(p for p in root.iterdir() if p.name.startswith(starts))
        if not paths or not split:
            raise ValueError(
                f"A split must have files {split}-* or {split}.tfrecord* in {root}. "
                f"Received: {split!r}"
            )
        return _load_records(paths, bounds, channels, strict, damaged, len(names))

    damaged = {}
    return Source(
        class_names=tuple(names),
        load=load,
        damaged=damaged,
        **(IMAGENET_PIXELS if channels == 3 else GREY_PIXELS),
    )


def _load_records(paths, bounds, channels, strict, damaged, classes):
    records = ImageRecords(paths)
    wrong = np.flatnonzero((records.labels < 0) | (records.labels >= classes))
    if len(wrong):
        raise ValueError(
            f"A label must be a whole number from 0 to {classes - 1}. "
            f"Received: {records.names[wrong[0]]}: the label {records.labels[wrong[0]]}"
        )
    first, last = bounds(len(records.labels))

    def read(number):
        try:
            found = tf.train.Example.FromString(records[number]).features.feature
        except DecodeError as error:
            raise ValueError(f"no whole record any more: {error}") from error
        return single(found, IMAGE_KEYS, "bytes_list")

    images = EncodedImages(
        read,
        records.names,
        np.arange(first, last),
        channels,
        strict,
        records.fetch,
        damaged,
    )
    return images, records.labels[first:last]


class ImageRecords:
    """Records of TFRecord files by number, with their labels and names for reports.

    The files are read once to find places and labels and to check checksums. Places and
    labels are then kept in an index beside the files if their folder is writable. It
    holds as long as the files have the size and the time that they had.

    Args:
        paths: list of str or path of the files, in order.

    Attributes:
        labels: int64 array `(records,)`.
        names: sequence of str. File and byte of each record.

    Raises:
        ValueError: if there are no records, or one is damaged.
    """

    def __init__(self, paths):
        self._paths = [os.fspath(path) for path in paths]
        sizes = np.array([os.path.getsize(path) for path in self._paths], "int64")
        self._sizes = sizes
        times = np.array([os.stat(path).st_mtime_ns for path in self._paths], "int64")
        first = Path(self._paths[0])
        index = first.with_name(f".{first.name}.index.npz")
        found = _read_index(index, sizes, times)
        if found is None:
            found = self._scan()
            # On a read-only disk, the next start reads all records again.
            with contextlib.suppress(OSError), whole_file(index) as place:
                places, labels = found
                np.savez(place, sizes=sizes, times=times, places=places, labels=labels)
        self._places, self.labels = found
        self.names = _RecordNames(self._paths, self._places)

    def _scan(self):
        places, labels = [], []
        for file, path in enumerate(self._paths):
            for offset, size, label in scan_records(path, _read_label):
                places.append((file, offset, size))
                labels.append(label)
        if not places:
            raise ValueError(f"There must be records. Received: {self._paths}")
        return np.array(places, "int64"), np.array(labels, "int64")

    def __getitem__(self, number):
        file, offset, size = self._places[number].tolist()
        with open(self._paths[file], "rb") as records:
            records.seek(offset)
            return records.read(size)

    def fetch(self, numbers, examples):
        """The `fetch` of `EncodedImages` for the images in records."""
        paths = tf.constant([os.path.abspath(path) for path in self._paths])
        sizes, places = tf.constant(self._sizes), tf.constant(self._places[numbers])
        keys = {key: tf.io.FixedLenFeature((), tf.string, "") for key in IMAGE_KEYS}

        def read(place, *rest):
            file, offset, size = tf.unstack(tf.gather(places, place), 3)
            path = tf.gather(paths, file)
            start = tf.strings.as_string(offset - HEADER)
            name = tf.strings.join([path, ", byte ", start])

            def parse(record):
                found = tf.io.parse_single_example(record, keys)
                first, second = (found[key] for key in IMAGE_KEYS)
                return tf.where(first != "", first, second), name, place, *rest

            end = tf.gather(sizes, file) - offset - size
            return tf.data.FixedLengthRecordDataset(path, size, offset, end).map(parse)

        return examples.interleave(without_autograph(read), **IN_PARALLEL)


class _RecordNames:
    """Names of records, made when needed."""

    def __init__(self, paths, places):
        self._paths, self._places = paths, places

    def __getitem__(self, number):
        file, offset, _ = self._places[number].tolist()
        return f"{self._paths[file]}, byte {offset - HEADER}"


def _read_label(features):
    single(features, IMAGE_KEYS, "bytes_list")
    return single(features, LABEL_KEYS, "int64_list")


def _read_index(path, sizes, times):
    """Places and labels of an index of files of these sizes and times, or `None`."""
    try:
        with np.load(path) as found:
            for name, wanted in (("sizes", sizes), ("times", times)):
                if not np.array_equal(found[name], wanted):
                    return None
            places, labels = found["places"], found["labels"]
    except Exception:  # Whatever zipfile and NumPy make of a damaged file.
        return None
    fits = (
        places.dtype == labels.dtype == "int64"
        and labels.shape == places.shape[:1]
        and places.shape[1:] == (3,)
        and len(places) > 0
        and places.min() >= 0
        and places[:, 0].max() < len(sizes)
        and (places[:, 2] <= sizes[places[:, 0]] - places[:, 1]).all()
    )
    return (places, labels) if fits else None

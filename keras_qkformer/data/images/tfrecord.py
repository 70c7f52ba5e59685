"""Images in TFRecord files, of TFDS or your own, as a source."""

import contextlib
import os
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_qkformer.data.images.encoded_images import IN_PARALLEL, EncodedImages
from keras_qkformer.data.source import Source, check_split
from keras_qkformer.files import whole_file
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
            is not prepared.
    """
    import tensorflow_datasets  # Importing takes a second, and few sources need it.

    try:
        builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    except (tensorflow_datasets.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            "data.name must be that of a data set of TFDS. "
            f"Received: {name!r}: {str(error).strip().splitlines()[0]}"
        ) from error
    features = builder.info.features
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
        return _load_records(paths, bounds, channels, strict, damaged)

    damaged = {}
    return Source(
        class_names=tuple(features["label"].names),
        load=load,
        damaged=damaged,
        **(statistics if channels == 3 else GREY_PIXELS),
    )


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
    names = names_file.read_text().split("\n")
    names = [name.strip() for name in names if name.strip()]

    def load(split, bounds):
        paths = sorted({*root.glob(f"{split}-*"), *root.glob(f"{split}.tfrecord*")})
        if not paths or not split:
            raise ValueError(
                f"A split must have files {split}-* or {split}.tfrecord* in {root}. "
                f"Received: {split!r}"
            )
        images, labels = _load_records(paths, bounds, channels, strict, damaged)
        if labels.min() < 0 or labels.max() >= len(names):
            raise ValueError(
                f"Labels must be from 0 to {len(names) - 1}, the lines of {names_file}."
                f" Received: {labels.min()} to {labels.max()}"
            )
        return images, labels

    damaged = {}
    return Source(
        class_names=tuple(names),
        load=load,
        damaged=damaged,
        **(IMAGENET_PIXELS if channels == 3 else GREY_PIXELS),
    )


def _load_records(paths, bounds, channels, strict, damaged):
    records = ImageRecords(paths)
    first, last = bounds(len(records.labels))

    def read(number):
        features = tf.train.Example.FromString(records[number]).features.feature
        return _feature(features, IMAGE_KEYS).bytes_list.value[0]

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

    A record is a length of 8 bytes, 4 bytes of checksum, the content, 4 bytes of
    checksum. The files are read once to find places and labels, which are then kept in
    an index beside the files if their folder is writable.

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
        first = Path(self._paths[0])
        index = first.with_name(f".{first.name}.index.npz")
        try:
            found = np.load(index)
            if not np.array_equal(found["sizes"], sizes):
                raise ValueError
            self._places, self.labels = found["places"], found["labels"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            self._places, self.labels = self._scan()
            # On a read-only disk, the next start reads all records again.
            with contextlib.suppress(OSError), whole_file(index) as place:
                np.savez(place, sizes=sizes, places=self._places, labels=self.labels)
        self.names = _RecordNames(self._paths, self._places)

    def _scan(self):
        places, labels = [], []
        for file, path in enumerate(self._paths):
            offset = 12
            try:
                for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                    places.append((file, offset, len(record)))
                    offset += len(record) + 16
                    features = tf.train.Example.FromString(record).features.feature
                    _feature(features, IMAGE_KEYS)
                    label = _feature(features, LABEL_KEYS)
                    labels.append(label.int64_list.value[0])
            except (tf.errors.DataLossError, ValueError, IndexError) as error:
                reason = str(error).splitlines()[0] if str(error) else "no label"
                raise ValueError(
                    "A TFRecord must hold whole examples with image and label. "
                    f"Received: {path!r}, near byte {offset - 12}: {reason}"
                ) from error
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
            start = tf.strings.as_string(offset - 12)
            name = tf.strings.join([path, ", byte ", start])

            def parse(record):
                found = tf.io.parse_single_example(record, keys)
                first, second = (found[key] for key in IMAGE_KEYS)
                return tf.where(first != "", first, second), name, place, *rest

            end = tf.gather(sizes, file) - offset - size
            return tf.data.FixedLengthRecordDataset(path, size, offset, end).map(parse)

        return examples.interleave(read, **IN_PARALLEL)


class _RecordNames:
    """Names of records, made when needed."""

    def __init__(self, paths, places):
        self._paths, self._places = paths, places

    def __getitem__(self, number):
        file, offset, _ = self._places[number].tolist()
        return f"{self._paths[file]}, byte {offset - 12}"


def _feature(features, keys):
    for key in keys:
        if key in features:
            return features[key]
    raise ValueError(f"no feature {' or '.join(keys)} but {sorted(features)}")

"""Images in folders, zips, TFRecords and TFDS, read and decoded when needed.

A set is a list of encoded images that is read by number, whatever holds it. Small ones
of one size are decoded once and kept; see `IN_MEMORY_BYTES` of `source`.
"""

import concurrent.futures
import contextlib
import functools
import os
import re
import threading
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from keras_qkformer.data.source import IN_MEMORY_BYTES, Source

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
DAMAGED = {}
"""Images that this process could not decode: from where one is to what is wrong."""
IMAGE_KEYS = ("image", "image/encoded")
LABEL_KEYS = ("label", "image/class/label")
"""Features of a TFRecord, the first that is there: TFDS's, then TensorFlow Slim's."""


def decode(encoded, channels, window=None, draws=None):
    """An encoded image, or a window of it, as an array.

    Args:
        encoded: bytes, see `image_decoding.decode_image`.
        channels: see there.
        window: see there.
        draws: see there.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: if it is not such an image.
    """
    import tensorflow as tf

    from keras_qkformer.data.image_decoding import ANIMATED, EMPTY

    given = [encoded] if window is None else [encoded, draws]
    try:
        return _decoder(channels, window)(*map(tf.constant, given)).numpy()
    except tf.errors.InvalidArgumentError as error:
        for reason in (EMPTY, ANIMATED):
            if reason in error.message:
                raise ValueError(reason) from error
        raise ValueError("not a whole JPEG, PNG, BMP, WebP or GIF file") from error


@functools.lru_cache(maxsize=16)
def _decoder(channels, window):
    """`image_decoding.decode_image` as one function: eagerly it takes much longer."""
    import tensorflow as tf

    from keras_qkformer.data.image_decoding import DRAWS, decode_image

    @functools.partial(tf.function, autograph=False)
    def decode(encoded, draws=None):
        with tf.device("CPU"):
            return decode_image(encoded, channels, window, draws)

    given = [tf.TensorSpec((), tf.string)]
    if window is not None:
        given.append(tf.TensorSpec(DRAWS, tf.float32))
    return decode.get_concrete_function(*given)


class EncodedImages:
    """Images of any size that are decoded when they are needed.

    One that can't be decoded is noted in `DAMAGED`; with `strict` it is an error.

    Args:
        read: function from a number to the bytes of that image; may be called by many
            threads at once.
        names: list of str, one per number: where the image is.
        numbers: int array `(examples,)`.
        channels: 1 or 3.
        strict: bool.
        fetch: function `(numbers, examples) -> (encoded, name, *example)`: `read` by
            TensorFlow operations, of all examples of a `tf.data.Dataset`, each a tuple
            that begins with a place in `numbers`; or `None` if there is none.
    """

    def __init__(self, read, names, numbers, channels, strict=False, fetch=None):
        self.read = read
        self.fetch = fetch
        self.names = names
        self.numbers = np.asarray(numbers)
        self.shape = (len(self.numbers), None, None, channels)
        self.dtype = np.dtype("uint8")
        self.strict = strict

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, places):
        """Some of the images, by a slice or an index array."""
        numbers = self.numbers[places]
        return EncodedImages(
            self.read, self.names, numbers, self.shape[-1], self.strict, self.fetch
        )

    def decode(self, place, window=None, draws=None):
        """The image at a place, or a window of it, see `decode`; `None` if damaged."""
        number = int(self.numbers[place])
        name = self.names[number]
        try:
            try:
                return decode(self.read(number), self.shape[-1], window, draws)
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(f"can't be read: {error}") from error
        except ValueError as error:
            DAMAGED[name] = str(error)
            if self.strict:
                raise ValueError(_says(name)) from error
            return None

    def decode_next(self, place, window=None, draws=None):
        """The image at a place, or else the next whole one, and its place.

        Raises:
            ValueError: if there is none.
        """
        for step in range(len(self)):
            found = (place + step) % len(self)
            image = self.decode(found, window, draws)
            if image is not None:
                return image, found
        name = self.names[int(self.numbers[place])]
        raise ValueError(f"None of {len(self)} images can be decoded; {_says(name)}")

    def each(self, examples, use, replace):
        """Examples made of images that are decoded here.

        Args:
            examples: `tf.data.Dataset` of tuples that begin with the place of an image.
            use: function `(encoded, *example) -> example` of TensorFlow operations,
                which fail if the image is damaged.
            replace: function `example -> example` of those for which `use` fails.

        Returns:
            `tf.data.Dataset`.
        """
        import tensorflow as tf

        def read(place, *rest):
            encoded = tf.numpy_function(
                lambda place: self.read(int(self.numbers[place])), [place], tf.string
            )
            return use(tf.ensure_shape(encoded, ()), place, *rest)

        return examples.interleave(
            lambda *example: _attempt(example, read, replace), **_parallel()
        )

    def each_by_others(self, examples, use):
        """Examples made of images by TensorFlow operations alone.

        Damaged ones are left out, with their names in the log of whoever makes the
        examples, or with `strict` an error. So is a file that can't be read.

        Args:
            examples: see `each`.
            use: see `each`.

        Returns:
            `tf.data.Dataset`.

        Raises:
            ValueError: if TensorFlow can't read these images.
        """
        import tensorflow as tf

        if self.fetch is None:
            raise ValueError(
                "Images that other processes read must be in a folder or in TFRecord "
                f"files: unpack the zip. Received: {self.names[self.numbers[0]]}"
            )

        def use_if_whole(encoded, name, *example):
            def refuse(encoded, *example):
                says = tf.strings.join([_RULE, name])
                with tf.control_dependencies([tf.debugging.Assert(False, [says])]):
                    return use(tf.identity(encoded), *example)

            used = _attempt((encoded, *example), use, refuse)
            return used if self.strict else used.ignore_errors(log_warning=True)

        fetched = self.fetch(self.numbers, examples)
        return fetched.interleave(use_if_whole, **_parallel())

    def without_damaged(self, labels):
        """Images and labels, less those that can't be decoded; all are, to see that.

        Raises:
            ValueError: if no image can be decoded, or one can't with `strict`.
        """
        kept = np.zeros(len(self), bool)

        def check(places):
            for place in places:
                kept[place] = self.decode(place) is not None

        self._in_threads(check)
        if not kept.any():
            self.decode_next(0)  # Says so.
        return self[kept], labels[kept]

    def _in_threads(self, function):
        parts = np.array_split(np.arange(len(self)), 1 + len(self) // 64)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(function, parts))

    def in_memory_if_small(self, labels):
        """Images and labels, in an array if all have one size and it is not too large.

        An array has no damaged images, and the labels have not theirs.

        Raises:
            ValueError: if no image can be decoded, or one can't with `strict`.
        """
        first, _ = self.decode_next(0)
        if len(self) * first.nbytes > IN_MEMORY_BYTES:
            return self, labels
        array = np.empty((len(self), *first.shape), "uint8")
        kept = np.zeros(len(self), bool)
        same_size = threading.Event()
        same_size.set()

        def put(places):
            for place in places:
                if not same_size.is_set():
                    return
                image = self.decode(place)
                if image is not None and image.shape != first.shape:
                    same_size.clear()
                elif image is not None:
                    array[place], kept[place] = image, True

        self._in_threads(put)
        if not same_size.is_set():
            return self, labels
        if kept.all():
            return array, labels
        return array[kept], labels[kept]


_RULE = "An image must be whole. Received: "


def _says(name):
    return f"{_RULE}{name}: {DAMAGED[name]}"


def _attempt(example, use, otherwise):
    """A data set of what `use` makes of one example or, if it fails, `otherwise`."""
    import tensorflow as tf

    one = tf.data.Dataset.from_tensors(example)
    return one.map(use).ignore_errors().concatenate(one.map(otherwise)).take(1)


def _parallel():
    import tensorflow as tf

    return {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


@contextlib.contextmanager
def plain_errors():
    """A damaged image that ended a pipeline raises `ValueError`, not TensorFlow's."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        for name in DAMAGED:
            if _says(name) in str(error):
                raise ValueError(_says(name)) from error
        # Of another process.
        found = re.search(rf"\[({re.escape(_RULE)}.*)\]", str(error))
        if found:
            raise ValueError(found[1]) from error
        found = re.search(r"(?s)from worker .*?([^:\n]+); No such file", str(error))
        if found:
            raise ValueError(
                "Workers of a tf.data service must find images under the same path. "
                f"Received: {found[1].strip()}"
            ) from error
        raise


def folder(*, data_dir=None, channels=3, strict=False):
    """Images in `<data_dir>/<split>/<class>/`, or so inside a zip.

    Classes are the names of the folders, sorted; the order of the images is a fixed
    random one, so that a slice of a split has all classes. A zip is not unpacked.

    Args:
        data_dir: str or path of a folder or a .zip.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such folder, no split with classes, a class without
            images, or the splits have different classes.
    """
    if data_dir is None:
        raise ValueError(
            "data.data_dir must be the folder or zip with <split>/<class>/. "
            "Received: None"
        )
    if channels not in (1, 3):
        raise ValueError(
            f"Images have 1 or 3 channels. Received: a model of {channels}"
        )
    root = Path(data_dir)
    if zipfile.is_zipfile(root) or (root.suffix.lower() == ".zip" and root.is_file()):
        splits, read = _zip_splits(root)
        fetch = None
    elif root.is_dir():
        splits, read = _folder_splits(root)
        fetch = _fetch_files
    else:
        raise ValueError(
            "data.data_dir must be a folder or a zip with <split>/<class>/. "
            f"Received: {str(root)!r}, where there is none"
        )
    if not splits:
        raise ValueError(
            f"{root} must hold a folder per split, such as train, and in it one per "
            "class. Received: no folder in a folder"
        )
    for split, classes in splits.items():
        for name, files in classes.items():
            if not files:
                raise ValueError(
                    f"A class must have images ({', '.join(EXTENSIONS)}). "
                    f"Received: none in {root}/{split}/{name}"
                )
    reference = "train" if "train" in splits else min(splits)
    names = sorted(splits[reference])
    for split, classes in splits.items():
        differing = sorted(set(names) ^ set(classes))
        if differing:
            raise ValueError(
                f"All splits of {root} must have the same classes. Received: "
                f"{differing[:5]} only in one of {reference!r} and {split!r}"
            )

    def load(split, bounds):
        _check_split(split, splits)
        files = [(i, file) for i, c in enumerate(names) for file in splits[split][c]]
        order = np.random.default_rng(0).permutation(len(files))
        order = order[slice(*bounds(len(files)))]
        paths = [file for _, file in files]
        where = [f"{root}/{path}" for path in paths]
        labels = np.array([files[number][0] for number in order], "int64")
        images = EncodedImages(
            lambda number: read(paths[number]),
            where,
            order,
            channels,
            strict,
            fetch and functools.partial(fetch, where),
        )
        return images.in_memory_if_small(labels)

    return Source(class_names=tuple(names), load=load, **_statistics(channels))


def _fetch_files(names, numbers, examples):
    """The `fetch` of `EncodedImages`, of files."""
    import tensorflow as tf

    paths = tf.constant([os.path.abspath(names[number]) for number in numbers])

    def read(place, *rest):
        path = tf.gather(paths, place)
        return tf.io.read_file(path), path, place, *rest

    return examples.map(read, **_parallel())


def tfds(name, *, data_dir=None, channels=3, strict=False, statistics=IMAGENET):
    """A data set of images of TFDS that is prepared, decoded late.

    Args:
        name: str. Such as `"imagenet2012"`, perhaps with a configuration.
        data_dir: str or path of the folder with prepared data sets, or `None` for that
            of TFDS.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.
        statistics: dict of `mean` and `std`.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such data set, it has no images with labels, or it
            is not prepared.
    """
    import tensorflow_datasets

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
        _check_split(split, builder.info.splits)
        return _load_records(
            builder.info.splits[split].filepaths, bounds, channels, strict
        )

    return Source(
        class_names=tuple(features["label"].names),
        load=load,
        **(statistics if channels == 3 else _statistics(channels)),
    )


def tfrecord(*, data_dir=None, channels=3, strict=False):
    """Images in TFRecord files of one folder, `<split>-*` or `<split>.tfrecord*`.

    A record is a `tf.train.Example` with an encoded image (`image` or `image/encoded`)
    and a label from 0 (`label` or `image/class/label`). The names of the classes stand
    in `labels.txt` beside the files, one per line.

    Args:
        data_dir: str or path of the folder.
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
        images, labels = _load_records(paths, bounds, channels, strict)
        if labels.min() < 0 or labels.max() >= len(names):
            raise ValueError(
                f"Labels must be from 0 to {len(names) - 1}, the lines of {names_file}."
                f" Received: {labels.min()} to {labels.max()}"
            )
        return images, labels

    return Source(class_names=tuple(names), load=load, **_statistics(channels))


def _statistics(channels):
    if channels == 3:
        return IMAGENET
    # Of the luminance of the same images, as others use them.
    return {"mean": (0.449,), "std": (0.226,)}


def _check_split(split, splits):
    if split not in splits:
        raise ValueError(
            f"A split must be one of {sorted(splits)}, perhaps with a slice such as "
            f"train[:90%]. Received: {split!r}"
        )


def _folder_splits(root):
    """Dict from split to dict from class to sorted paths below `root`; and a reader."""

    def entries(folder, only_folders):
        with os.scandir(folder) as found:
            return sorted(
                entry.name
                for entry in found
                if entry.name[0] != "." and (not only_folders or entry.is_dir())
            )

    def is_image(name):
        return os.path.splitext(name)[1].lower() in EXTENSIONS

    splits = {}
    for split in entries(root, True):
        classes = entries(root / split, True)
        if classes:
            splits[split] = {
                name: [
                    f"{split}/{name}/{file}"
                    for file in entries(root / split / name, False)
                    if is_image(file)
                ]
                for name in classes
            }

    def read(path):
        with open(root / path, "rb") as file:
            return file.read()

    return splits, read


def _zip_splits(root):
    """Like `_folder_splits`, of a zip."""
    try:
        archive = zipfile.ZipFile(root)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"A zip must be whole. Received: {str(root)!r}: {error}"
        ) from error
    splits = {}
    for name in archive.namelist():
        parts = PurePosixPath(name).parts
        if len(parts) < 2 or any(p[0] == "." or p == "__MACOSX" for p in parts):
            continue
        if len(parts) == 2 and not name.endswith("/"):
            continue  # A file beside the classes.
        files = splits.setdefault(parts[0], {}).setdefault(parts[1], [])
        if len(parts) == 3 and os.path.splitext(name)[1].lower() in EXTENSIONS:
            files.append(name)
    for classes in splits.values():
        for files in classes.values():
            files.sort()
    return splits, archive.read


def _load_records(paths, bounds, channels, strict):
    import tensorflow as tf

    records = ImageRecords(paths)
    first, last = bounds(len(records.labels))

    def read(number):
        features = tf.train.Example.FromString(records[number]).features.feature
        return _feature(features, IMAGE_KEYS).bytes_list.value[0]

    images = EncodedImages(
        read, records.names, np.arange(first, last), channels, strict, records.fetch
    )
    return images.in_memory_if_small(records.labels[first:last])


class ImageRecords:
    """Records of TFRecord files, by number, their labels, and names for reports.

    A record is a length of 8 bytes, 4 bytes of checksum, the content, 4 bytes of
    checksum. All are read once, to find places and labels, which are kept in a file
    beside them where that can be written.
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
            partial = index.with_name(f"{index.name}.{os.getpid()}.npz")
            try:
                np.savez(partial, sizes=sizes, places=self._places, labels=self.labels)
                partial.replace(index)
            except OSError:
                pass  # A read-only disk: the next start reads all records again.
        self.names = _RecordNames(self._paths, self._places)

    def _scan(self):
        import tensorflow as tf

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
        """The `fetch` of `EncodedImages`, of the images in records."""
        import tensorflow as tf

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

        return examples.interleave(read, **_parallel())


class _RecordNames:
    """Names of records, made when they are wanted."""

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

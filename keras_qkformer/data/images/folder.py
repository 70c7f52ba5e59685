"""Images in folders, or so inside a zip, as a source."""

import functools
import os
import warnings
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from keras_qkformer.data.images.encoded_images import IN_PARALLEL, EncodedImages
from keras_qkformer.data.images.image_limits import LARGEST_IMAGE
from keras_qkformer.data.images.layouts import find_layout, reference_split
from keras_qkformer.data.source import Source, check_split
from keras_qkformer.data.tracing import without_autograph
from keras_qkformer.printable import printable
from keras_qkformer.published_data import GREY_PIXELS, IMAGENET_PIXELS
from keras_qkformer.zip_file import CheckedZip

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp")
_DIRECTORY_BYTES = 1 << 28  # Of a zip: that of ImageNet takes half.
_DEEPEST = 8  # Folders in a name of a zip that are seen: layouts have four at most.


def folder(*, data_dir=None, channels=3, strict=False):
    """Return the images of a folder or a zip, in one of these layouts.

    - `<split>/<class>/<file>`;
    - `<class>/<file>`: the only split is `train`, of which slices serve as others;
    - `<split>/<class>/images/<file>`, as in the training data of Tiny-ImageNet;
    - `<split>/<file>` or `<split>/images/<file>` with a list of labels: `<split>.txt`
      or `.csv` beside the folder, or the only one in it. A line is `file class`, with
      commas in a `.csv`, whose first line may name the columns; more may follow. The
      class is a name or its number, from 0, among the sorted classes. Or a line is only
      the class, for each file by name. So the validation images of ImageNet and
      Tiny-ImageNet are read as they are.

    All may be inside of one folder, as in many zips. Classes are sorted. Images come in
    a fixed random order, so that a slice of a split has all classes. A zip is not
    unpacked.

    Deeper folders and zips inside a zip are not looked into, and links to folders are
    followed no further. What has the name of an image but is no regular file (a pipe, a
    device, a link to nothing), has a name that is no UTF-8, is larger than
    `LARGEST_IMAGE`, or lacks a line in the list, is a damaged image. A zip must be as
    `CheckedZip` says: no encrypted, doubled or overlapping entries, links, or names
    outside of it.

    A class may have no images outside of the training split; a warning says so.

    Args:
        data_dir: str or path of the folder or .zip, always needed.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such folder or zip, no split with classes, a class
            without training images or whose name is no UTF-8, the splits have different
            classes, a list does not fit, or the zip is damaged or hostile.
        OSError: if a folder can't be read.
    """
    if data_dir is None:
        raise ValueError(
            "data.data_dir must be the folder or zip with <split>/<class>/ or "
            "<class>/. Received: None"
        )
    if channels not in (1, 3):
        raise ValueError(
            f"Images have 1 or 3 channels. Received: a model of {channels}"
        )
    root, damaged = Path(data_dir), {}
    if zipfile.is_zipfile(root) or (root.suffix.lower() == ".zip" and root.is_file()):
        tree, fetch = _Zip(root), None
    elif root.is_dir():
        tree, fetch = _Folder(root, damaged), _fetch_files
    else:
        raise ValueError(
            "data.data_dir must be a folder or a zip with <split>/<class>/ or "
            f"<class>/. Received: {str(root)!r}, where there is none"
        )
    layout = find_layout(tree)
    splits, read = layout.splits, tree.read
    if not splits:
        raise ValueError(
            f"{root} must hold a folder per split, such as train, and in it one per "
            "class or images with a list train.txt of their labels; or only a folder "
            f"per class. Received: {printable(layout.words)}"
        )
    for path, reason in layout.left_out.items():
        damaged[printable(f"{root}/{path}", 1000)] = reason
    if strict and damaged:
        name, reason = next(iter(damaged.items()))
        raise ValueError(f"An image must be whole. Received: {name}: {reason}")
    reference = reference_split(splits)
    names = sorted(splits[reference])
    _check_classes(root, splits, reference, layout.words)

    def load(split, bounds):
        if split in layout.without_labels:
            raise ValueError(
                f"The images of a split need labels: a folder per class, or a list "
                f"{split}.txt of lines `file class`. Received: {split!r} of "
                f"{root}, where {printable(layout.words)}"
            )
        advice = ""
        if len(splits) == 1:
            (only,) = splits
            advice = (
                f"; slices of it serve as others: --set data.train={only}[:80%] --set "
                f"data.validation={only}[80%:90%] --set data.test={only}[90%:]"
            )
        check_split(split, splits, f" ({root}: {printable(layout.words)}{advice})")
        files = [(i, file) for i, c in enumerate(names) for file in splits[split][c]]
        order = np.random.default_rng(0).permutation(len(files))
        order = order[slice(*bounds(len(files)))]
        paths = [file for _, file in files]
        places = [f"{root}/{path}" for path in paths]
        where = [printable(place, 1000) for place in places]
        labels = np.array([files[number][0] for number in order], "int64")
        images = EncodedImages(
            lambda number: read(paths[number]),
            where,
            order,
            channels,
            strict,
            fetch and functools.partial(fetch, places),
            damaged,
        )
        return images, labels

    return Source(
        class_names=tuple(names),
        load=load,
        damaged=damaged,
        **(IMAGENET_PIXELS if channels == 3 else GREY_PIXELS),
    )


def _fetch_files(places, numbers, examples):
    """The `fetch` of `EncodedImages` for files."""
    paths = tf.constant([os.path.abspath(places[number]) for number in numbers])

    def read(place, *rest):
        path = tf.gather(paths, place)
        return tf.io.read_file(path), path, place, *rest

    return examples.map(without_autograph(read), **IN_PARALLEL)


def _is_utf8(name):
    """Whether a name of a file, as Python reads it, is text that can be written."""
    return name.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in name)


def _check_classes(root, splits, reference, words):
    """Raise `ValueError` if splits differ in their classes, or one lacks images."""
    names = {*splits[reference]}
    for split, classes in splits.items():
        for name in classes:
            if not _is_utf8(f"{split}/{name}"):
                raise ValueError(
                    "Names of splits and classes must be UTF-8. "
                    f"Received: {printable(f'{root}/{split}/{name}')}"
                )
        empty = sorted(name for name, files in classes.items() if not files)
        if empty and split == reference:
            raise ValueError(
                f"A class must have images ({', '.join(EXTENSIONS)}). Received: none "
                f"in {root}/{split}/{printable(empty[0])} ({printable(words)})"
            )
        differing = sorted(names ^ {*classes})
        if differing:
            raise ValueError(
                f"All splits of {root} must have the same classes. Received: "
                f"{differing[:5]} only in one of {reference!r} and {split!r} "
                f"({printable(words)})"
            )
        if empty:
            warnings.warn(
                f"{root}: the split {split!r} has no images of "
                f"{printable(', '.join(empty))}",
                stacklevel=4,
            )


class _Folder:
    """The tree of a folder, as `find_layout` takes it.

    Puts what is called like an image but is none into `damaged`.
    """

    def __init__(self, root, damaged):
        self.root = root
        self.damaged = damaged

    def folders(self, place):
        with os.scandir(self.root / place) as found:
            return sorted(
                entry.name for entry in found if entry.name[0] != "." and _is_dir(entry)
            )

    def texts(self, place):
        with os.scandir(self.root / place) as found:
            return sorted(
                entry.name
                for entry in found
                if entry.name[0] != "." and _is_file(entry)
            )

    def images(self, place):
        found = []
        with os.scandir(self.root / place) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == "." or not _is_named_image(name) or _is_dir(entry):
                    continue
                if not _is_file(entry):
                    reason = "no regular file"
                elif not _is_utf8(name):
                    reason = "its name is no UTF-8"
                else:
                    found.append(f"{place}/{name}")
                    continue
                path = f"{self.root}/{place}/{name}"
                self.damaged[printable(path, 1000)] = reason
        return sorted(found)

    def read(self, path, most=None):
        most = LARGEST_IMAGE if most is None else most
        with open(self.root / path, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"more than {most} bytes")
        return data


class _Zip:
    """The tree of a zip, as `find_layout` takes it."""

    def __init__(self, root):
        try:
            self.archive = CheckedZip(root, _DIRECTORY_BYTES)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"A zip must be whole. Received: {str(root)!r}: {error}"
            ) from error
        self.inside = {"": set()}
        self.files = {}
        for name in self.archive.namelist():
            parts = PurePosixPath(name).parts
            if not parts or any(p[0] == "." or p == "__MACOSX" for p in parts):
                continue
            *above, last = parts
            if name.endswith("/"):
                above, last = parts, None
            if len(above) > _DEEPEST:  # A name of thousands would take a gigabyte.
                above, last = above[:_DEEPEST], None
            place = ""
            for part in above:
                self.inside[place].add(part)
                place = f"{place}/{part}" if place else part
                self.inside.setdefault(place, set())
            if last is not None:
                self.files.setdefault(place, []).append(last)

    def folders(self, place):
        return sorted(self.inside[place])

    def texts(self, place):
        return sorted(self.files.get(place, ()))

    def images(self, place):
        files = self.files.get(place, ())
        return sorted(f"{place}/{name}" for name in files if _is_named_image(name))

    def read(self, path, most=None):
        return self.archive.read_entry(path, LARGEST_IMAGE if most is None else most)


def _is_named_image(name):
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _is_dir(entry):
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _is_file(entry):
    try:
        return entry.is_file()
    except OSError:
        return False

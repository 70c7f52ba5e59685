"""Images in a folder per class, or so inside a zip, as a source."""

import functools
import os
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from keras_qkformer.data.images.encoded_images import IN_PARALLEL, EncodedImages
from keras_qkformer.data.source import Source, check_split
from keras_qkformer.printable import printable
from keras_qkformer.published_data import GREY_PIXELS, IMAGENET_PIXELS
from keras_qkformer.zip_file import CheckedZip

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp")
LARGEST_IMAGE = 1 << 28
"""Bytes of an image file, or of an entry of a zip once inflated; larger are damaged."""
_DIRECTORY_BYTES = 1 << 28  # Of a zip: that of ImageNet takes half.


def folder(*, data_dir=None, channels=3, strict=False):
    """Return the images in `<data_dir>/<split>/<class>/`, in a folder or a zip.

    Classes are the names of the folders, sorted. Images come in a fixed random order,
    so that a slice of a split has all classes. A zip is not unpacked.

    Only `<split>/<class>/<file>` counts: deeper folders and zips inside a zip are not
    looked into, and links to folders are followed no further. What has the name of an
    image but is no regular file (a pipe, a device, a link to nothing), has a name that
    is no UTF-8, or is larger than `LARGEST_IMAGE`, is a damaged image. A zip must be as
    `CheckedZip` says: no encrypted, doubled or overlapping entries, links, or names
    outside of it.

    Args:
        data_dir: str or path of the folder or .zip, always needed.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such folder or zip, no split with classes, a class
            without images or whose name is no UTF-8, the splits have different classes,
            or the zip is damaged or hostile.
        OSError: if a folder can't be read.
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
    root, damaged = Path(data_dir), {}
    if zipfile.is_zipfile(root) or (root.suffix.lower() == ".zip" and root.is_file()):
        splits, read = _zip_splits(root)
        fetch = None
    elif root.is_dir():
        splits, read = _folder_splits(root, damaged)
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
    if strict and damaged:
        name, reason = next(iter(damaged.items()))
        raise ValueError(f"An image must be whole. Received: {name}: {reason}")
    for split, classes in splits.items():
        for name, files in classes.items():
            if not _is_utf8(f"{split}/{name}"):
                raise ValueError(
                    "Names of splits and classes must be UTF-8. "
                    f"Received: {printable(f'{root}/{split}/{name}')}"
                )
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
        check_split(split, splits)
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

    return examples.map(read, **IN_PARALLEL)


def _is_utf8(name):
    """Whether a name of a file, as Python reads it, is text that can be written."""
    return name.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in name)


def _folder_splits(root, damaged):
    """Return `{split: {class: sorted paths below root}}` and a function that reads.

    Puts what is called like an image but is none into `damaged`.
    """

    def folders(folder):
        with os.scandir(folder) as found:
            return sorted(
                entry.name for entry in found if entry.name[0] != "." and is_dir(entry)
            )

    def is_dir(entry):
        try:
            return entry.is_dir()
        except OSError:  # A link to itself.
            return False

    def images(folder):
        found = []
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = entry.name
                is_image = os.path.splitext(name)[1].lower() in EXTENSIONS
                if name[0] == "." or not is_image or is_dir(entry):
                    continue
                if not is_file(entry):
                    reason = "no regular file"
                elif not _is_utf8(name):
                    reason = "its name is no UTF-8"
                else:
                    found.append(f"{folder}/{name}")
                    continue
                damaged[printable(f"{root}/{folder}/{name}", 1000)] = reason
        return sorted(found)

    def is_file(entry):
        try:
            return entry.is_file()
        except OSError:
            return False

    splits = {}
    for split in folders(root):
        classes = folders(root / split)
        if classes:
            splits[split] = {name: images(f"{split}/{name}") for name in classes}

    def read(path):
        with open(root / path, "rb") as file:
            data = file.read(LARGEST_IMAGE + 1)
        if len(data) > LARGEST_IMAGE:
            raise ValueError(f"more than {LARGEST_IMAGE} bytes")
        return data

    return splits, read


def _zip_splits(root):
    """Like `_folder_splits`, for a zip."""
    try:
        archive = CheckedZip(root, _DIRECTORY_BYTES)
    except (ValueError, OSError) as error:
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
    return splits, lambda name: archive.read_entry(name, LARGEST_IMAGE)

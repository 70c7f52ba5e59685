"""Images in a folder per class, or so inside a zip, as a source."""

import functools
import os
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from keras_qkformer.data.images.encoded_images import IN_PARALLEL, EncodedImages
from keras_qkformer.data.source import Source, check_split
from keras_qkformer.published_data import GREY_PIXELS, IMAGENET_PIXELS

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp")


def folder(*, data_dir=None, channels=3, strict=False):
    """Return the images in `<data_dir>/<split>/<class>/`, in a folder or a zip.

    Classes are the names of the folders, sorted. Images come in a fixed random order,
    so that a slice of a split has all classes. A zip is not unpacked.

    Args:
        data_dir: str or path of the folder or .zip, always needed.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such folder or zip, no split with classes, a class
            without images, or the splits have different classes.
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
        check_split(split, splits)
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
            damaged,
        )
        return images, labels

    damaged = {}
    return Source(
        class_names=tuple(names),
        load=load,
        damaged=damaged,
        **(IMAGENET_PIXELS if channels == 3 else GREY_PIXELS),
    )


def _fetch_files(names, numbers, examples):
    """The `fetch` of `EncodedImages` for files."""
    paths = tf.constant([os.path.abspath(names[number]) for number in numbers])

    def read(place, *rest):
        path = tf.gather(paths, place)
        return tf.io.read_file(path), path, place, *rest

    return examples.map(read, **IN_PARALLEL)


def _folder_splits(root):
    """Return `{split: {class: sorted paths below root}}` and a function that reads."""

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
    """Like `_folder_splits`, for a zip."""
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

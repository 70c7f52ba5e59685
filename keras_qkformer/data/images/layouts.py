"""Layouts of image folders and zips: where splits, classes and labels are."""

from typing import NamedTuple

from keras_qkformer.printable import printable

ONLY_SPLIT = "train"
"""Name of the split of a folder that has none."""
LARGEST_LIST = 1 << 26
"""Bytes of a list of labels: that of 50,000 images takes two million."""
_SPLITS = ("train", "val", "valid", "validation", "test")
_INNER = "images"  # Tiny-ImageNet has a folder of this name in each class.
_LISTS = (".txt", ".csv")
_NO_LISTS = ("readme", "license", "licence")


class Layout(NamedTuple):
    """What was found in a folder or zip.

    Attributes:
        splits: dict `{split: {class: sorted paths}}`. A class may be empty.
        words: str. The layout in words, for errors.
        without_labels: list of str. Folders of images that have neither classes nor a
            list.
        left_out: dict `{path: reason}` of images that a list names and that are not
            there, or the other way round.
    """

    splits: dict
    words: str
    without_labels: list
    left_out: dict


def find_layout(tree):
    """Find splits, classes and labels, see `folder.folder` for the layouts.

    Args:
        tree: object with the methods `folders(place)`, the sorted names of the folders
            in a folder; `images(place)`, the sorted paths of its images;
            `texts(place)`, the names of all its files; and `read(path, most)`, the
            bytes of a file. Places and paths are relative, and `""` is the top.

    Returns:
        `Layout`.

    Raises:
        ValueError: if a list of labels can't be read, or does not fit the images.
    """
    top = _top(tree)
    splits, flat, words = {}, {}, {}
    for name in tree.folders(top):
        place = _join(top, name)
        classes = tree.folders(place)
        if classes and classes != [_INNER]:
            splits[name] = {c: _images(tree, _join(place, c)) for c in classes}
            words[name] = f"a folder for each of {len(classes)} classes"
        else:
            flat[name] = _images(tree, place)
    # A text in a folder that may be a class is a note.
    lists = {n: _list_of(tree, top, n, bool(splits) or n in _SPLITS) for n in flat}
    if not splits and not any(lists.values()) and not {*flat} <= {*_SPLITS}:
        if not any(flat.values()):
            return Layout({}, "no images in folders", [], {})
        return Layout(
            {ONLY_SPLIT: flat},
            f"no splits, and a folder for each of {len(flat)} classes",
            [],
            {},
        )
    names = sorted(splits[reference_split(splits)]) if splits else None
    without_labels, left_out, pairs = [], {}, {}
    for name, images in flat.items():
        if lists[name]:
            pairs[name] = _read_list(tree, lists[name], images, names, left_out)
            words[name] = f"images with labels in {lists[name]}"
        elif images:
            without_labels.append(name)
            words[name] = "images without labels"
    if names is None:
        names = sorted({label for rows in pairs.values() for _, label in rows})
    for split, rows in pairs.items():
        splits[split] = {name: [] for name in names}
        for path, label in rows:
            splits[split][_class_of(label, splits[split], lists[split])].append(path)
    said = "; ".join(f"{name} has {words[name]}" for name in sorted(words))
    return Layout(splits, said or "no images in folders", without_labels, left_out)


def reference_split(splits):
    """Return the name of the split that decides which classes there are.

    Args:
        splits: non-empty collection of names.
    """
    return ONLY_SPLIT if ONLY_SPLIT in splits else min(splits)


def _join(place, name):
    return f"{place}/{name}" if place else name


def _top(tree):
    """The folder with the splits: a zip often holds one folder with everything."""
    names = tree.folders("")
    if len(names) == 1 and names[0] not in _SPLITS:
        inner = [f"{names[0]}/{name}" for name in tree.folders(names[0])]
        deeper = [x for x in inner if not {*tree.folders(x)} <= {_INNER}]
        if deeper and not any(map(tree.images, inner)):
            return names[0]
    return ""


def _images(tree, place):
    """The images of a folder, or else of the folder `images` in it."""
    found = tree.images(place)
    if not found and _INNER in tree.folders(place):
        return tree.images(f"{place}/{_INNER}")
    return found


def _list_of(tree, top, name, inside):
    """Path of the list of images: beside their folder or, if `inside`, alone in it."""
    beside = [f"{name}{suffix}" for suffix in _LISTS]
    found = [_join(top, text) for text in tree.texts(top) if text in beside]
    if not found and inside:
        place = _join(top, name)
        found = [
            f"{place}/{text}"
            for text in tree.texts(place)
            if text.lower().endswith(_LISTS)
            and text.lower().rpartition(".")[0] not in _NO_LISTS
        ]
    if len(found) > 1:
        raise ValueError(
            "A folder of images must have one list of their labels. "
            f"Received: {printable(', '.join(found))}"
        )
    return found[0] if found else None


def _read_list(tree, path, images, names, left_out):
    """Read the pairs of an image's path and its label, a text that is not empty.

    Args:
        tree: see `find_layout`.
        path: str. Path of the list.
        images: list of str. Paths of the images.
        names: list of str. Classes of the other splits, or `None`.
        left_out: dict to which images without a line, and the reverse, are added.
    """
    text = tree.read(path, LARGEST_LIST).decode("utf-8-sig", "replace")
    comma = "," if path.lower().endswith(".csv") else None
    rows = [
        [field.strip() for field in line.split("\t" if "\t" in line else comma)]
        for line in text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    if all(len(fields) == 1 for fields in rows):
        return _in_order(path, [fields[0] for fields in rows], images, names)
    by_name = {}
    for image in images:
        name = image.rpartition("/")[2]
        by_name[name] = by_name[name.rpartition(".")[0]] = image
    found = {}
    for number, (name, *rest) in enumerate(rows):
        image = by_name.get(name.rpartition("/")[2])
        if image is None and comma and not number:
            continue  # The names of the columns.
        if not any(rest[:1]) or image in found:
            raise ValueError(
                f"A line of {printable(path)} must be an image and its class, each "
                f"image once. Received: {printable(' '.join([name, *rest]))!r}"
            )
        if image is None:
            left_out[name] = f"{printable(path)} has it, but it is not there"
        else:
            found[image] = rest[0]
    for image in {*images} - {*found}:
        left_out[image] = f"{printable(path)} does not have it"
    if not found:
        raise ValueError(
            f"{printable(path)} must name the images beside it. "
            f"Received: {len(rows)} lines, none of which names one"
        )
    return sorted(found.items())


def _in_order(path, labels, images, names):
    """Pair images, by name, with the lines of a list that has labels alone."""
    numbers = {label for label in labels if _number(label) is not None}
    if names is not None and not numbers <= {*names}:
        # ILSVRC2012_validation_ground_truth.txt counts classes in an order of its own.
        raise ValueError(
            f"{printable(path)} must have names of classes, or lines of an image and a "
            "number: numbers alone have no agreed order. "
            f"Received: {printable(min(numbers))!r}"
        )
    if len(labels) != len(images):
        raise ValueError(
            f"{printable(path)}, which has a class in each line, must have one for "
            f"each image. Received: {len(labels)} lines for {len(images)} images"
        )
    return list(zip(images, labels, strict=True))


def _class_of(label, names, path):
    """The class that a label means: its name, or its number if images are named too."""
    word = label.split()[0]  # Boxes may follow.
    for name in (label, word):
        if name in names:
            return name
    number = _number(word)
    if number is not None and number < len(names):
        return [*names][number]
    raise ValueError(
        f"A class in {printable(path)} must be one of the {len(names)} folders of "
        f"classes, or its number from 0. Received: {printable(label)!r}"
    )


def _number(text):
    """The whole number that a text is, or `None`."""
    return int(text) if text.isdecimal() and len(text) < 10 else None

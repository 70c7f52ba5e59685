"""Draws images with captions, and examples of each class."""

import matplotlib
import numpy as np

from keras_qkformer.analysis.colours import as_colours
from keras_qkformer.analysis.figures.sheet import (
    STYLE,
    Sheet,
    check_classes,
    save,
)


def plot_class_examples(examples, labels, class_names, path, *, per_class=8, title=""):
    """Draw the first examples of each class, a row per class.

    An example of event frames is drawn as its frame with the most events, because a sum
    over time would hide in which direction an edge moved. Each example has its own
    brightness scale.

    Args:
        examples: array `(examples, time, height, width, 2)` of event frames, OFF before
            ON, or `(examples, height, width, channels)` of images with 1 or 3 channels.
        labels: int array `(examples,)` in `[0, classes)`.
        class_names: list of str, one per class.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.
        per_class: int > 0. Largest number of examples of a class.
        title: str.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if shapes do not fit, a label is not a class, `per_class` is not
            positive, or the suffix of the path is not supported.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> examples, labels = np.random.poisson(0.1, (6, 4, 32, 32, 2)), [0, 1, 1, 0, 1, 0]
    >>> path = Path(tempfile.mkdtemp()) / "examples.png"
    >>> plot_class_examples(examples, labels, ["left", "right"], path).name
    'examples.png'
    """
    examples, labels = np.asarray(examples), np.asarray(labels)
    if examples.ndim not in (4, 5) or labels.shape != examples.shape[:1]:
        raise ValueError(
            "examples must be (examples, time, height, width, 2) or (examples, height, "
            f"width, channels), labels (examples,). Received: {examples.shape} and "
            f"{labels.shape}"
        )
    check_classes("labels", labels, len(class_names))
    if not per_class > 0:
        raise ValueError(f"per_class must be above 0. Received: per_class={per_class}")
    events = examples.ndim == 5
    chosen = [
        np.flatnonzero(labels == label)[:per_class] for label in range(len(class_names))
    ]
    columns = max(len(row) for row in chosen)
    cell = 0.9
    height = cell * examples.shape[-3] / examples.shape[-2]
    left = 0.25 + 0.1 * max(len(str(name)) for name in class_names)
    with matplotlib.rc_context(STYLE):
        top = 0.5 * bool(title) + 0.3 * events
        sheet = Sheet(
            left + columns * (cell + 0.06) - 0.06, top + len(chosen) * (height + 0.06)
        )
        sheet.add_title(title)
        if events:
            sheet.add_key(top - 0.25, "frame with the most events")
        for row, (name, places) in enumerate(zip(class_names, chosen, strict=True)):
            y = top + row * (height + 0.06)
            middle = {"ha": "right", "va": "center", "fontweight": "bold"}
            sheet.add_text(left - 0.12, y + height / 2, name, **middle)
            for column, place in enumerate(places):
                example = examples[place]
                if events:
                    example = example[example.sum((1, 2, 3)).argmax()]
                picture = as_colours(example[None])[0]
                sheet.add_picture(left + column * (cell + 0.06), y, cell, picture)
        return save(sheet.figure, path)


def plot_images(images, captions, path, *, columns=8, title=""):
    """Draw images side by side, each with a caption below.

    Args:
        images: array `(images, height, width, channels)` with 1 or 3 channels, clipped
            to [0, 1]; or event frames `(images, time, height, width, 2)`, OFF before
            ON, each drawn as its frame with the most events.
        captions: list of str, one per image. They may have several lines.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.
        columns: int > 0. Largest number of images in a row.
        title: str.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if there are no images, not one caption per image, `columns` is not
            positive, or the suffix of the path is not supported.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "images.png"
    >>> plot_images(np.random.uniform(size=(3, 8, 8, 3)), ["cat", "dog"] * 2, path)
    Traceback (most recent call last):
    ValueError: There must be one caption per image. Received: (3, 8, 8, 3) and 4
    """
    images = np.asarray(images)
    if images.ndim not in (4, 5) or len(captions) != len(images) or not len(images):
        raise ValueError(
            "There must be one caption per image. "
            f"Received: {images.shape} and {len(captions)}"
        )
    if not columns > 0:
        raise ValueError(f"columns must be above 0. Received: columns={columns}")
    if images.ndim == 5:
        images = np.stack([frames[frames.sum((1, 2, 3)).argmax()] for frames in images])
    else:
        images = np.clip(images, 0, 1)
    cell, columns = 1.15, min(columns, len(images))
    lines = max(caption.count("\n") for caption in captions) + 1
    height = cell * images.shape[1] / images.shape[2] + 0.08 + 0.15 * lines
    top = 0.5 * bool(title)
    with matplotlib.rc_context(STYLE):
        rows = -(-len(images) // columns)
        sheet = Sheet(columns * (cell + 0.1) - 0.1, top + rows * (height + 0.08))
        sheet.add_title(title)
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(place, columns)
            x, y = column * (cell + 0.1), top + row * (height + 0.08)
            sheet.add_picture(x, y, cell, as_colours(image[None])[0])
            below = y + height - 0.15 * lines
            small = {"ha": "center", "va": "top", "fontsize": 8}
            sheet.add_text(x + cell / 2, below, caption, **small)
        return save(sheet.figure, path)

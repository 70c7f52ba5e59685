"""Draws the confusion matrix."""

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_qkformer.analysis.figures.sheet import STYLE, check_classes, save

MOST_NAMED = 50
"""With more classes no name could be read, so the most confused pairs are named."""
PAIRS = 20
_NAME_LENGTH = 26


def plot_confusion_matrix(labels, predictions, class_names, path):
    """Draw a confusion matrix: a row per true class, a column per predicted class.

    The colour of a cell is its fraction of the examples of the true class; its number
    is a count, left out if it would not fit. A class without examples has an empty row.
    With more than `MOST_NAMED` classes the matrix is a map without names, beside a list
    of the `PAIRS` pairs of classes that are confused most often.

    Args:
        labels: int array `(examples,)` in `[0, classes)`. True classes.
        predictions: int array `(examples,)` in `[0, classes)`. Predicted classes.
        class_names: list of str, one per class.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if `labels` and `predictions` differ in shape or are empty, a value
            is not a class, or the suffix of the path is not supported.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "confusion.png"
    >>> plot_confusion_matrix([0, 1, 1], [0, 1, 0], ["cat", "dog"], path).name
    'confusion.png'
    """
    classes = len(class_names)
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape or not labels.size:
        raise ValueError(
            "labels and predictions must have one shape (examples,), examples above 0. "
            f"Received: {labels.shape} and {predictions.shape}"
        )
    check_classes("labels", labels, classes)
    check_classes("predictions", predictions, classes)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predictions), 1)
    totals = counts.sum(1, keepdims=True)
    fractions = np.ma.masked_where(np.broadcast_to(totals == 0, counts.shape), counts)
    fractions = fractions / np.maximum(totals, 1)

    with matplotlib.rc_context(STYLE):
        draw = _draw_all if classes <= MOST_NAMED else _draw_many
        figure, axes, image = draw(counts, fractions, class_names)
        # A square root scale keeps rare mistakes visible beside many right answers.
        image.set(cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        axes.spines[:].set_visible(False)
        axes.set_facecolor("#EEEEEE")
        axes.tick_params(length=0)
        accuracy = np.trace(counts) / counts.sum()
        axes.set_title(f"Accuracy {accuracy:.1%} on {counts.sum():,} examples", pad=12)
        bar = figure.colorbar(
            image, ax=axes, shrink=0.7, aspect=25, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1]
        )
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        bar.set_label("Fraction of the true class")
        bar.outline.set_visible(False)
        return save(figure, path)


def _draw_all(counts, fractions, class_names):
    """The matrix with the names of all classes: figure, axes, image."""
    classes = len(class_names)
    cell = max(min(0.6, 9 / classes), 2.4 / classes)  # Inches.
    points = 72 * cell
    side = classes * cell
    figure = Figure(figsize=(side + 2.6, side + 1.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(fractions)
    size = min(11, 0.75 * points)
    names = {"labels": class_names, "fontsize": size, "parse_math": False}
    axes.set_xticks(range(classes), **names)
    axes.set_yticks(range(classes), **names)
    longest = max(len(str(name)) for name in class_names)
    if longest * 0.65 * size > points:
        axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    size = min(11, 0.8 * points / len(str(counts.max())) / 0.65)
    if size >= 5:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    column,
                    row,
                    count,
                    ha="center",
                    va="center",
                    fontsize=size,
                    color="white" if fractions[row, column] > 0.45 else "black",
                )
    return figure, axes, image


def _draw_many(counts, fractions, class_names):
    """A map of the matrix beside the most confused pairs: figure, axes, image."""
    figure = Figure(figsize=(14, 6.5), layout="constrained")
    axes, pairs = figure.subplots(1, 2, width_ratios=(1.5, 1))
    image = axes.imshow(fractions, interpolation="nearest")
    axes.set_xlabel("Number of the predicted class")
    axes.set_ylabel("Number of the true class")
    mistakes = counts - np.diag(np.diag(counts))
    most = np.argsort(-mistakes, axis=None, kind="stable")[:PAIRS]
    rows, columns = np.unravel_index(most, counts.shape)
    found = [(r, c) for r, c in zip(rows, columns, strict=True) if mistakes[r, c]]
    names = [_short(str(name)) for name in class_names]
    labels = [f"{names[r]} taken for {names[c]}" for r, c in found]
    values = [mistakes[pair] for pair in found]
    bars = pairs.barh(range(len(found)), values, color="#4C78A8", height=0.7)
    shares = [f" {mistakes[pair]} ({fractions[pair]:.0%})" for pair in found]
    pairs.bar_label(bars, shares, fontsize=9)
    pairs.set_yticks(range(len(found)), labels, fontsize=9, parse_math=False)
    pairs.invert_yaxis()
    pairs.set_xlim(0, 1.35 * max(values, default=1))
    pairs.set_xticks([])
    pairs.tick_params(length=0)
    pairs.spines[:].set_visible(False)
    wrong = mistakes.sum()
    pairs.set_title(
        f"The most confused of {np.count_nonzero(mistakes):,} pairs: "
        f"{sum(values):,} of {wrong:,} mistakes",
        loc="left",
    )
    return figure, axes, image


def _short(name):
    """The first of several names, cut off where it is long."""
    name = name.partition(",")[0]
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"

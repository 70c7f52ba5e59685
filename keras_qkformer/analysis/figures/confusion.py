"""Draws the confusion matrix."""

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_qkformer.analysis.figures.sheet import STYLE, check_classes, save


def plot_confusion_matrix(labels, predictions, class_names, path):
    """Draw a confusion matrix: a row per true class, a column per predicted class.

    The colour of a cell is its fraction of the examples of the true class; its number
    is a count, left out if it would not fit. A class without examples has an empty row.

    Args:
        labels: int array `(examples,)` in `[0, classes)`. True classes.
        predictions: int array `(examples,)` in `[0, classes)`. Predicted classes.
        class_names: list of str, one per class.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.

    Returns:
        The path.

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

    cell = max(min(0.6, 9 / classes), 2.4 / classes, 0.1)  # Inches.
    points = 72 * cell
    with matplotlib.rc_context(STYLE):
        side = classes * cell
        figure = Figure(figsize=(side + 2.6, side + 1.8), layout="constrained")
        axes = figure.add_subplot()
        # A square root scale keeps rare mistakes visible beside many right answers.
        image = axes.imshow(fractions, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        axes.spines[:].set_visible(False)
        axes.set_facecolor("#EEEEEE")
        size = min(11, 0.75 * points)
        axes.set_xticks(range(classes), class_names, fontsize=size)
        axes.set_yticks(range(classes), class_names, fontsize=size)
        longest = max(len(str(name)) for name in class_names)
        if longest * 0.65 * size > points:
            axes.tick_params(axis="x", rotation=90)
        axes.tick_params(length=0)
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        accuracy = np.trace(counts) / counts.sum()
        axes.set_title(f"Accuracy {accuracy:.1%} on {counts.sum():,} examples", pad=12)
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
        bar = figure.colorbar(
            image, ax=axes, shrink=0.7, aspect=25, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1]
        )
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        bar.set_label("Fraction of the true class")
        bar.outline.set_visible(False)
        return save(figure, path)

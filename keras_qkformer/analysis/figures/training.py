"""Draws the course of a training, or of a sweep: loss, accuracy, learning rate."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from keras_qkformer.analysis.figures.sheet import BLUE, GREY, STYLE, VERMILION, save


def plot_training(history, path):
    """Draw loss and accuracy of every epoch, with the best epoch marked.

    The best epoch is the first with the highest validation accuracy, or training
    accuracy if there was no validation. A third panel shows the learning rate if the
    history has it.

    Args:
        history: dict of lists with one value per epoch, as in `model.fit(...).history`:
            `loss`, `accuracy`, and optionally `val_loss`, `val_accuracy` and
            `learning_rate`. Other keys are ignored.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if loss or accuracy are missing, the lists are empty or differ in
            length, or the suffix of the path is not supported.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> history = {"loss": [2.1, 1.4, 0.9], "accuracy": [0.3, 0.6, 0.8]}
    >>> plot_training(history, Path(tempfile.mkdtemp()) / "training.png").name
    'training.png'
    """
    panels = {"loss": "Loss", "accuracy": "Accuracy", "learning_rate": "Learning rate"}
    curves = {
        key: history[key]
        for name in panels
        for key in (name, f"val_{name}")
        if key in history
    }
    lengths = {key: len(values) for key, values in curves.items()}
    one_length = len(set(lengths.values())) == 1 and 0 not in lengths.values()
    if not {"loss", "accuracy"} <= set(curves) or not one_length:
        raise ValueError(
            "history must have loss and accuracy, and lists of one length above 0. "
            f"Received: lengths {lengths}"
        )
    epochs = np.arange(1, lengths["loss"] + 1)
    judge = "val_accuracy" if "val_accuracy" in curves else "accuracy"
    best = int(np.nanargmax(curves[judge]))
    panels = {key: title for key, title in panels.items() if key in curves}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 3.8), layout="constrained")
        all_axes = figure.subplots(1, len(panels))
        for axes, (key, title) in zip(all_axes, panels.items(), strict=True):
            for name, label, colour in (
                (key, "training", BLUE),
                (f"val_{key}", "validation", VERMILION),
            ):
                if name in curves:
                    # A line through a single point would be invisible.
                    marker = "o" if len(epochs) == 1 else None
                    axes.plot(
                        epochs,
                        curves[name],
                        color=colour,
                        label=label,
                        marker=marker,
                        clip_on=False,
                    )
            axes.axvline(best + 1, color=GREY, linewidth=1, linestyle=":")
            axes.set_title(title)
            axes.set_xlabel("Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(axis="y", alpha=0.3)
            axes.set_ylim(bottom=0)
        loss, accuracy = all_axes[:2]
        accuracy.yaxis.set_major_formatter(PercentFormatter(1))
        score = curves[judge][best]
        accuracy.plot(
            best + 1,
            score,
            "o",
            color=VERMILION if judge == "val_accuracy" else BLUE,
            markeredgecolor="white",
            markersize=9,
            clip_on=False,
            label=f"best: {score:.1%} in epoch {best + 1}",
        )
        for axes in (loss, accuracy):
            axes.legend(loc="best")  # Named, because the default warns when it is slow.
        return save(figure, path)


def plot_learning_rate(epochs, rates, path):
    """Draw a learning rate over the epochs of a training.

    Args:
        epochs: increasing floats `(points,)`. Positions in epochs, from 0.
        rates: floats `(points,)`. Learning rate at each position.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if `epochs` and `rates` differ in shape or are empty, or the suffix
            of the path is not supported.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "rate.png"
    >>> plot_learning_rate([0, 1, 2], [0.0, 1e-3, 5e-4], path).name
    'rate.png'
    """
    epochs, rates = np.asarray(epochs), np.asarray(rates)
    if epochs.ndim != 1 or epochs.shape != rates.shape or not epochs.size:
        raise ValueError(
            "epochs and rates must have one shape (points,), points above 0. "
            f"Received: {epochs.shape} and {rates.shape}"
        )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(epochs, rates, color=BLUE)
        axes.set_title(f"Learning rate: {rates.max():.3g} at its highest")
        axes.set_xlabel("Epoch")
        axes.grid(axis="y", alpha=0.3)
        axes.set_ylim(bottom=0)
        return save(figure, path)


def plot_rate_sweep(rates, losses, suggestion, path):
    """Draw the loss against a growing learning rate, with the suggested rate marked.

    Args:
        rates: increasing floats `(steps,)` > 0.
        losses: floats `(steps,)`. The loss of each step.
        suggestion: float. The rate to mark.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if `rates` and `losses` differ in shape or are empty, or the suffix
            of the path is not supported.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "sweep.png"
    >>> plot_rate_sweep([1e-4, 1e-2, 1.0], [2.3, 0.5, 7.0], 1e-3, path).name
    'sweep.png'
    """
    rates, losses = np.asarray(rates), np.asarray(losses)
    if rates.ndim != 1 or rates.shape != losses.shape or not rates.size:
        raise ValueError(
            "rates and losses must have one shape (steps,), steps above 0. "
            f"Received: {rates.shape} and {losses.shape}"
        )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(rates, losses, color=BLUE)
        axes.axvline(
            suggestion, color=VERMILION, linestyle=":", label=f"try {suggestion:.2g}"
        )
        axes.set_xscale("log")
        # One batch at the end may be many times as bad as a wild guess.
        axes.set_ylim(0, 2 * losses[: max(len(losses) // 2, 1)].max())
        axes.set_title("Loss of each step of a sweep")
        axes.set_xlabel("Learning rate")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="best")  # Named, because the default warns when it is slow.
        return save(figure, path)

"""Draws a study: trainings as dots, the mean of each score with its interval."""

import matplotlib
from matplotlib.figure import Figure

from keras_qkformer.analysis.figures.sheet import BLUE, GREY, STYLE, VERMILION, save


def plot_study(summary, path, title=""):
    """Draw the accuracies of a study, one row for each score.

    Args:
        summary: dict, see `analysis.study.summarize`.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.
        title: str.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if there is no score, or the suffix of the path is not supported.
    """
    scores = summary["scores"]
    if not scores:
        raise ValueError("A study must have scores to be drawn. Received: none")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.32 * len(scores)), layout="constrained")
        axes = figure.subplots()
        for row, score in enumerate(scores.values()):
            values = [100 * value for value in score["values"]]
            axes.plot(values, [row] * len(values), "o", color=BLUE, alpha=0.45, ms=5)
            if score["interval"] is not None:
                low, high = (100 * value for value in score["interval"])
                axes.plot([low, high], [row, row], color=VERMILION, linewidth=1.5)
            axes.plot(100 * score["mean"], row, "|", color=VERMILION, ms=14, mew=2.5)
        axes.set_yticks(range(len(scores)), list(scores), fontsize=9)
        axes.set_ylim(len(scores) - 0.4, -0.6)
        axes.set_xlabel(
            "Accuracy, % (dots: trainings; line: 95 % interval of the mean)"
        )
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GREY, alpha=0.2)
        if title:
            axes.set_title(title, loc="left", wrap=True, parse_math=False)
        return save(figure, path)

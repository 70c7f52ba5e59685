"""Shared parts of all figures: colours, style, and a sheet measured in inches."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from keras_qkformer.analysis.colours import OFF, ON

BLUE, VERMILION, GREY = (f"#{bytes(rgb).hex()}" for rgb in (OFF, ON, (102,) * 3))
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2,
    "figure.dpi": 200,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.15,
    "legend.edgecolor": "none",
}


def check_classes(name, values, classes):
    """Raise an error unless all values are class numbers.

    Args:
        name: str. What the error calls the values.
        values: array of any shape.
        classes: int > 0. Number of classes.

    Raises:
        ValueError: if a value is not a whole number in `[0, classes)`.
    """
    whole = np.issubdtype(values.dtype, np.integer)
    if not whole or not set(values.tolist()) <= set(range(classes)):
        raise ValueError(
            f"{name} must be whole numbers from 0 to {classes - 1}. "
            f"Received: {values!r}"
        )


class Sheet:
    """A figure whose positions are inches from its upper left corner; y points down.

    Args:
        width: float > 0. In inches.
        height: float > 0. In inches.
    """

    def __init__(self, width, height):
        self.size = width, height
        self.figure = Figure(figsize=self.size)

    def add_axes(self, x, y, width, height):
        """Add empty axes; x and y are their upper left corner."""
        place = (x, self.size[1] - y - height, width, height)
        axes = self.figure.add_axes(
            np.divide(place, self.size + self.size), xticks=[], yticks=[]
        )
        axes.spines[:].set_visible(False)
        return axes

    def add_picture(self, x, y, width, picture):
        """Add a framed picture `(height, width, 3)`; x and y as for `add_axes`."""
        axes = self.add_axes(x, y, width, width * picture.shape[0] / picture.shape[1])
        image = axes.imshow(picture)
        axes.spines[:].set(visible=True, color=GREY, linewidth=0.5)
        return image

    def add_text(self, x, y, text, **style):
        place = x / self.size[0], 1 - y / self.size[1]
        # Names from outside: between two dollars they would be read as a formula.
        return self.figure.text(*place, text, parse_math=False, **style)

    def add_title(self, text):
        self.add_text(0, 0.1, text, va="top", fontsize=14, fontweight="bold")

    def add_label(self, x, y, name, note):
        """Write a name and below it a note, right-aligned at x."""
        right = {"ha": "right", "va": "top"}
        self.add_text(x, y, name, fontweight="bold", **right)
        self.add_text(x, y + 0.21, note, fontsize=9, color=GREY, **right)

    def add_key(self, y, note):
        """Write a note on the left and the colours of ON and OFF on the right."""
        self.add_text(0, y, note, va="top", fontsize=9, color=GREY)
        x = self.size[0]
        for text, colour, step in (
            ("\u25a0 ON", VERMILION, 0.5),
            ("\u25a0 OFF", BLUE, 0),
        ):
            self.add_text(x, y, text, va="top", ha="right", fontsize=9, color=colour)
            x -= step


def save(figure, path):
    """Write a figure to a file and return the path.

    Args:
        figure: `matplotlib.figure.Figure`.
        path: str or path; its folders are made if needed. The suffix names the format;
            PNG is the default. `None` writes nothing.

    Returns:
        `Path`, or the figure if the path is `None`.

    Raises:
        ValueError: if matplotlib does not support the format.
    """
    if path is None:
        return figure
    path = Path(path)
    format, known = path.suffix[1:] or "png", figure.canvas.get_supported_filetypes()
    if format.lower() not in known:
        raise ValueError(
            f"Format {format!r} is not supported (supported formats: "
            f"{', '.join(sorted(known))}). Received: {str(path)!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format=format)
    return path

"""Draws recordings: frames, animations, points in space and time."""

import itertools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.ticker import MaxNLocator

from keras_qkformer.analysis.colours import as_colours
from keras_qkformer.analysis.figures.sheet import (
    BLUE,
    STYLE,
    VERMILION,
    Sheet,
    save,
)


def plot_event_frames(frames, path, *, edges_us=None, title="Events"):
    """Draw the frames of a recording side by side, OFF in blue, ON in orange.

    All frames have the same colour scale; it saturates at the 95 % quantile of the
    counts above 0.

    Args:
        frames: array `(time, height, width, 2)` of counts >= 0, OFF before ON.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.
        edges_us: array `(time + 1,)`, or `None` to number the frames. The start of each
            frame and the end of the last one, in microseconds. Labels count from the
            first start.
        title: str.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if the shapes do not fit, or the suffix of the path is not
            supported.

    Example:
    >>> import tempfile
    >>> frames = np.random.poisson(0.1, (4, 32, 32, 2))
    >>> plot_event_frames(frames, Path(tempfile.mkdtemp()) / "frames.png").name
    'frames.png'
    """
    frames = _checked_frames(frames)
    labels = _time_labels(len(frames), edges_us)
    columns = min(len(frames), 8)
    width = float(np.clip(9.6 / columns, 1.2, 2.4))
    height = width * frames.shape[1] / frames.shape[2]
    rows = -(-len(frames) // columns)
    with matplotlib.rc_context(STYLE):
        sheet = Sheet(
            max(columns * (width + 0.1) - 0.1, 3), 0.75 + rows * (height + 0.35)
        )
        sheet.add_title(title)
        sheet.add_key(0.45, f"{frames.sum():,.0f} events")
        for number, (picture, label) in enumerate(
            zip(as_colours(frames), labels, strict=True)
        ):
            row, column = divmod(number, columns)
            x, y = column * (width + 0.1), 1.0 + row * (height + 0.35)
            sheet.add_text(
                x + width / 2, y - 0.07, label, ha="center", va="baseline", fontsize=9
            )
            sheet.add_picture(x, y, width, picture)
        return save(sheet.figure, path)


def animate_event_frames(
    frames, path, *, frames_per_second=10, edges_us=None, title="Events"
):
    """Draw the frames of a recording as an animation, see `plot_event_frames`.

    Args:
        frames: array `(time, height, width, 2)` of counts >= 0, OFF before ON.
        path: str or path of the GIF to write; its folders are made if needed.
        frames_per_second: float > 0.
        edges_us: see `plot_event_frames`.
        title: str.

    Returns:
        The path.

    Raises:
        ValueError: if the shapes do not fit, `frames_per_second` is not positive or the
            path does not end in `.gif`.

    Example:
    >>> import tempfile
    >>> frames = np.random.poisson(0.1, (4, 32, 32, 2))
    >>> animate_event_frames(frames, Path(tempfile.mkdtemp()) / "events.gif").name
    'events.gif'
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(
            f"An animation must be a file named .gif. Received: {str(path)!r}"
        )
    if not frames_per_second > 0:
        raise ValueError(
            "frames_per_second must be above 0. "
            f"Received: frames_per_second={frames_per_second}"
        )
    frames = _checked_frames(frames)
    labels = _time_labels(len(frames), edges_us)
    pictures = as_colours(frames)
    height = 3.0 * frames.shape[1] / frames.shape[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({**STYLE, "figure.dpi": 120, "savefig.bbox": None}):
        sheet = Sheet(3.2, height + 1.05)
        sheet.add_text(0.1, 0.1, title, va="top", fontweight="bold")
        image = sheet.add_picture(0.1, 0.65, 3.0, pictures[0])
        sheet.add_text(0.1, 0.36, "\u25a0 OFF", va="top", fontsize=9, color=BLUE)
        sheet.add_text(0.65, 0.36, "\u25a0 ON", va="top", fontsize=9, color=VERMILION)
        note = sheet.add_text(1.6, height + 0.7, "", va="top", ha="center", fontsize=9)
        writer = PillowWriter(fps=frames_per_second)
        with writer.saving(sheet.figure, path, dpi=120):
            for picture, label in zip(pictures, labels, strict=True):
                image.set_data(picture)
                note.set_text(label)
                writer.grab_frame()
    return path


def plot_event_cloud(events, path, sensor_size, *, title="Events", most=20_000):
    """Draw events as points in space and time, OFF in blue, ON in orange.

    Args:
        events: array `(events,)` with fields t (in microseconds), x, y, p, at least
            one, ordered by time.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.
        sensor_size: (height, width) in pixels.
        title: str.
        most: int > 0. Largest number of points. Of more events, the figure shows every
            second, third, ... one, and says so.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if there are no events, `most` is not positive, or the suffix of the
            path is not supported.

    Example:
    >>> import tempfile
    >>> events = np.zeros(3, [("t", int), ("x", int), ("y", int), ("p", bool)])
    >>> path = Path(tempfile.mkdtemp()) / "cloud.png"
    >>> plot_event_cloud(events, path, sensor_size=(32, 32)).name
    'cloud.png'
    """
    if not len(events):
        raise ValueError("A cloud must have events. Received: none")
    if not most > 0:
        raise ValueError(f"most must be above 0. Received: most={most}")
    every = -(-len(events) // most)
    shown = events[::every]
    note = f"{len(events):,} events"
    if every > 1:
        note += f", one in {every} is shown"
    height, width = sensor_size
    time_ms = (shown["t"] - events["t"][0]) / 1000
    with matplotlib.rc_context({**STYLE, "grid.color": "#DDDDDD"}):
        sheet = Sheet(7.0, 4.6)
        sheet.add_title(title)
        sheet.add_key(0.45, note)
        axes = sheet.figure.add_axes((0, 0, 0.94, 0.88), projection="3d")
        for on, colour in ((False, BLUE), (True, VERMILION)):
            chosen = (shown["p"] != 0) == on
            axes.scatter(
                time_ms[chosen],
                shown["x"][chosen],
                shown["y"][chosen],
                s=float(np.clip(20_000 / len(shown), 1, 12)),
                color=colour,
                alpha=0.6,
                linewidths=0,
                depthshade=False,
                rasterized=True,  # In a PDF, vector points take more space than pixels.
            )
        axes.set_xlabel("Time (ms)", labelpad=12)
        axes.set_ylabel("Column (px)")
        axes.set_zlabel("Row (px)")
        axes.set_ylim(0, max(width - 1, 1))
        axes.set_zlim(max(height - 1, 1), 0)
        largest = max(height, width)
        axes.set_box_aspect((2, width / largest, height / largest), zoom=1.3)
        axes.view_init(elev=20, azim=-60)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.set_pane_color((1, 1, 1, 0))
            axis.set_major_locator(MaxNLocator(4, integer=axis is not axes.xaxis))
            axis.set_tick_params(labelsize=9)
        return save(sheet.figure, path)


def _checked_frames(frames):
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 2 or not frames.size:
        raise ValueError(
            "frames must be (time, height, width, 2), none of them 0. "
            f"Received: {frames.shape}"
        )
    return frames


def _time_labels(count, edges_us):
    """Return the label of each frame: its span of time, or its number."""
    if edges_us is None:
        return [f"t = {step + 1}" for step in range(count)]
    edges = np.array(edges_us, float)
    if edges.shape != (count + 1,):
        raise ValueError(
            f"edges_us must have one number more than the {count} frames. "
            f"Received: {edges.shape}"
        )
    edges -= edges[0]
    unit, edges = ("s", edges / 1e6) if edges[-1] >= 1e7 else ("ms", edges / 1e3)
    steps = np.diff(edges)
    shortest = steps[steps > 0].min(initial=np.inf)
    digits = 0 if shortest >= 2 else 1 if shortest >= 0.2 else 3
    return [
        f"{start:.{digits}f}\u2013{end:.{digits}f} {unit}"
        for start, end in itertools.pairwise(edges)
    ]

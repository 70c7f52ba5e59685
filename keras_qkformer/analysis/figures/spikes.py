"""Draws the spikes behind a prediction."""

import matplotlib
import numpy as np

from keras_qkformer.analysis.attention import token_masks_of, views_of
from keras_qkformer.analysis.colours import as_colours
from keras_qkformer.analysis.figures.sheet import STYLE, Sheet, save
from keras_qkformer.analysis.one_pass import one_pass


def plot_spikes(model, image, path, class_names=None, label=None):
    """Draw the features and token attention of a model for one input.

    There is a row for each stage, below the rows of its blocks with Q-K token
    attention, and a column for each time step. Each row has its own colour scale.

    Args:
        model: a `SpikingClassifier` with a head.
        image: array of the shape and range that the model takes, without the batch
            axis: an image `(height, width, channels)` or event frames
            `(time, height, width, 2)`, OFF before ON.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too. `None` returns the figure, as
            for a notebook.
        class_names: list of str, one per class, or `None` to number the classes.
        label: int in `[0, classes)`, the true class, or `None` if it is unknown.

    Returns:
        The path, or the figure.

    Raises:
        ValueError: if the model has no head, the image, the names or the label do not
            fit it, or the suffix of the path is not supported.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_qkformer.models import SpikingClassifier
    >>> model = SpikingClassifier.from_preset("qkformer_tiny")
    >>> image = np.random.rand(*model.input_shape[1:])
    >>> plot_spikes(model, image, Path(tempfile.mkdtemp()) / "spikes.png").name
    'spikes.png'
    """
    classes = model.num_classes
    if classes is None:
        raise ValueError("model must have a head. Received: num_classes=None")
    if class_names is None:
        class_names = [f"class {i}" for i in range(classes)]
    if len(class_names) != classes:
        raise ValueError(
            f"class_names must have {classes} names, one per class. "
            f"Received: {len(class_names)} names"
        )
    if label is not None and label not in range(classes):
        raise ValueError(
            f"label must be a whole number from 0 to {classes - 1}. "
            f"Received: label={label!r}"
        )
    batch = np.asarray(image)[None]
    found = one_pass(model, batch)
    rows = _spike_rows(model, found)
    logits = found.logits_of_steps[0].mean(0, dtype="float64")
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    predicted = int(probabilities.argmax())
    title = f"Predicted: {class_names[predicted]} ({probabilities[predicted]:.0%})"
    if label is not None:
        title += f"     Label: {class_names[label]}"

    frames = batch if model.backbone.static else batch[0]
    with matplotlib.rc_context(STYLE):
        return save(_draw_grid(title, frames, rows), path)


def _spike_rows(model, found):
    """Return the rows, top to bottom: (name, note, values, colour map, limits)."""
    masks = token_masks_of(views_of(model, found.spikes))
    rows = []
    for stage, x in found.features.items():
        name = stage.replace("stage", "Stage ")
        for block, mask in masks.items():
            if block.startswith(f"{stage}_"):
                number = block.removeprefix(f"{stage}_block")
                note = f"token attention: fraction\nof {mask.shape[-1]} heads that pass"
                values = mask[0].mean(-1, dtype="float64")
                rows.append(
                    (f"{name}, block {number}", note, values, "cividis", (0, 1))
                )
        values = x[0].mean(-1, dtype="float64")
        most = np.abs(values).max() or 1
        height, width, channels = x.shape[2:]
        if model.backbone.has_potentials:
            what, colours, limits = "mean potential", "RdBu_r", (-most, most)
        else:
            what, colours, limits = "mean spike count", "magma", (0, most)
        note = f"{what}\n{height} \u00d7 {width}, {channels} channels"
        rows.append((name, note, values, colours, limits))
    return rows


def _draw_grid(title, frames, rows):
    """Draw a grid of images: a row for each of `rows`, a column for each time step.

    One input frame goes to the left of the rows; several get a row of their own. The
    positions are computed, because automatic layouts leave gaps around images.
    """
    pictures = as_colours(frames)
    note = "blue OFF, orange ON" if frames.shape[-1] == 2 else "one frame per step"
    steps = len(rows[0][2])
    cell_width = float(np.clip(10 / steps, 0.35, 1.4))  # All lengths in inches.
    cell_height = cell_width * frames.shape[1] / frames.shape[2]
    columns = 3.7 if len(frames) == 1 else 1.8
    columns += np.arange(steps + 1) * (cell_width + 0.06)
    first_row = int(len(frames) > 1)
    heights = 0.75 + np.arange(first_row + len(rows) + 1) * (
        max(cell_height, 0.65) + 0.14
    )
    sheet = Sheet(columns[-1] + 0.7, heights[-1])
    sheet.add_title(title)
    for x, step in zip(columns, range(steps), strict=False):
        centre = x + cell_width / 2
        time = f"t = {step + 1}" if cell_width > 0.5 else step + 1
        sheet.add_text(centre, heights[0] - 0.08, time, ha="center", fontsize=9)
    if first_row:
        sheet.add_label(columns[0] - 0.15, heights[0], "Input", note)
        for x, picture in zip(columns, pictures, strict=False):
            sheet.add_picture(x, heights[0], cell_width, picture)
    else:
        height = 1.5 * frames.shape[1] / frames.shape[2]
        middle = (heights[0] + heights[-1] - height) / 2
        picture = sheet.add_picture(0, middle, 1.5, pictures[0])
        picture.axes.set_title("Input", fontsize=11, fontweight="bold")
    for y, row in zip(heights[first_row:], rows, strict=False):
        name, note, values, colours, limits = row
        sheet.add_label(columns[0] - 0.15, y, name, note)
        for x, value in zip(columns, values, strict=False):
            axes = sheet.add_axes(x, y, cell_width, cell_height)
            image = axes.imshow(value, colours, vmin=limits[0], vmax=limits[1])
        bar = sheet.add_axes(columns[-1] + 0.04, y, 0.1, cell_height)
        sheet.figure.colorbar(image, cax=bar).outline.set_visible(False)
        bar.set_yticks(limits, [f"{limit:.2g}" for limit in limits])
        bar.tick_params(length=0, labelsize=9)
        for tick, side in zip(bar.get_yticklabels(), ("bottom", "top"), strict=True):
            tick.set_verticalalignment(side)
    return sheet.figure

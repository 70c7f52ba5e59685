"""Figures: training, confusion, spikes behind a prediction, recordings of events."""

import itertools
from pathlib import Path

import numpy as np
from keras import ops

from keras_qkformer.analysis.attention import stage_activity, token_masks

try:
    import matplotlib
    from matplotlib.animation import PillowWriter
    from matplotlib.colors import PowerNorm, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ImportError as error:
    raise ImportError(
        "Figures need matplotlib: pip install 'keras_qkformer[plots]'"
    ) from error

# Blue, vermilion and grey of Okabe and Ito: distinct to colour-blind readers.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#666666"
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


def plot_training(history, path):
    """Draw loss and accuracy of every epoch, with the best epoch marked.

    The best epoch is the first with the highest validation accuracy, or training
    accuracy where there was no validation. A third panel shows the learning rate if
    the history has it.

    Args:
        history: dict of lists with one value per epoch, such as `history` of the
            object that `model.fit` returns: `loss` and `accuracy`, and perhaps
            `val_loss`, `val_accuracy`, `learning_rate`. Others are ignored.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.

    Returns:
        The path.

    Raises:
        ValueError: if loss or accuracy are missing or the lists differ in length.

    Example:
    >>> import tempfile
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
                    # A single epoch would be an invisible line.
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
            axes.legend()
        return _save(figure, path)


def plot_learning_rate(epochs, rates, path):
    """Draw a learning rate over the epochs of a training.

    Args:
        epochs: floats, ascending: at which points, in epochs from 0.
        rates: floats, as many.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.

    Returns:
        The path.

    Raises:
        ValueError: if the two differ in shape.

    Example:
    >>> import tempfile
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
        return _save(figure, path)


def plot_confusion_matrix(labels, predictions, class_names, path):
    """Draw how often each class was taken for each other one.

    Colour is the share of the examples of the true class; numbers are counts, left
    out where they would not fit. A class without examples has an empty row.

    Args:
        labels: whole numbers `(examples,)` in `[0, classes)`: the true classes.
        predictions: whole numbers `(examples,)` in `[0, classes)`.
        class_names: list of str, one per class.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.

    Returns:
        The path.

    Raises:
        ValueError: if the two differ in shape, or one is not a class.

    Example:
    >>> import tempfile
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
    _check_classes("labels", labels, classes)
    _check_classes("predictions", predictions, classes)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predictions), 1)
    totals = counts.sum(1, keepdims=True)
    shares = np.ma.masked_where(np.broadcast_to(totals == 0, counts.shape), counts)
    shares = shares / np.maximum(totals, 1)

    cell = max(min(0.6, 9 / classes), 2.4 / classes, 0.1)  # Inches.
    points = 72 * cell
    with matplotlib.rc_context(STYLE):
        side = classes * cell
        figure = Figure(figsize=(side + 2.6, side + 1.8), layout="constrained")
        axes = figure.add_subplot()
        # The square root keeps a few mistakes visible beside many right answers.
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
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
        share = np.trace(counts) / counts.sum()
        axes.set_title(f"Accuracy {share:.1%} on {counts.sum():,} examples", pad=12)
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
                        color="white" if shares[row, column] > 0.45 else "black",
                    )
        bar = figure.colorbar(
            image, ax=axes, shrink=0.7, aspect=25, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1]
        )
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        bar.set_label("Share of the true class")
        bar.outline.set_visible(False)
        return _save(figure, path)


def plot_spikes(model, image, path, class_names=None, label=None):
    """Draw what a model does with one input: spikes of each stage, token attention.

    Rows are the stages, and above each the attention of its blocks with Q-K token
    attention; columns are time steps. The colour scale is one per row.

    Args:
        model: a `QKFormerClassifier` with a head.
        image: array of the shape and range that the model takes, without the batch:
            an image `(height, width, channels)` or event frames
            `(time, height, width, 2)`, OFF before ON.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.
        class_names: list of str, one per class, or `None` for numbers.
        label: int in `[0, classes)`, the true class, or `None` if it is not known.

    Returns:
        The path.

    Raises:
        ValueError: if the image, the names or the label do not fit the model.

    Example:
    >>> import tempfile
    >>> from keras_qkformer import QKFormerClassifier
    >>> model = QKFormerClassifier.from_preset("qkformer_tiny")
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
    rows = _spike_rows(model, batch)
    logits = ops.convert_to_numpy(model(batch, training=False))[0].astype("float64")
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    predicted = int(probabilities.argmax())
    title = f"Predicted: {class_names[predicted]} ({probabilities[predicted]:.0%})"
    if label is not None:
        title += f"     Label: {class_names[label]}"

    frames = batch if model.backbone.static else batch[0]
    with matplotlib.rc_context(STYLE):
        return _save(_draw_grid(title, frames, rows), path)


def plot_event_frames(frames, path, *, edges_us=None, title="Events"):
    """Draw the frames of a recording one after the other, OFF in blue, ON in orange.

    All frames have one scale of colour, full at the 95 % quantile of the counts.

    Args:
        frames: array `(time, height, width, 2)` of counts, OFF before ON.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.
        edges_us: `(time + 1,)`, or `None` to number the frames. Where each frame begins
            and the last one ends, in microseconds; shown from the first on.
        title: str.

    Returns:
        The path.

    Raises:
        ValueError: if the shapes do not fit.

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
        sheet = _Sheet(
            max(columns * (width + 0.1) - 0.1, 3), 0.75 + rows * (height + 0.35)
        )
        sheet.add_title(title)
        sheet.add_key(0.45, f"{frames.sum():,.0f} events")
        for number, (picture, label) in enumerate(
            zip(_pictures(frames), labels, strict=True)
        ):
            row, column = divmod(number, columns)
            x, y = column * (width + 0.1), 1.0 + row * (height + 0.35)
            sheet.add_text(
                x + width / 2, y - 0.07, label, ha="center", va="baseline", fontsize=9
            )
            sheet.add_picture(x, y, width, picture)
        return _save(sheet.figure, path)


def animate_event_frames(
    frames, path, *, frames_per_second=10, edges_us=None, title="Events"
):
    """As `plot_event_frames`, as an animation that repeats for ever.

    Args:
        frames: array `(time, height, width, 2)` of counts, OFF before ON.
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
    pictures = _pictures(frames)
    height = 3.0 * frames.shape[1] / frames.shape[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({**STYLE, "figure.dpi": 120, "savefig.bbox": None}):
        sheet = _Sheet(3.2, height + 1.05)
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
            suffixes `.pdf` and `.svg` work, too.
        sensor_size: (height, width) in pixels.
        title: str.
        most: int > 0. Of more events every second, every third, ... is drawn, and the
            figure says so.

    Returns:
        The path.

    Raises:
        ValueError: if there are no events or `most` is not positive.

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
        sheet = _Sheet(7.0, 4.6)
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
                rasterized=True,  # A vector of each point is larger than the picture.
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
        return _save(sheet.figure, path)


def plot_class_examples(examples, labels, class_names, path, *, per_class=8, title=""):
    """Draw a sheet of examples: a row for each class, the first ones from the left.

    Of event frames, the one with the most events is shown: a sum over time would hide
    which way an edge moved. Each example has its own scale of brightness.

    Args:
        examples: array `(examples, time, height, width, 2)` of event frames, OFF before
            ON, or `(examples, height, width, channels)` of images with 1 or 3 channels.
        labels: whole numbers `(examples,)` in `[0, classes)`.
        class_names: list of str, one per class.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.
        per_class: int > 0. Examples of a class at most.
        title: str.

    Returns:
        The path.

    Raises:
        ValueError: if shapes do not fit or a label is not a class.

    Example:
    >>> import tempfile
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
    _check_classes("labels", labels, len(class_names))
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
        sheet = _Sheet(
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
                picture = _pictures(example[None])[0]
                sheet.add_picture(left + column * (cell + 0.06), y, cell, picture)
        return _save(sheet.figure, path)


def plot_images(images, captions, path, *, columns=8, title=""):
    """Draw images side by side, each with a caption below.

    Args:
        images: array `(images, height, width, channels)` with 1 or 3 channels, from 0
            to 1; what is outside is cut off. Or event frames
            `(images, time, height, width, 2)`, of which the one with the most events is
            shown.
        captions: list of str, one per image, perhaps with several lines.
        path: str or path of the PNG to write; its folders are made if needed. The
            suffixes `.pdf` and `.svg` work, too.
        columns: int > 0. Images in a row.
        title: str.

    Returns:
        The path.

    Raises:
        ValueError: if shapes do not fit.

    Example:
    >>> import tempfile
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
        sheet = _Sheet(columns * (cell + 0.1) - 0.1, top + rows * (height + 0.08))
        sheet.add_title(title)
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(place, columns)
            x, y = column * (cell + 0.1), top + row * (height + 0.08)
            sheet.add_picture(x, y, cell, _pictures(image[None])[0])
            below = y + height - 0.15 * lines
            small = {"ha": "center", "va": "top", "fontsize": 8}
            sheet.add_text(x + cell / 2, below, caption, **small)
        return _save(sheet.figure, path)


def _check_classes(name, values, classes):
    whole = np.issubdtype(values.dtype, np.integer)
    if not whole or not set(values.tolist()) <= set(range(classes)):
        raise ValueError(
            f"{name} must be whole numbers from 0 to {classes - 1}. "
            f"Received: {values!r}"
        )


def _checked_frames(frames):
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 2 or not frames.size:
        raise ValueError(
            "frames must be (time, height, width, 2), none of them 0. "
            f"Received: {frames.shape}"
        )
    return frames


def _time_labels(count, edges_us):
    """What stands above each frame: its span of time, or its number."""
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


def _spike_rows(model, batch):
    """Rows of the figure, top to bottom: (name, note, values, colour map, limits)."""
    masks = token_masks(model, batch)
    rows = []
    for stage, x in stage_activity(model, batch).items():
        name = stage.replace("stage", "Stage ")
        for block, mask in masks.items():
            if block.startswith(f"{stage}_"):
                number = block.removeprefix(f"{stage}_block")
                note = f"token attention: share\nof {mask.shape[-1]} heads that pass"
                values = mask[0].mean(-1, dtype="float64")
                rows.append(
                    (f"{name}, block {number}", note, values, "cividis", (0, 1))
                )
        values = x[0].mean(-1, dtype="float64")
        most = np.abs(values).max() or 1
        height, width, channels = x.shape[2:]
        if model.backbone.residual == "pre_activation":
            what, colours, limits = "mean potential", "RdBu_r", (-most, most)
        else:
            what, colours, limits = "mean spike count", "magma", (0, most)
        note = f"{what}\n{height} \u00d7 {width}, {channels} channels"
        rows.append((name, note, values, colours, limits))
    return rows


def _draw_grid(title, frames, rows):
    """Images of one aspect ratio: a row for each of `rows`, a column per time step.

    One frame stands to the left of the rows, several are a row of their own. Places
    are computed, because automatic layouts leave gaps around images.
    """
    pictures = _pictures(frames)
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
    sheet = _Sheet(columns[-1] + 0.7, heights[-1])
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


class _Sheet:
    """A figure whose places are inches from its upper left corner; y points down."""

    def __init__(self, width, height):
        self.size = width, height
        self.figure = Figure(figsize=self.size)

    def add_axes(self, x, y, width, height):
        """Empty axes from their upper left corner."""
        place = (x, self.size[1] - y - height, width, height)
        axes = self.figure.add_axes(
            np.divide(place, self.size + self.size), xticks=[], yticks=[]
        )
        axes.spines[:].set_visible(False)
        return axes

    def add_picture(self, x, y, width, picture):
        """A framed picture (height, width, 3)."""
        axes = self.add_axes(x, y, width, width * picture.shape[0] / picture.shape[1])
        image = axes.imshow(picture)
        axes.spines[:].set(visible=True, color=GREY, linewidth=0.5)
        return image

    def add_text(self, x, y, text, **style):
        return self.figure.text(x / self.size[0], 1 - y / self.size[1], text, **style)

    def add_title(self, text):
        self.add_text(0, 0.1, text, va="top", fontsize=14, fontweight="bold")

    def add_label(self, x, y, name, note):
        """A name and a note to the left of x."""
        right = {"ha": "right", "va": "top"}
        self.add_text(x, y, name, fontweight="bold", **right)
        self.add_text(x, y + 0.21, note, fontsize=9, color=GREY, **right)

    def add_key(self, y, note):
        """What the colours of events mean, after a note."""
        self.add_text(0, y, note, va="top", fontsize=9, color=GREY)
        x = self.size[0]
        for text, colour, step in (
            ("\u25a0 ON", VERMILION, 0.5),
            ("\u25a0 OFF", BLUE, 0),
        ):
            self.add_text(x, y, text, va="top", ha="right", fontsize=9, color=colour)
            x -= step


def _pictures(frames):
    """Frames `(time, height, width, channels)` as colours `(..., 3)`."""
    frames = frames.astype("float64")
    if frames.shape[-1] == 2:
        # A few hot pixels must not make all others invisible.
        counts = frames[frames > 0]
        most = np.quantile(counts, 0.95) if counts.size else 1
        ink = 1 - np.array([to_rgb(BLUE), to_rgb(VERMILION)])
        return 1 - np.clip(np.clip(frames / most, 0, 1) @ ink, 0, 1)
    if frames.shape[-1] != 3:
        frames = np.repeat(frames.mean(-1, keepdims=True), 3, -1)
    low, high = min(frames.min(), 0), max(frames.max(), 1)
    return (frames - low) / (high - low)


def _save(figure, path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format=path.suffix[1:] or "png")
    return path

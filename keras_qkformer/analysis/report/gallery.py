"""The section of examples: attention, activity and spikes, with a slider over time.

Every picture is in the page once, as a sheet with a column for each time step and a row
for each head, token or example. What is shown is a cell of a sheet; the script moves
the sheet behind the cell's frame.
"""

import numpy as np

from keras_qkformer.analysis.attention import ChannelMask, TokenMask
from keras_qkformer.analysis.colours import ON, as_colours
from keras_qkformer.analysis.report import images, words
from keras_qkformer.analysis.report.frames import Picture, Sheets
from keras_qkformer.analysis.report.markup import section, tag

_TOKENS = 256  # Of more tokens, the maps of so many at most are shown.


def gallery(inside, class_names):
    """Make the section of a few examples.

    Args:
        inside: `Inside`.
        class_names: list of str.

    Returns:
        `Markup`.
    """
    steps = inside.probabilities.shape[1]
    has_heads = max(
        (
            x.mask.shape[-1]
            for x in inside.attention.values()
            if isinstance(x, TokenMask)
        ),
        default=1,
    )
    sheets = Sheets()
    examples = [
        _example(inside, number, class_names, sheets)
        for number in range(len(inside.pictures))
    ]
    none = None
    if not inside.attention:
        none = tag("p", "This family has no attention, so its stages stand alone.")
    return section(
        "Examples",
        tag(
            "p",
            "What the model attends to, step by step. A green veil lies over tokens "
            "that pass token attention, and over those that the marked token looks at "
            "in self-attention; it is the denser, the more heads agree.",
        ),
        none,
        _controls(inside, class_names, steps, has_heads),
        examples,
        sheets.markup(),
    )


def _controls(inside, class_names, steps, heads):
    choices = [
        tag(
            "button",
            _short(inside, number, class_names),
            type="button",
            data_example=number,
            aria_pressed="true" if number == 0 else "false",
        )
        for number in range(len(inside.pictures))
    ]
    parts = [tag("div", choices, class_="choices", role="group", aria_label="Example")]
    if steps > 1:
        parts.append(
            tag(
                "div",
                tag("button", "Play", type="button", id="play"),
                tag(
                    "label",
                    tag(
                        "span",
                        "Time step ",
                        tag("output", 1, id="step-now"),
                        f" of {steps}",
                    ),
                    tag(
                        "input",
                        type="range",
                        id="step",
                        min=1,
                        max=steps,
                        value=1,
                        step=1,
                    ),
                ),
                class_="time",
            )
        )
    if heads > 1:
        options = [tag("option", "all, on average", value=0)]
        options += [tag("option", head, value=head) for head in range(1, heads + 1)]
        parts.append(
            tag("label", tag("span", "Head"), tag("select", options, id="head"))
        )
    parts.append(
        tag(
            "label",
            tag("input", type="checkbox", id="under", checked=True),
            tag("span", "show the input beneath"),
            class_="tick",
        )
    )
    return tag("div", parts, class_="controls")


def _short(inside, number, class_names):
    if inside.labels is None:
        return f"Example {number + 1}"
    return f"{number + 1}: {words.name(class_names[inside.labels[number]], 24)}"


def _example(inside, number, class_names, sheets):
    """Everything of one example; all but the first are hidden at first."""
    frames = inside.pictures[number]
    is_photo = frames.shape[-1] == 3
    frames = as_colours(frames if frames.ndim == 4 else frames[None])
    count, height, width = frames.shape[:3]
    wide = np.concatenate(list(frames), 1)
    sheet = sheets.add(images.colour_uri(wide), count * width, height)
    steps = inside.probabilities.shape[1]
    picture = Picture(sheet, width, height, count > 1, is_photo, steps)
    rows = [_answers(inside, number, class_names, picture)]
    for path, view in inside.attention.items():
        rows.append(_attention(path, view, number, picture, sheets))
    for stage, activity in inside.activity.items():
        most = activity[number].max() or 1
        side = words.size(activity.shape[2:])
        rows.append(
            _card(
                words.layer(stage),
                f"mean over the channels, {side}, at most {words.plain(most)}",
                picture,
                sheets,
                activity[number][None] / most,
            )
        )
    return tag(
        "div",
        tag("div", rows, class_="cards"),
        _rasters(inside, number, sheets),
        class_="example",
        hidden=number > 0,
        data_example=number,
    )


def _card(title, note, picture, sheets, values, row="", extra=None, mark=None):
    """A card: the current step, all steps, and controls of its own.

    Args:
        title: str.
        note: str.
        picture: `Picture`.
        sheets: `Sheets`.
        values: array `(rows, time, height, width)` in [0, 1]: the veils.
        row: what chooses the row: `"head"`, `"token"`, or nothing.
        extra: `Markup` below, or `None`.
        mark: `Markup` above the veil, or `None`.
    """
    rows, steps = values.shape[:2]
    wide = np.concatenate([np.concatenate(list(each), 1) for each in values], 0)
    size = steps * picture.width, rows * picture.height
    sheet = sheets.add(images.veil_uri(wide), *size)
    moving = {"data_width": picture.width, "data_height": picture.height}
    moving |= {"data_row": row or None, "data_rows": rows}

    def veil(x=0, cell="y"):
        return tag("use", href=f"#{sheet}", x=x, data_cell=cell, **moving)

    return tag(
        "figure",
        tag("figcaption", tag("strong", title), " ", tag("span", note, class_="note")),
        tag(
            "div",
            picture.frame(f"{title}: the current time step", veil(cell="xy"), mark),
            picture.strips(title, veil),
            class_="over-time",
        ),
        extra,
        class_="card",
    )


def _attention(path, view, number, picture, sheets):
    title = words.layer(path)
    if isinstance(view, ChannelMask):
        return _channels(title, view.mask[number], sheets)
    if isinstance(view, TokenMask):
        mask = np.moveaxis(view.mask[number], -1, 0)
        values = np.concatenate([mask.mean(0, keepdims=True, dtype="float64"), mask])
        note = (
            f"token attention, {words.size(mask.shape[2:])} tokens, "
            f"{len(mask)} heads; {words.percent(mask.mean(dtype='float64'))} pass"
        )
        return _card(title, note, picture, sheets, values, "head")
    return _token_maps(title, view, number, picture, sheets)


def _token_maps(title, view, number, picture, sheets):
    """The map of every token, or of evenly spread ones, and a slider over them."""
    maps = view.all_of(number)
    height, width = maps.shape[1:3]
    stride = 1
    while -(-height // stride) * -(-width // stride) > _TOKENS:
        stride += 1
    rows, columns = (range(0, size, stride) for size in (height, width))
    places = [(row, column) for row in rows for column in columns]
    values = np.stack([maps[:, row, column] for row, column in places])
    most = values.max() or 1
    middle = len(rows) // 2 * len(columns) + len(columns) // 2
    # Dark below and light above, to be seen on any picture.
    mark = [
        tag(
            "rect",
            class_=f"token {kind}",
            width=picture.width / width,
            height=picture.height / height,
            data_cell="token",
            data_columns=len(columns),
            data_stride=stride,
        )
        for kind in ("below", "above")
    ]
    slider = tag(
        "label",
        tag("span", "Token ", tag("output", middle + 1), f" of {len(places)}"),
        tag(
            "input",
            type="range",
            min=1,
            max=len(places),
            value=middle + 1,
            step=1,
            class_="token-slider",
        ),
        class_="slider",
    )
    note = (
        f"self-attention, {words.size((height, width))} tokens, mean of "
        f"{view.query.shape[-2]} heads, at most {words.plain(most)}"
    )
    return _card(title, note, picture, sheets, values / most, "token", slider, mark)


def _channels(title, mask, sheets):
    """Time steps down, channels across: which channels pass."""
    note = f"channel attention, {mask.shape[1]} channels; "
    note += f"{words.percent(mask.mean(dtype='float64'))} pass"
    return tag(
        "figure",
        tag("figcaption", tag("strong", title), " ", tag("span", note, class_="note")),
        _raster(f"{title}: channels across, time steps down", mask, sheets),
        class_="card",
    )


def _raster(title, spikes, sheets):
    steps, count = spikes.shape
    sheet = sheets.add(images.veil_uri(spikes, ON, 1.0), count, steps)
    return tag(
        "svg",
        tag("title", title),
        tag("use", href=f"#{sheet}"),
        tag(
            "rect",
            class_="now",
            width=count,
            height=1,
            data_cell="line",
        ),
        viewBox=f"0 0 {count} {steps}",
        preserveAspectRatio="none",
        class_="raster",
        role="img",
        aria_label=title,
    )


def _rasters(inside, number, sheets):
    rows = []
    for path, spikes in inside.rasters.items():
        spikes = spikes[number]
        title = words.layer(path)
        rows.append(
            tag(
                "li",
                tag("span", title, class_="name"),
                _raster(f"{title}: neurons across, time steps down", spikes, sheets),
                tag("span", words.percent(spikes.mean()), class_="note"),
            )
        )
    return tag(
        "details",
        tag("summary", "Spike rasters of every layer of neurons"),
        tag(
            "p",
            "Neurons across, time steps down; a mark is a spike. Of a large layer, a "
            "raster shows neurons that are evenly spread over it.",
        ),
        tag("ol", rows, class_="rasters"),
    )


def _answers(inside, number, class_names, picture):
    """The input, and the answer after each time step."""
    probabilities = inside.probabilities[number]
    answers = []
    for step, row in enumerate(probabilities, 1):
        best = int(row.argmax())
        right = inside.labels is None or best == inside.labels[number]
        mark = None if right else tag("span", " wrong", class_="warn")
        answers.append(
            tag(
                "li",
                tag("span", step, class_="note"),
                tag("span", tag("strong", words.name(class_names[best], 40)), mark),
                tag("span", words.percent(row[best], 0), class_="number"),
                data_answer=step,
            )
        )
    title = "The input"
    if inside.labels is not None:
        title = f"The input: {words.name(class_names[inside.labels[number]], 40)}"
    return tag(
        "figure",
        tag(
            "figcaption",
            tag("strong", title),
            " ",
            tag("span", "and the answer after each time step", class_="note"),
        ),
        tag(
            "div",
            picture.frame(title),
            tag("ol", answers, class_="answers", tabindex=0),
            class_="over-time",
        ),
        class_="card",
    )

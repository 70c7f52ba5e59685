"""Charts as inline SVG. Widths are percentages, so that text keeps its size."""

import numpy as np

from keras_qkformer.analysis.report.markup import tag

COLOURS = 6


def colour(kind, number):
    """Return the class of the colour of a convention or a line; they come again.

    Args:
        kind: `"c"` for conventions, `"s"` for lines.
        number: int from 1.

    Example:
    >>> colour("c", 1), colour("c", 7)
    ('c1', 'c1')
    """
    return f"{kind}{(number - 1) % COLOURS + 1}"


def bar(fraction, kind, title):
    """Make a horizontal bar.

    Args:
        fraction: float in [0, 1]. Its length over that of its box.
        kind: str. Class that gives the colour.
        title: str. What it says, for pointers and screen readers.
    """
    # What is not 0 can be seen.
    width = f"{max(100 * min(fraction, 1), 0.4) if fraction > 0 else 0:.2f}%"
    return tag(
        "svg",
        tag("title", title),
        tag("rect", class_="track", width="100%", height="100%", rx=2),
        tag("rect", class_=kind, width=width, height="100%", rx=2),
        class_="bar",
        role="img",
        aria_label=title,
    )


def columns(values, most, title):
    """Make small columns, one per value, such as the rate of each time step.

    Args:
        values: list of float in [0, most].
        most: float. Value of a full column.
        title: str.
    """
    gap = 0.15
    width = 100 / max(len(values), 1)
    heights = [min(value / (most or 1), 1) * 100 for value in values]
    return _spark(
        title,
        tag("rect", class_="track", width=100, height=100),
        [
            tag(
                "rect",
                class_="mark",
                x=f"{(i + gap / 2) * width:.2f}",
                y=f"{100 - height:.2f}",
                width=f"{width * (1 - gap):.2f}",
                height=f"{height:.2f}",
            )
            for i, height in enumerate(heights)
        ],
    )


def profile(values, title, points=60):
    """Draw values from the largest, which is as high as the chart, to the smallest.

    Args:
        values: list of float >= 0, at least one.
        title: str.
        points: int > 1. Of more values, only so many are drawn.
    """
    values = np.sort(np.asarray(values, float))[::-1]
    values = values / (values[0] or 1)
    chosen = np.linspace(0, len(values) - 1, min(len(values), points)).round()
    values = values[chosen.astype(int)]
    edges = np.linspace(0, 100, len(values) + 1)
    path = "M0 100"
    for value, left, right in zip(values, edges[:-1], edges[1:], strict=True):
        path += (
            f"L{left:.1f} {100 * (1 - value):.1f}L{right:.1f} {100 * (1 - value):.1f}"
        )
    return _spark(
        title,
        tag("rect", class_="track", width=100, height=100),
        tag("path", class_="mark", d=f"{path}L100 100Z"),
    )


def _spark(title, *marks):
    return tag(
        "svg",
        tag("title", title),
        *marks,
        class_="spark",
        role="img",
        aria_label=title,
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
    )


def lines(series, caption, x_label, y_format, first=1, zero=True):
    """Draw lines over whole numbers, with the values of both axes as text.

    Args:
        series: dict from names to lists of float of one length; `None` leaves a gap.
        caption: str.
        x_label: str. What the numbers below count.
        y_format: function from a value to its text.
        first: int. Number below the first value.
        zero: bool. Whether the values start at 0 at the foot.

    Returns:
        `Markup`, a figure.
    """
    series = {
        name: [v if v is not None and np.isfinite(v) else None for v in values]
        for name, values in series.items()
    }
    found = [v for values in series.values() for v in values if v is not None]
    if not found:
        return None
    low, high = (min(0, *found) if zero else min(found)), max(found)
    if high == low:
        low, high = low - 0.5, high + 0.5
    count = max(len(values) for values in series.values())

    def place(i, value):
        x = 100 * i / max(count - 1, 1) if count > 1 else 50
        return f"{x:.2f} {100 - 100 * (value - low) / (high - low):.2f}"

    drawn = []
    for number, values in enumerate(series.values(), 1):
        path, pen = "", "M"
        for i, value in enumerate(values):
            if value is None:
                pen = "M"
                continue
            path += pen + place(i, value)
            pen = "L"
        if count == 1 or path.count("L") == 0:
            path += "h0.01"  # A line of round caps, so that one value is a dot.
        drawn.append(tag("path", class_=f"curve {colour('s', number)}", d=path))
    key = [
        tag("li", tag("span", class_=f"swatch {colour('s', number)}"), name)
        for number, name in enumerate(series, 1)
    ]
    grid = [tag("line", class_="rule", x1=0, x2=100, y1=y, y2=y) for y in (0, 50, 100)]
    return tag(
        "figure",
        tag("figcaption", caption),
        tag(
            "div",
            tag("span", y_format(high), class_="high"),
            tag("span", y_format(low), class_="low"),
            tag(
                "svg",
                tag("title", caption),
                grid,
                drawn,
                viewBox="0 0 100 100",
                preserveAspectRatio="none",
                role="img",
                aria_label=caption,
            ),
            tag("span", f"{x_label} {first}" if count > 1 else "", class_="left"),
            tag("span", f"{x_label} {first + count - 1}", class_="right"),
            class_="plot",
        ),
        tag("ul", key, class_="key") if len(series) > 1 else None,
        class_="chart",
    )

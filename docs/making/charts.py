"""Draws results as SVG within the page, so that they take the page's colours."""

import html
import math

LEFT, WIDTH, ROW, TOP = 300, 720, 21, 26
PANEL = 232, 190  # Width and height of a panel of `growth`.


def dots(rows, title, zero=False, most=None):
    """Draw values in rows: each a dot, their mean a bar, its interval a line.

    Args:
        rows: list of dicts with `label`, and `values`, `mean` and `interval`, a pair or
            `None`. A row with a label alone is a heading.
        title: str. What the axis shows.
        zero: bool. Whether 0 is marked.
        most: float or `None`. The axis ends there.

    Returns:
        Str: SVG. An interval that is longer than the axis has an arrow at its end.
    """
    shown = [value for row in rows for value in row.get("values", [])]
    low, high = _range(rows, shown + [0.0] * zero, most)
    step = _step(high - low)

    def x(value):
        return LEFT + (WIDTH - 16 - LEFT) * (value - low) / (high - low)

    height = TOP + ROW * len(rows)
    parts = []
    for number in range(
        math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1
    ):
        value = number * step
        kind = "zero" if zero and number == 0 else "grid"
        parts.append(_line(kind, x(value), TOP - 6, x(value), height))
        parts.append(_text("tick", x(value), height + 16, f"{value:g}"))
    for index, row in enumerate(rows):
        y = TOP + ROW * (index + 0.5)
        if "values" not in row:
            parts.append(_text("heading", 0, y + 4, row["label"]))
            continue
        parts.append(_text("label", LEFT - 12, y + 4, row["label"]))
        if row["interval"] is not None:
            a, b = (min(max(v, low), high) for v in row["interval"])
            parts.append(_line("interval", x(a), y, x(b), y))
            for end, value, sign in zip((a, b), row["interval"], (-1, 1), strict=True):
                if value != end and not (most is not None and value >= most):
                    tip = x(end)
                    parts.append(
                        f'<path class="arrow" d="M{tip:.1f} {y:g}l{-7 * sign} -4v8z"/>'
                    )
        parts += _marks(row, x, y)
    parts.append(_text("tick", (LEFT + WIDTH) / 2, height + 34, title))
    return _figure(parts, WIDTH, height + 42, title)


def beside(rows, columns):
    """Draw several quantities of the same things side by side, a thing in each row.

    Args:
        rows: list of dicts with `label` and, by the name of a column, a number, or for
            the first column a dict with `values`, `mean` and `interval`, a pair or
            `None`. A row with a label alone is a heading.
        columns: list of names, with their units. The first has an axis of its own, as
            that of `dots`; the others are bars from 0, each with its number.

    Returns:
        Str: SVG.
    """
    left, first, width = 168, 224, 108
    height = TOP + ROW * len(rows)
    shown = [row[columns[0]] for row in rows if columns[0] in row]
    least = min(min(one["values"]) for one in shown)
    most = max(max(one["values"]) for one in shown)
    step = _step(max(most - least, 0.5))
    least, most = step * math.floor(least / step), step * (math.floor(most / step) + 1)

    def x(value):
        return left + first * (min(max(value, least), most) - least) / (most - least)

    starts = [left + first + 24 + index * width for index in range(len(columns) - 1)]
    parts = [_text("column", x((least + most) / 2), 12, columns[0])]
    parts += [
        _text("column", start + (width - 16) / 2, 12, name)
        for start, name in zip(starts, columns[1:], strict=True)
    ]
    for index in range(round((most - least) / step) + 1):
        place = x(least + index * step)
        parts.append(_line("grid", place, TOP - 6, place, height))
        parts.append(_text("tick", place, height + 16, f"{least + index * step:g}"))
    for index, row in enumerate(rows):
        y = TOP + ROW * (index + 0.5)
        if columns[0] not in row:
            parts.append(_text("heading", 0, y + 4, row["label"]))
            continue
        parts.append(_text("label", left - 12, y + 4, row["label"]))
        one = row[columns[0]]
        if one["interval"] is not None:
            a, b = one["interval"]
            parts.append(_line("interval", x(a), y, x(b), y))
        parts += _marks(one, x, y)
        for start, name in zip(starts, columns[1:], strict=True):
            largest = max(other[name] for other in rows if name in other)
            long = (width - 64) * row[name] / largest
            parts.append(
                f'<rect class="bar" x="{start}" y="{y - 6:g}" width="{long:.1f}" '
                'height="12"/>'
            )
            parts.append(_text("number", start + long + 4, y + 4, f"{row[name]:.3g}"))
    return _figure(parts, WIDTH, height + 24, ", ".join(columns))


def _marks(one, x, y):
    """A dot for each value, and the stroke of their mean."""
    marks = [
        f'<circle class="dot" cx="{x(value):.1f}" cy="{y:g}" r="3.5"/>'
        for value in one["values"]
    ]
    if one["mean"] is not None:
        marks.append(_line("mean", x(one["mean"]), y - 7, x(one["mean"]), y + 7))
    return marks


def _range(rows, shown, most):
    """Ends of the axis: all values, and as much again on either side for intervals."""
    low, high = min(shown), max(shown)
    spread = max(high - low, 0.5)
    ends = [v for row in rows for v in (row.get("interval") or ())]
    low = max(min([low, *ends]), low - spread)
    high = min(max([high, *ends]), high + spread)
    room = 0.04 * (high - low)
    return low - room, high + room if most is None else min(high + room, most)


def _step(width):
    """A round distance of marks, of which about six fit."""
    power = 10 ** math.floor(math.log10(width / 6))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= width / 6)


def growth(panels, title):
    """Draw panels with two logarithmic axes, three in a row.

    Args:
        panels: list of `(heading, unit, series)`, the latter a dict from a CSS class to
            a list of points `(x, y)`, all above 0.
        title: str. What the common axis x shows.

    Returns:
        Str: SVG. All panels of a unit have the same axes.
    """
    width, height = PANEL
    parts = []
    for index, (heading, unit, series) in enumerate(panels):
        same = [
            p for _, u, s in panels if u == unit for each in s.values() for p in each
        ]
        (x0, x1), (y0, y1) = (
            (math.log10(min(v)), math.log10(max(v))) for v in zip(*same, strict=True)
        )
        left, top = 56 + index % 3 * width, 30 + index // 3 * (height + 24)
        inner_w, inner_h = width - 62, height - 44

        def place(
            point, left=left, top=top, box=(x0, x1, y0, y1), w=inner_w, h=inner_h
        ):
            x, y = map(math.log10, point)
            return (
                left + w * (x - box[0]) / (box[1] - box[0]),
                top + h * (1 - (y - box[2]) / (box[3] - box[2])),
            )

        parts.append(_text("panel", left, top - 10, heading))
        for power in range(math.ceil(x0), math.floor(x1) + 1):
            x, _ = place((10**power, 10**y0))
            parts.append(_line("grid", x, top, x, top + inner_h))
            parts.append(_text("tick", x, top + inner_h + 15, _power(power)))
        for power in range(math.ceil(y0), math.floor(y1) + 1):
            _, y = place((10**x0, 10**power))
            parts.append(_line("grid", left, y, left + inner_w, y))
            if index % 3 == 0:
                label = f"{_power(power)} {unit}"
                parts.append(_text("label", left - 6, y + 4, label))
        for kind, points in series.items():
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, sorted(points)))
            parts.append(f'<polyline class="{kind}" points="{path}"/>')
            parts += [
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
                for x, y in map(place, points)
            ]
    total = 30 + math.ceil(len(panels) / 3) * (height + 24)
    parts.append(_text("tick", 56 + 1.5 * width, total - 14, title))
    return _figure(parts, 56 + 3 * width, total, title)


def _power(power):
    return f"{10**power:g}" if -4 < power < 4 else f"10{_raised(power)}"


def _raised(number):
    return str(number).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))


def _figure(parts, width, height, title):
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )


def _line(kind, x0, y0, x1, y1):
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:g}" x2="{x1:.1f}" y2="{y1:g}"/>'


def _text(kind, x, y, text):
    return f'<text class="{kind}" x="{x:.1f}" y="{y:g}">{html.escape(text)}</text>'

"""What a page tells of accuracy: over time, while training, and what is confused."""

from keras_qkformer.analysis.report import charts, words
from keras_qkformer.analysis.report.markup import section, tag
from keras_qkformer.analysis.report.tables import table

MOST_CLASSES = 20
"""With more classes, the most confused pairs stand for the matrix."""
PAIRS = 25


def results(record):
    """Make the section on accuracy: over time, training curves, confusion.

    Args:
        record: dict, see `analysis.analyze`.
    """
    data, contents = record["data"], []
    if data["accuracy"] is not None:
        loss = f"; loss {words.plain(data['loss'])}" if data["loss"] is not None else ""
        contents.append(
            tag(
                "p",
                f"Measured: {words.percent(data['accuracy'], 2)} top-1 on "
                f"{data['examples']:,} examples of {words.name(data['split'])}{loss}.",
                _reported(record["model"]["reported"]),
            )
        )
    plots = []
    if data["accuracy_by_step"]:
        plots.append(
            charts.lines(
                {"accuracy": data["accuracy_by_step"]},
                "Accuracy if the model stops after so many time steps",
                "step",
                words.percent,
            )
        )
    curves = record["curves"] or {}
    for key, title, form in (
        ("loss", "Loss while training", words.plain),
        ("accuracy", "Accuracy while training", words.percent),
    ):
        series = {
            name: curves[of]
            for name, of in (("training", key), ("validation", f"val_{key}"))
            if curves.get(of)
        }
        if series:
            plots.append(charts.lines(series, title, "epoch", form))
    if plots:
        contents.append(tag("div", plots, class_="plots"))
    if data["confusion"]:
        contents.append(_confusion(data["confusion"], record["model"]["class_names"]))
    return section("Results", *contents) if contents else None


def _reported(reported):
    if not reported or reported.get("accuracy_percent") is None:
        return None
    note = words.name(reported["note"] or reported["source"], 400)
    return (
        f" Reported, not measured here: {reported['accuracy_percent']:.2f} %, {note}."
    )


def _confusion(counts, names):
    names = [words.name(name, 40) for name in names]
    if len(names) <= MOST_CLASSES:
        return _matrix(counts, names)
    found = [
        (count, names[i], names[j], sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if count and i != j
    ]
    found.sort(key=lambda pair: -pair[0])
    head = [("True class", False), ("Taken for", False), ("Examples", True)]
    rows = [
        [true, taken, (count, f"{count:,}"), (count / of, words.percent(count / of))]
        for count, true, taken, of in found[:PAIRS]
    ]
    if not rows:
        return tag("p", "No example was taken for another class.")
    return table(
        f"The most confused of {len(names):,} classes",
        [*head, ("Of the true class", True)],
        rows,
    )


def _matrix(counts, names):
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = [
            tag(
                "td",
                count or tag("span", "·", class_="none"),
                # The shade of a fraction, 0 to 5; mistakes have a colour of theirs.
                class_=f"{'right' if i == j else 'wrong'} "
                f"h{-(-5 * count // (total or 1))}",
            )
            for j, count in enumerate(row)
        ]
        rows.append(tag("tr", tag("th", names[i], scope="row"), cells))
    heads = [tag("th", tag("span", name), scope="col") for name in names]
    caption = "Confusion: true class down, answer across"
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", tag("td", class_="corner"), heads)),
            tag("tbody", rows),
            class_="confusion",
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )

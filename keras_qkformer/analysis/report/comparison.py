"""The page that puts several models side by side."""

from keras_qkformer.analysis.report import charts, words
from keras_qkformer.analysis.report.energies import convention_key
from keras_qkformer.analysis.report.markup import join, section, tag
from keras_qkformer.analysis.report.tables import convention_names, table


def comparison(records):
    """Make the body of the page: sizes, accuracies, energies and rates of all models.

    Args:
        records: list of dicts, see `analysis.analyze`.

    Returns:
        `Markup`.
    """
    names = _names(records)
    return join(
        [
            section("Side by side", _overview(records, names)),
            section("Energy", _totals(records, names), _by_stage(records, names)),
            section("Firing rates", _rates(records, names)),
            section("Accuracy over time", _over_time(records, names)),
            section("How it was made", _origins(records, names)),
        ]
    )


def _names(records):
    """A name for each model; a number tells apart those of one name."""
    names = [words.name(record["model"]["name"], 40) for record in records]
    return [
        f"{name} ({number})" if names.count(name) > 1 else name
        for number, name in enumerate(names, 1)
    ]


def _overview(records, names):
    head = [("", False), *((name, False) for name in names)]
    titles = ("Family", "Input", "Time steps", "Parameters", "Dense MACs")
    titles += ("Synaptic operations", "Firing rate", "Top-1 reported")
    titles += ("Top-1 measured", "Measured on")
    columns = [_facts(record) for record in records]
    rows = [[*row] for row in zip(titles, *columns, strict=True)]
    return table("Models side by side", head, rows, sortable=False)


def _facts(record):
    model, data = record["model"], record["data"]
    reported = (model["reported"] or {}).get("accuracy_percent")
    return (
        words.name(model["family"]),
        words.size(model["input_shape"]),
        str(model["time_steps"]),
        words.amount(model["parameters"]),
        *(
            words.amount(sum(x[key] for x in record["operations"]))
            for key in ("dense_macs", "synaptic_operations")
        ),
        words.percent(_rate(record["neurons"])),
        words.NOTHING if reported is None else f"{reported:.2f} %",
        words.percent(data["accuracy"], 2),
        f"{data['examples']:,} examples of {words.name(data['source'])} "
        f"{words.name(data['split'])}",
    )


def _rate(neurons):
    count = sum(layer["count"] for layer in neurons)
    return sum(x["rate"] * x["count"] for x in neurons) / count if count else 0


def _totals(records, names):
    """For every convention, a bar of each model: only these may be compared."""
    conventions = convention_names(records)
    most = max(
        (x["total_mj"] for r in records for x in r["energy"]["conventions"].values()),
        default=0,
    )
    groups = []
    for number, convention in enumerate(conventions, 1):
        rows = []
        for record, name in zip(records, names, strict=True):
            found = record["energy"]["conventions"].get(convention)
            if found is None:
                continue
            text = f"{words.plain(found['total_mj'])} mJ"
            share = found["total_mj"] / (record["energy"]["twin_mj"] or 1)
            rows.append(
                tag(
                    "li",
                    tag("span", name, class_="name"),
                    charts.bar(
                        found["total_mj"] / (most or 1),
                        charts.colour("c", number),
                        f"{convention}, {name}: {text}",
                    ),
                    tag("strong", text),
                    tag(
                        "span", f"{words.percent(share, 0)} of its twin", class_="note"
                    ),
                )
            )
        groups.append(
            tag(
                "div",
                tag(
                    "h3",
                    tag("span", class_=f"swatch {charts.colour('c', number)}"),
                    convention,
                ),
                tag("ul", rows, class_="totals"),
            )
        )
    devices = dict.fromkeys(words.layer(r["energy"]["device"]) for r in records)
    return tag(
        "figure",
        tag(
            "figcaption",
            "Energy of one example, convention by convention, on "
            f"{' and '.join(devices)}. Compare within a convention only; memory "
            "traffic is in no total.",
        ),
        groups,
        class_="chart",
    )


def _by_stage(records, names):
    conventions = convention_names(records)
    sums = {}
    for record, name in zip(records, names, strict=True):
        for convention, found in record["energy"]["conventions"].items():
            values = zip(record["operations"], found["by_operation_mj"], strict=True)
            for operation, value in values:
                key = name, operation["stage"], convention
                sums[key] = sums.get(key, 0) + value
    places = dict.fromkeys((name, stage) for name, stage, _ in sums)
    head = [("Model", False), ("Stage", False)]
    head += [(f"{convention}, mJ", True) for convention in conventions]
    rows = [
        [
            name,
            words.layer(stage),
            *(
                (
                    sums.get((name, stage, c), -1),
                    words.plain(sums.get((name, stage, c))),
                )
                for c in conventions
            ),
        ]
        for name, stage in places
    ]
    return tag(
        "details",
        tag("summary", "Energy by stage"),
        convention_key(conventions),
        table("Energy by stage, in every convention", head, rows),
    )


def _rates(records, names):
    """Rates along the depth: all layers of neurons of a model, in order."""
    longest = max(len(record["neurons"]) for record in records)
    series = {}
    for record, name in zip(records, names, strict=True):
        rates = [layer["rate"] for layer in record["neurons"]]
        series[name] = rates + [None] * (longest - len(rates))
    return charts.lines(
        series,
        "Firing rate of every layer of neurons, in order",
        "layer",
        words.percent,
    )


def _over_time(records, names):
    series = {
        name: record["data"]["accuracy_by_step"]
        for record, name in zip(records, names, strict=True)
        if record["data"]["accuracy_by_step"]
    }
    if not series:
        return tag("p", "No accuracy was measured: the data have no labels.")
    caption = "Accuracy if a model stops after so many time steps"
    return charts.lines(series, caption, "step", words.percent, zero=False)


def _origins(records, names):
    return [
        [
            tag("h3", name),
            tag("pre", tag("code", words.name(record["command"], 4000)), tabindex=0),
        ]
        for record, name in zip(records, names, strict=True)
    ]

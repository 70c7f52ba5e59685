"""What a page tells of energy: totals, every operation, the rules, what is apart."""

from keras_qkformer.analysis.report import charts, words
from keras_qkformer.analysis.report.markup import section, tag
from keras_qkformer.analysis.report.tables import pairs, table

RULES = (
    ("whole_numbers", "Whole numbers above 1"),
    ("attention", "Products of attention"),
    ("first_layer", "First layer"),
    ("head", "Head"),
    ("biases", "Biases"),
    ("padding", "Padding"),
)


def totals(energy):
    """Draw the energy of one example in every convention, beside the non-spiking twin.

    Args:
        energy: dict, `energy` of `analysis.analyze`.
    """
    conventions = energy["conventions"]
    sums = {name: each["total_mj"] for name, each in conventions.items()}
    twin, most = energy["twin_mj"], max([*sums.values(), energy["twin_mj"]])
    rows = []
    for number, (name, total) in enumerate([*sums.items(), (None, twin)], 1):
        text = f"{words.plain(total)} mJ"
        kind, note = (
            charts.colour("c", number),
            f"{words.percent(total / (twin or 1), 0)} of the twin",
        )
        if name is None:
            name, kind, note = "non-spiking twin", "twin", "every input a dense MAC"
        rows.append(
            tag(
                "li",
                tag("span", tag("span", class_=f"swatch {kind}"), name, class_="name"),
                charts.bar(total / (most or 1), kind, f"{name}: {text}"),
                tag("strong", text),
                tag("span", note, class_="note"),
            )
        )
    return tag(
        "figure",
        tag(
            "figcaption",
            "Energy of computing one example, in each counting convention, on ",
            words.layer(energy["device"]),
            ". Memory traffic is in no total.",
        ),
        tag("ul", rows, class_="totals"),
        class_="chart",
    )


def energy(record):
    """Make the section on energy: per layer, the rules, unit costs, memory.

    Args:
        record: dict, see `analysis.analyze`.
    """
    found = record["energy"]
    conventions, memory = found["conventions"], found["memory"]
    rules = table(
        "What each convention counts",
        [("Rule", False), *((name, False) for name in conventions)],
        [
            [title, *(words.name(x["rules"][key], 400) for x in conventions.values())]
            for key, title in RULES
        ]
        + [
            [title, *((x[key], words.amount(x[key])) for x in conventions.values())]
            for key, title in (("macs", "MACs"), ("accumulates", "Accumulates"))
        ]
        + [["Source", *(words.name(x["source"], 400) for x in conventions.values())]],
        sortable=False,
    )
    costs = [
        (f"one {words.layer(name)}", f"{words.plain(cost)} pJ")
        for name, cost in found["unit_costs_pj"].items()
        if cost is not None
    ]
    updates = found["neuron_updates"]
    return section(
        "Energy",
        _per_layer(record),
        rules,
        tag("h3", "Unit costs"),
        pairs(
            [
                ("device", words.layer(found["device"])),
                ("source", words.name(found["device_source"], 400)),
                *costs,
            ]
        ),
        tag("h3", "In no total"),
        pairs(
            [
                (
                    "memory traffic",
                    f"{words.amount(memory['bytes'])}B per example"
                    f"{_if_known(memory['mj'])}; "
                    f"{words.name(memory['assumption'], 400)}",
                ),
                (
                    "updates of neurons",
                    f"{words.amount(updates['count'])} per example"
                    f"{_if_known(updates['mj'])}",
                ),
            ]
        ),
    )


def _if_known(mj):
    return "" if mj is None else f", {words.plain(mj)} mJ"


def _per_layer(record):
    conventions = record["energy"]["conventions"]
    most = max(
        (value for x in conventions.values() for value in x["by_operation_mj"]),
        default=0,
    )
    rows = []
    for i, operation in enumerate(record["operations"]):
        path = words.layer(operation["path"])
        bars = [
            charts.bar(
                each["by_operation_mj"][i] / (most or 1),
                charts.colour("c", number),
                f"{path}, {name}: {words.plain(each['by_operation_mj'][i])} mJ",
            )
            for number, (name, each) in enumerate(conventions.items(), 1)
        ]
        rows.append(
            tag("li", tag("span", path, class_="name"), tag("div", bars, class_="bars"))
        )
    return tag(
        "figure",
        tag(
            "figcaption",
            "Energy of every operation, in order, in all conventions. The longest bar "
            f"is {words.plain(most)} mJ.",
        ),
        convention_key(conventions),
        tag(
            "ol",
            rows,
            class_="layers scroll",
            tabindex=0,
            aria_label="Energy of every operation",
        ),
        class_="chart",
    )


def convention_key(names):
    """Make the key of the conventions' colours.

    Args:
        names: iterable of str.
    """
    return tag(
        "ul",
        [
            tag("li", tag("span", class_=f"swatch {charts.colour('c', number)}"), name)
            for number, name in enumerate(names, 1)
        ],
        class_="key",
    )

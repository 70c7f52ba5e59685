"""Tables of an analysis: in the page, as CSV, and as the row of a paper."""

import csv
import io

from keras_qkformer.analysis.report import words
from keras_qkformer.analysis.report.markup import tag
from keras_qkformer.printable import printable

_LONGEST = 4096  # Characters of a text in a cell.


def table(caption, head, rows, sortable=True):
    """Make a table in a box that scrolls by itself; the first cell names its row.

    Args:
        caption: str. What it holds; names the box for screen readers.
        head: list of (text, is_number).
        rows: list of lists, a cell for each column: `Markup`, a text, or
            `(value, text)` with the number that it sorts by.
        sortable: bool. Whether a column sorts if its head is pressed.

    Returns:
        `Markup`.
    """
    heads = [
        tag(
            "th",
            tag("button", text, type="button") if sortable else text,
            scope="col",
            class_="number" if is_number else None,
        )
        for text, is_number in head
    ]
    body = [tag("tr", _cells(row, head)) for row in rows]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", heads)),
            tag("tbody", body),
            class_="sortable" if sortable else "even",
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def _cells(row, head):
    cells = []
    for column, (cell, (_, is_number)) in enumerate(zip(row, head, strict=True)):
        value, text = cell if isinstance(cell, tuple) else (None, cell)
        kind = {"class_": "number" if is_number else None, "data_value": value}
        if column:
            cells.append(tag("td", text, **kind))
        else:
            cells.append(tag("th", text, scope="row", **kind))
    return cells


def pairs(rows):
    """Make a list of names and values.

    Args:
        rows: iterable of (name, value).
    """
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows],
        class_="pairs",
    )


def csv_files(record):
    """Return the tables of an analysis as CSV.

    Args:
        record: dict, see `analysis.analyze`.

    Returns:
        Dict from the names of the files to their text.
    """
    conventions = record["energy"]["conventions"]
    operations = [
        {
            **operation,
            **{
                f"energy_mj[{name}]": each["by_operation_mj"][i]
                for name, each in conventions.items()
            },
        }
        for i, operation in enumerate(record["operations"])
    ]
    neurons = []
    for layer in record["neurons"]:
        row = {k: v for k, v in layer.items() if not k.startswith("rate_by_")}
        for step, rate in enumerate(layer["rate_by_step"], 1):
            row[f"rate[step {step}]"] = rate
        for name, rate in (layer["rate_by_class"] or {}).items():
            row[f"rate[class {name}]"] = rate
        neurons.append(row)
    energy = [
        {
            "convention": name,
            **{k: each[k] for k in ("total_mj", "macs", "accumulates", "source")},
            **each["rules"],
        }
        for name, each in conventions.items()
    ]
    return {
        f"{name}.csv": _csv(rows)
        for name, rows in (
            ("operations", operations),
            ("neurons", neurons),
            ("energy", energy),
        )
    }


def _csv(rows):
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [list(rows[0]), *(row.values() for row in rows)]:
        writer.writerow(map(_not_a_formula, row))
    return text.getvalue()


def _not_a_formula(cell):
    """A text that a spreadsheet would compute, such as a class `=1+1`, gets a `'`.

    What acts on a terminal becomes escapes.
    """
    if not isinstance(cell, str):
        return cell
    return "'" * (cell[:1] in {*"=+-@\t\r"}) + printable(cell, _LONGEST)


def paper_table(records):
    """Return the rows of a paper's table, as Markdown, and a note on its columns.

    A column of each convention that counts energy, and what is reported beside what is
    measured. The note has their sources and the unit costs.

    Args:
        records: list of dicts, see `analysis.analyze`.
    """
    names = convention_names(records)
    head = ["Model", "Input", "T", "Param (M)", "MACs, dense (G)", "SOPs (G)"]
    head += [f"Energy, {name} (mJ)" for name in names]
    head += ["Top-1 reported (%)", "Top-1 measured (%)", "Measured on"]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 3), "---"]]
    for record in records:
        model, data, energy = record["model"], record["data"], record["energy"]
        sums = {
            key: sum(x[key] for x in record["operations"]) / 1e9
            for key in ("dense_macs", "synaptic_operations")
        }
        conventions = energy["conventions"]
        accuracy = data["accuracy"]
        lines.append(
            [
                model["preset"] if model["reported"] else model["name"],
                "x".join(map(str, model["input_shape"])),
                model["time_steps"],
                f"{model['parameters'] / 1e6:.2f}",
                *map(words.plain, sums.values()),
                *(
                    words.plain(conventions[n]["total_mj"])
                    if n in conventions
                    else words.NOTHING
                    for n in names
                ),
                _reported(model),
                words.NOTHING if accuracy is None else f"{100 * accuracy:.2f}",
                f"{data['examples']} of {data['source']} {data['split']}".strip(),
            ]
        )
    table = "".join(
        f"| {' | '.join(words.name(x).replace('|', '/') for x in line)} |\n"
        for line in lines
    )
    return f"{table}\n{_paper_note(records)}\n"


def _paper_note(records):
    """What the columns of a paper's table count, in one line."""
    energies = [record["energy"] for record in records]
    conventions = {n: x for each in energies for n, x in each["conventions"].items()}
    sources = "; ".join(
        f"{words.name(name)}, {words.name(each['source'], 400)}"
        for name, each in conventions.items()
    )
    costs = dict.fromkeys(
        f"{words.name(each['device'])}: {words.plain(each['unit_costs_pj']['mac'])} pJ "
        f"a MAC, {words.plain(each['unit_costs_pj']['accumulate'])} pJ an accumulate"
        for each in energies
    )
    return (
        "All counts are of one example and all T time steps. MACs, dense: "
        "multiply-accumulates if every input were a number. SOPs: accumulates, counted "
        "from the spikes. Energy: MACs and accumulates at their unit costs "
        f"({'; '.join(costs)}), without memory, as each convention counts them "
        f"({sources}). Top-1 reported: by the source of the preset; measured: in this "
        "analysis, on the examples of the last column."
    )


def convention_names(records):
    """Return the names of the conventions of several analyses, each once, in order.

    Args:
        records: list of dicts, see `analysis.analyze`.
    """
    return [*dict.fromkeys(n for r in records for n in r["energy"]["conventions"])]


def _reported(model):
    top1 = (model["reported"] or {}).get("accuracy_percent")
    return words.NOTHING if top1 is None else f"{top1:.2f}"

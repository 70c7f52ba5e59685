"""Writes the report of one model, or of several side by side, into a folder."""

from pathlib import Path

from keras_qkformer.analysis.report import (
    PAGE_FILE,
    RECORD_FILE,
    energies,
    results,
    sections,
    words,
)
from keras_qkformer.analysis.report.comparison import comparison
from keras_qkformer.analysis.report.markup import join, page, tag
from keras_qkformer.analysis.report.tables import csv_files
from keras_qkformer.files import write_json, write_text


def write_report(folder, record, examples=None):
    """Write the report of a model: a page, the same as JSON, and tables as CSV.

    The page needs nothing else: no file beside it, no connection.

    Args:
        folder: str or path, made if needed. A report in it is replaced.
        record: dict, see `analysis.analyze`, with `curves`, `settings`, `versions`,
            `command` and `date`.
        examples: `Markup` of a few examples, see `gallery.gallery`, or `None`.

    Returns:
        List of the paths of the files.
    """
    texts = {PAGE_FILE: report_page(record, examples), **csv_files(record)}
    return _write(folder, texts, record)


def write_comparison(folder, records):
    """Write a page that puts models side by side, and their records as JSON.

    Args:
        folder: str or path, made if needed. A report in it is replaced.
        records: list of dicts, see `write_report`.

    Returns:
        List of the paths of the files.
    """
    texts = {PAGE_FILE: comparison_page(records)}
    return _write(folder, texts, {"format": 1, "models": records})


def report_page(record, examples=None):
    """Make the page of a model.

    Args:
        record: dict, see `write_report`.
        examples: `Markup` or `None`, see `write_report`.

    Returns:
        str, an HTML document.
    """
    model, data = record["model"], record["data"]
    about = [words.name(model["family"])]
    if model["preset"]:
        about.append(f"from preset {words.name(model['preset'])}")
    about += [
        f"input {words.size(model['input_shape'])}",
        f"{model['time_steps']} time steps",
        f"{data['examples']:,} examples of {words.name(data['source'])} "
        f"{words.name(data['split'])}",
        words.name(record["date"]),
    ]
    parts = [
        energies.energy(record),
        sections.rates(record),
        examples,
        results.results(record),
        sections.operations(record),
        sections.origin(record),
    ]
    return _page(words.name(model["name"]), about, sections.headline(record), parts)


def comparison_page(records):
    """Make the page that puts models side by side.

    Args:
        records: list of dicts, see `write_report`.

    Returns:
        str, an HTML document.
    """
    names = dict.fromkeys(words.name(record["model"]["name"], 40) for record in records)
    about = [f"{len(records)} models", *dict.fromkeys(r["date"] for r in records)]
    return _page(", ".join(names), about, None, [comparison(records)])


def _page(title, about, top, parts):
    header = tag(
        "header",
        tag(
            "div",
            tag("p", "keras_qkformer · analysis", class_="brand"),
            tag("button", "Dark", type="button", id="theme", hidden=True),
            class_="bar-top",
        ),
        tag("h1", title),
        tag("ul", [tag("li", fact) for fact in about], class_="about"),
    )
    footer = tag(
        "footer",
        "Written by keras_qkformer. An energy says nothing without the convention that "
        "counts it.",
    )
    return page(
        f"{title} · analysis",
        join([header, tag("main", top, *parts), footer]),
    )


def _write(folder, texts, record):
    folder = Path(folder)
    for name, text in texts.items():
        write_text(folder / name, text)
    # On one line: a confusion matrix of 1,000 classes has a million numbers.
    write_json(folder / RECORD_FILE, record, indent=None)
    return [folder / name for name in (*texts, RECORD_FILE)]

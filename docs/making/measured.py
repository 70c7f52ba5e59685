"""The pages of what was measured, from `benchmarks/results` and the recipes."""

import json
import re
import statistics
from pathlib import Path

from evidence import FAMILIES

from benchmarks.report import comparisons, markdown, rows
from keras_qkformer.training.recipe import load_recipe, load_variants

ROOT = Path(__file__).parents[2]

RESULTS = ROOT / "benchmarks" / "results"
HEAD = """\
# What was measured

A number on this site is either **reported** by a source, or **measured** by us, with
machine, date and command. This page is made from the files of `benchmarks/results` and
from the recipes, whenever the site is built.
"""


def measured_pages():
    """Return the pages: dict from path to Markdown."""
    speeds = {
        path.stem: data
        for path in sorted(RESULTS.glob("*.json"), reverse=True)
        if "cases" in (data := json.loads(path.read_text()))
    }
    parts = [HEAD, same_size(), reported_beside_measured(), "## Speed", ""]
    parts += [
        "Ours and the fastest peer of the same run, newest first; each heading leads "
        "to all numbers, memory included. [How it is compared](benchmarks.md).",
    ]
    pages = {}
    for stem, data in speeds.items():
        lines = comparisons(rows(data), data)
        start = data["sessions"][0]
        machine = f"{start['gpu'] or start['cpu']}, {start['cores']} cores"
        parts += [f"### [{stem}](measured/{stem}.md)", machine, speed_table(lines)]
        text = f"---\nsearch:\n  exclude: true\n---\n{markdown(data)}"
        pages[f"measured/{stem}.md"] = text
    return {"measured.md": "\n\n".join(parts) + "\n", **pages}


def same_size():
    """Return the table of all families at one size under the same settings."""
    newest = max(RESULTS.glob("*-comparison.json"))  # Names begin with the date.
    data = json.loads(newest.read_text())
    found = {}
    for run in data["runs"]:
        family, _, task = run["recipe"].rpartition(":")[2].rpartition("_")
        found.setdefault(family, {}).setdefault(task, []).append(run)
    tasks = [*dict.fromkeys(task for each in found.values() for task in each)]
    names = {"digits": "digits, 360 images", "nmnist": "N-MNIST, 100 recordings"}
    names["cifar10"] = "a tenth of CIFAR\N{NON-BREAKING HYPHEN}10"
    head = " | ".join(names.get(task, task) for task in tasks)
    lines = [f"| family | {head} |", "|---" + "|--:" * len(tasks) + "|"]
    for family, runs in found.items():
        cells = []
        for task in tasks:
            each = [100 * run["accuracy"] for run in runs.get(task, [])]
            seeds = ",&nbsp;".join(f"{a:.1f}" for a in each)
            mean = "-"
            if each:
                mean = f"**{statistics.mean(each):.1f}**&nbsp;({seeds})"
            cells.append(mean)
        title = f"[{FAMILIES[family]}](families/{family}.md)"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(
        [
            "## All families at one size",
            "",
            "About 0.5 million parameters each, the same settings: the mean of top-1 "
            "in per cent, and each seed, which tells how much is noise.",
            "",
            *lines,
            "",
            f"{data['hardware'].split(' (')[0]}; "
            f"{data['versions']['backend'].upper()}, {data['date']}. "
            "[`recipes/comparison.py`](recipes.md#comparison) runs them.",
            "{ .notes }",
        ]
    )


def reported_beside_measured():
    """Return the recipes with a measured result, and what their source reports."""
    kept = []
    for path in sorted((ROOT / "recipes").glob("*.py")):
        for name in ("", *(f":{variant}" for variant in load_variants(path))):
            expected = load_recipe(f"{path}{name}").expected
            if expected.measured and path.stem != "comparison":
                found = expected.reported or "-", expected.measured
                kept.append(f"| `{path.stem}{name}` | {' | '.join(found)} |")
    return "\n".join(
        [
            "## Recipes, reported beside measured",
            "",
            "Recipes with a result of ours; [all recipes](recipes.md) list what their "
            "sources report.",
            "",
            "| recipe | reported | measured |",
            "|---|---|---|",
            *kept,
        ]
    )


def speed_table(lines):
    """Return lines of `benchmarks.report.comparisons` as a table."""
    found = [
        re.fullmatch(r"(.*): ours (.*? \S+) \((\S+)\), (\S.*): (\S+) (times .*)", line)
        for line in lines
    ]
    if not found or not all(found):
        return "\n".join(f"- {line}" for line in lines) or "No peer in this run."
    table = ["| what | ours | peer | |", "|---|---|---|---|"]
    for match in found:
        what, ours, backend, peer, ratio, words = match.groups()
        table.append(f"| {what} | {ours} ({backend}) | {peer} | {ratio} {words} |")
    return "\n".join(table)

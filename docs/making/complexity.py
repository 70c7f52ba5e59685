"""How time and memory of attention grow with the tokens, from `benchmarks/results`."""

import json
import math
from pathlib import Path

from charts import growth

from benchmarks import report
from keras_qkformer.analysis.study import mean_interval

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SUBJECTS = {
    "ours-tensorflow": "TensorFlow",
    "ours-jax": "JAX",
    "ours-torch": "PyTorch",
}
LAYERS = {
    "token": "Q-K token attention",
    "channel": "Q-K channel attention",
    "self": "self-attention, K<sup>T</sup>V first",
    "dense self": "self-attention with the N x N matrix (plain PyTorch)",
}
QUANTITIES = {"median_s": "time", "increase_mb": "memory"}
UNITS = {"median_s": "s", "increase_mb": "MB"}


def measured():
    """Return `(name, data)` of the newest results; their names begin with dates."""
    found = {
        path.stem: data
        for path in RESULTS.glob("*-cpu-*.json")
        if "attention" in (data := json.loads(path.read_text())).get("cases", {})
    }
    name = max(found)
    return name, found[name]


def exponents(data):
    """Fit the exponents of each process, and of each of its timed calls.

    Args:
        data: dict of a results file.

    Returns:
        Dict from `(subject, layer, quantity)` to a list of exponents, see
        `benchmarks.report.slopes`: of time one for each timed call, of memory one for
        each process.
    """
    found = {}
    for unit in data["units"]:
        if unit["case"] != "attention":
            continue
        calls = min(len(record["seconds"]) for record in unit["records"])
        for call in range(calls):
            records = [{**r, "seconds": [r["seconds"][call]]} for r in unit["records"]]
            rows = report.rows({**data, "units": [{**unit, "records": records}]})
            for key, slope in report.slopes(rows).items():
                if key[2] == "median_s" or call == 0:
                    found.setdefault(key, []).append(slope)
    return found


def complexity(what):
    """Return a part of the page: `figure`, `exponents`, `largest` or `machine`."""
    return {
        "figure": figure,
        "exponents": exponent_table,
        "largest": largest,
        "machine": machine,
    }[what]()


def figure():
    """Draw time and memory of the layers, a column for each backend."""
    _, data = measured()
    series = {}
    for row in report.rows(data):
        if row["case"] != "attention":
            continue
        layer, side = row["task"].rsplit(" ", 1)
        tokens = math.prod(map(int, side.split("x")))
        for quantity in QUANTITIES:
            if row[quantity]:
                key = row["subject"], quantity
                kind = layer.replace(" ", "-")
                points = series.setdefault(key, {}).setdefault(kind, [])
                points.append((tokens, row[quantity]))
    panels = []
    for quantity, words in QUANTITIES.items():
        dense = series.get(("plain", quantity), {}).get("dense-self")
        for subject, name in SUBJECTS.items():
            own = series.get((subject, quantity), {})
            lines = {**own, **({"dense-self": dense} if dense else {})}
            panels.append((f"{name}: {words}", UNITS[quantity], lines))
    key = "".join(
        f'<span class="{kind.replace(" ", "-")}">{words}</span>'
        for kind, words in LAYERS.items()
        if any(kind.replace(" ", "-") in each for each in series.values())
    )
    svg = growth(panels, "number of tokens")
    return (
        f'<figure class="block-picture"><div class="scroll">{svg}</div>'
        f'<figcaption class="key">{key}</figcaption></figure>'
    )


def exponent_table():
    """Return the exponents with their intervals."""
    _, data = measured()
    found = exponents(data)
    lines = [
        "| | library | time grows as | memory grows as |",
        "|---|---|---|---|",
    ]
    for layer, words in LAYERS.items():
        dense = layer == "dense self"
        subjects = {"plain": "plain PyTorch"} if dense else SUBJECTS
        for subject, name in subjects.items():
            keys = [(subject, layer, quantity) for quantity in QUANTITIES]
            if keys[0] in found:
                cells = " | ".join(_power(found.get(key, [])) for key in keys)
                lines.append(f"| {words} | {name} | {cells} |")
    return "\n".join(lines)


def _power(slopes):
    """N to a mean exponent, with its interval, or with the values of two processes."""
    if not slopes:
        return "-"
    mean = sum(slopes) / len(slopes)
    if len(slopes) < 3:
        words = " and ".join(f"{slope:.2f}" for slope in slopes)
    else:
        interval = mean_interval(slopes)
        words = " to ".join(f"{value:.2f}" for value in interval or slopes[:1])
    return f"N<sup>{mean:.2f}</sup> ({words})"


def largest():
    """Return time and memory at the largest number of tokens, layer by layer."""
    _, data = measured()
    rows = [r for r in report.rows(data) if r["case"] == "attention"]
    side = max(int(row["task"].rpartition("x")[2]) for row in rows)
    lines = [
        f"| {side * side:,} tokens | library | time | memory |",
        "|---|---|--:|--:|",
    ]
    for layer, words in LAYERS.items():
        for row in rows:
            subject = row["subject"]
            shown = subject in SUBJECTS or layer == "dense self"
            if row["task"] == f"{layer} {side}x{side}" and shown:
                name = SUBJECTS.get(subject, "plain PyTorch")
                memory = row["increase_mb"]
                memory = "-" if memory is None else f"{memory:,.0f} MB"
                seconds = f"{row['median_s']:.3g} s"
                lines.append(f"| {words} | {name} | {seconds} | {memory} |")
    return "\n".join(lines)


def machine():
    """Say where and how this was measured."""
    name, data = measured()
    start = data["sessions"][0]
    rounds = max(unit["round"] for unit in data["units"])
    count = max(r["count"] for r in report.rows(data) if r["case"] == "attention")
    channels = data["cases"]["attention"]["sizes"]["channels"]
    layers = {row["task"].rpartition(" ")[0] for row in report.rows(data)}
    missing = "" if "channel" in layers else " Channel attention was not measured yet."
    return (
        f"{start['cpu']}, {start['cores']} cores, {start['date'][:10]}, commit "
        f"{start['commit'][:7]}; {channels} channels, one head, one time step, batch "
        f"1, inference; {rounds} processes per library, {count} timed calls. "
        f"[All numbers](../measured/{name}.md).{missing}"
    )

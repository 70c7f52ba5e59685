"""Turns a results file into tables, comparisons and figures."""

import math
import statistics

from benchmarks.measure import summary
from keras_qkformer.analysis.roofline import least_seconds

# Reported memory in MiB of Q-K token attention and of N x N self-attention, by side of
# the image (Zhou et al., 2024, figure on memory consumption; T=1, batch 1, C=256).
PAPER_MIB = {
    10: (0.10, 0.14),
    50: (2.47, 26.44),
    100: (10.35, 391.77),
    200: (40.46, 6143.0),
}
_MEMORY = {
    "cpu": "Peak memory is the high-water mark of the process; in brackets, by how "
    "much it rose from just before the first step.",
    "gpu": "Peak memory is that of the library's allocator.",
}


def rows(data):
    """Summarize the records in one row per case, task and subject, over all rounds.

    Args:
        data: dict of a results file.

    Returns:
        List of dicts: `case`, `task`, `subject`, `batch`, `first_s` and `again_s`
        (the first call in the first and the last round), `median_s`, `min_s`, `max_s`,
        `count`, `per_second` (examples), `peak_mb`, `increase_mb` (largest of the
        rounds), `floor_share`, `floor_limit`.
    """
    records = {}
    counted = {}
    for unit in data["units"]:
        kind = data["cases"][unit["case"]]["kind"]
        fitting = [r for r in unit["records"] if "seconds" in r]
        for record in fitting[-1:] if kind == "largest_batch" else fitting:
            key = (unit["case"], record["task"], unit["subject"])
            records.setdefault(key, []).append(record)
            if "count" in record:
                counted[unit["case"], record["task"]] = record["count"]
    rates = machine_rates(data)
    found = []
    for (case, task, subject), same in records.items():
        times = summary([s for record in same for s in record["seconds"]])
        count = counted.get((case, task))
        share = limit = None
        if count and rates:
            least, limit = floor_s(count, same[0]["batch"], *rates)
            share = least / times["median_s"]
        increases = [r["increase_mb"] for r in same if r["increase_mb"] is not None]
        found.append(
            {
                "case": case,
                "task": task,
                "subject": subject,
                "batch": same[0]["batch"],
                "first_s": same[0]["first_s"],
                "again_s": same[-1]["first_s"] if len(same) > 1 else None,
                **times,
                "per_second": same[0]["batch"] / times["median_s"],
                "peak_mb": max(record["peak_mb"] for record in same),
                "increase_mb": max(increases, default=None),
                "floor_share": share,
                "floor_limit": limit,
            }
        )
    order = list(data["cases"])
    return sorted(found, key=lambda row: order.index(row["case"]))


def machine_rates(data):
    """Return MACs and copied bytes per second, or `None` if they were not measured.

    If several tasks measured a rate, the highest counts.

    Args:
        data: dict of a results file.
    """
    rates = []
    for name in ("macs", "bytes"):
        seconds, amounts = {}, {}
        for unit in data["units"]:
            for record in unit["records"]:
                if name in record:
                    task = record["task"]
                    amounts[task] = record[name]
                    seconds.setdefault(task, []).extend(record["seconds"])
        if not amounts:
            return None
        rates.append(max(amounts[t] / statistics.median(seconds[t]) for t in amounts))
    return tuple(rates)


def floor_s(count, batch, macs_per_s, bytes_per_s):
    """Return the least seconds for a batch and the limit, see `least_seconds`.

    Args:
        count: dict, see `keras_qkformer.analysis.operations.counts`.
        batch: int > 0.
        macs_per_s: float. The higher rate of a large matrix product or convolution.
        bytes_per_s: float. Rate of a large copy, bytes read and written.
    """
    size = count["bytes_per_image"] * batch + count["bytes_per_step"]
    macs = count["macs_per_image"] * batch
    return least_seconds(macs, size, macs_per_s, bytes_per_s)


def comparisons(found, data):
    """Compare the fastest of ours with the fastest peer, in a line per case and task.

    For the case `largest_batch`, the larger batch wins. Token attention is also
    compared with dense self-attention.

    Args:
        found: list from `rows`.
        data: dict of a results file.
    """
    lines = []
    ours = [row for row in found if row["subject"].startswith("ours-")]
    peers = [row for row in found if row not in ours and row["subject"] != "machine"]
    for case, task in dict.fromkeys((row["case"], row["task"]) for row in ours):
        largest = data["cases"][case]["kind"] == "largest_batch"

        def best(among, name, case=case, largest=largest):
            among = [r for r in among if r["case"] == case and r["task"] == name]
            by = (lambda r: -r["batch"]) if largest else (lambda r: r["median_s"])
            return min(among, key=by, default=None)

        mine = best(ours, task)
        against = [task]
        if task.startswith("token "):
            against.append(task.replace("token", "dense self"))
        for name in against:
            peer = best(peers, name)
            if peer is None:
                continue
            if largest:
                a, b, ratio = (
                    mine["batch"],
                    peer["batch"],
                    mine["batch"] / peer["batch"],
                )
                words = "times the batch"
            else:
                a, b = _seconds(mine["median_s"]), _seconds(peer["median_s"])
                ratio = peer["median_s"] / mine["median_s"]
                words = "times as fast"
            other = "" if name == task else f" ({name})"
            lines.append(
                f"{case}, {task}: ours {a} ({mine['subject'].removeprefix('ours-')}), "
                f"{peer['subject']}{other} {b}: {ratio:.2f} {words}"
            )
    return lines


def slopes(found):
    """Fit how time and memory grow with the number of tokens, as exponents.

    Args:
        found: list from `rows`.

    Returns:
        Dictionary from `(subject, attention, quantity)` to the slope of a straight line
        through the three largest sizes, both axes logarithmic.
    """
    series = {}
    for row in found:
        if row["case"] != "attention":
            continue
        name, side = row["task"].rsplit(" ", 1)
        tokens = math.prod(map(int, side.split("x")))
        for quantity in ("median_s", "increase_mb"):
            if row[quantity]:
                key = (row["subject"], name, quantity)
                series.setdefault(key, []).append((tokens, row[quantity]))
    result = {}
    for key, points in series.items():
        if len(points) >= 3:
            x, y = zip(*sorted(points)[-3:], strict=True)
            line = statistics.linear_regression(
                [math.log(v) for v in x], [math.log(v) for v in y]
            )
            result[key] = line.slope
    return result


def markdown(data):
    """Return the whole report as Markdown.

    Args:
        data: dict of a results file.
    """
    found = rows(data)
    start = data["sessions"][0]
    versions = ", ".join(f"{k} {v}" for k, v in start["versions"].items() if v)
    text = [
        f"# Benchmark, {start['date']}",
        "",
        f"{start['gpu'] or start['cpu']}, {start['cores']} cores; {versions}; commit "
        f"{start['commit']}; load average at start "
        f"{start['load_average_at_start'][0]:.2f}; `{start['command']}`",
        "",
        "Median (range) of all timed steps; the first call, with compilation, apart: "
        "of the first process and of the last, which finds what that one compiled. "
        + _MEMORY[data["device"]],
    ]
    rates = machine_rates(data)
    if rates:
        text += [
            "",
            f"This machine: {rates[0] / 1e9:.1f} G multiply-accumulates/s, "
            f"{rates[1] / 1e9:.1f} GB/s. Floor: the least time by these and by the "
            "counts of keras_qkformer/analysis/operations.py.",
        ]
    for name, case in data["cases"].items():
        mine = [row for row in found if row["case"] == name]
        if not mine or case["kind"] == "machine":
            continue
        text += ["", f"## {case['title']}", ""]
        text += [
            "| task | subject | batch | first call | median (range) | examples/s "
            "| peak MB | floor reached |",
            "|---|---|---|---|---|---|---|---|",
        ]
        order = {task: i for i, task in enumerate(r["task"] for r in mine)}
        mine.sort(key=lambda row: order[row["task"]])
        text += [_table_row(row) for row in mine]
        if case["kind"] == "attention":
            text += _attention_memory(case)
    text += ["", "## Ours and the fastest peer", ""]
    text += [f"- {line}" for line in comparisons(found, data)]
    exponents = slopes(found)
    if exponents:
        text += ["", "## Growth with the number of tokens N", ""]
        words = {"median_s": "time", "increase_mb": "memory"}
        text += [
            f"- {subject}, {attention}: {words[quantity]} ~ N^{slope:.2f}"
            for (subject, attention, quantity), slope in exponents.items()
        ]
    text += ["", "## Subjects", ""]
    text += [f"- `{name}`: {note}" for name, note in data["subjects"].items()]
    for name, packages in data["absent"].items():
        text.append(f"- `{name}` left out: not installed: {', '.join(packages)}")
    for unit in data["units"]:
        if unit["status"] == "failed":
            text.append(
                f"- **failed**: {unit['case']}, `{unit['subject']}`, round "
                f"{unit['round']}: {unit['error']}"
            )
    return "\n".join(text) + "\n"


def _table_row(row):
    memory = f"{row['peak_mb']:.0f}"
    if row["increase_mb"] is not None:
        memory += f" (+{row['increase_mb']:.1f})"
    floor = (
        ""
        if row["floor_share"] is None
        else f"{row['floor_share']:.1%} ({row['floor_limit']})"
    )
    span = f"{_seconds(row['min_s'])} to {_seconds(row['max_s'])}, n={row['count']}"
    first = _seconds(row["first_s"])
    if row["again_s"] is not None:
        first += f", {_seconds(row['again_s'])}"
    return (
        f"| {row['task']} | {row['subject']} | {row['batch']} | {first} "
        f"| {_seconds(row['median_s'])} ({span}) "
        f"| {row['per_second']:.3g} | {memory} | {floor} |"
    )


def _attention_memory(case):
    """Return a table of attention's memory, counted by us and reported by the paper."""
    channels = case["sizes"]["channels"]
    lines = [
        "",
        "Memory of the attention operation alone in MiB, float32: counted (mask and "
        "masked K: N (C + 1) values; N x N matrix and its product with V: N (N + C)), "
        "and reported by the paper.",
        "",
        "| N | token, counted | token, reported | N x N, counted | N x N, reported |",
        "|---|---|---|---|---|",
    ]
    for side in case["sizes"]["sides"]:
        tokens = side * side
        counted = [
            4 * tokens * (channels + 1) / 2**20,
            4 * tokens * (channels + tokens) / 2**20,
        ]
        reported = PAPER_MIB.get(side, ("", "")) if channels == 256 else ("", "")
        lines.append(
            f"| {tokens} | {counted[0]:.2f} | {reported[0]} | {counted[1]:.2f} "
            f"| {reported[1]} |"
        )
    return lines


def _seconds(value):
    """Format a time with three digits and a fitting unit."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def plot(data, folder, stem):
    """Draw one PNG per case.

    Args:
        data: dict of a results file.
        folder: `Path` of an existing folder.
        stem: str. Start of the file names.

    Returns:
        List of the paths written.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    found = rows(data)
    paths = []
    for name, case in data["cases"].items():
        mine = [row for row in found if row["case"] == name]
        if not mine or case["kind"] == "machine":
            continue
        draw = _plot_growth if case["kind"] == "attention" else _plot_bars
        figure = draw(pyplot, mine)
        figure.suptitle(case["title"])
        path = folder / f"{stem}-{name}.png"
        figure.savefig(path, dpi=120)
        pyplot.close(figure)
        paths.append(path)
    return paths


def _colour(subject):
    return "#1f6f8b" if subject.startswith("ours-") else "#c8803a"


def _plot_bars(pyplot, found):
    tasks = list(dict.fromkeys(row["task"] for row in found))
    figure, axes = pyplot.subplots(
        len(tasks),
        2,
        squeeze=False,
        figsize=(11, 0.8 + 2.1 * len(tasks)),
        layout="constrained",
    )
    for (left, right), task in zip(axes, tasks, strict=True):
        mine = [row for row in found if row["task"] == task]
        names = [row["subject"] for row in mine]
        colours = [_colour(name) for name in names]
        median = [1e3 * row["median_s"] for row in mine]
        low = [1e3 * (row["median_s"] - row["min_s"]) for row in mine]
        high = [1e3 * (row["max_s"] - row["median_s"]) for row in mine]
        left.barh(names, median, color=colours, xerr=(low, high), capsize=2)
        left.set_xlabel("milliseconds per step, median and range")
        right.barh(names, [row["peak_mb"] for row in mine], color=colours)
        right.set_xlabel("peak memory, MB")
        right.set_yticks([])
        for axis in (left, right):
            axis.set_title(f"{task}, batch {mine[0]['batch']}", fontsize=9)
            axis.invert_yaxis()
            axis.locator_params(axis="x", nbins=6)
    return figure


def _plot_growth(pyplot, found):
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained")
    styles = {"token": "-", "channel": "-.", "self": "--", "dense self": ":"}
    series = {}
    for row in found:
        name, side = row["task"].rsplit(" ", 1)
        tokens = math.prod(map(int, side.split("x")))
        series.setdefault((row["subject"], name), []).append((tokens, row))
    for (subject, name), points in series.items():
        points.sort(key=lambda point: point[0])
        tokens = [point[0] for point in points]
        for axis, quantity in zip(axes, ("median_s", "increase_mb"), strict=True):
            values = [point[1][quantity] for point in points]
            if None not in values:
                axis.plot(
                    tokens, values, styles[name], marker="o", label=f"{subject}, {name}"
                )
    for axis, label in zip(axes, ("seconds", "increase of memory, MB"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
    axes[0].legend(fontsize=7)
    return figure

"""Tables, figures and sentences of `docs/evidence`, from the files of results there.

So no number is typed in these pages, and a page tells by itself how many trainings it
rests on. `keras-qkformer study --out` and the programs in `studies` write the files.
"""

import json
from pathlib import Path

from charts import beside, dots

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "evidence"
NONE = "*No result yet.*"
DATA = {"digits": "the digits", "nmnist": "N-MNIST", "cifar10": "CIFAR-10"}
FAMILIES = {
    "qkformer": "QKFormer",
    "spikformer": "Spikformer",
    "spikingformer": "Spikingformer",
    "spike_driven_transformer": "Spike-driven Transformer",
    "max_former": "Max-Former",
    "sew_resnet": "SEW ResNet",
}
VARIANTS = {
    **FAMILIES,
    "sample": "trained with sample state",
    "batch": "trained with batch state",
    "jax": "JAX, float32",
    "jax_bfloat16": "JAX, bfloat16",
    "tensorflow": "TensorFlow, float32",
    "torch": "PyTorch, float32",
    "published": "as published",
    "self": "self-attention in both stages",
    "token": "token attention in both stages",
    "one_stage": "one stage, no hierarchy",
    "without_shortcut": "without the deformed shortcut",
    "pre_activation": "pre-activation residual",
    "t1": "one time step",
    "t2": "two time steps",
}
EVALUATIONS = {
    "test": "as trained, file order, 16",
    "in_sample_state": "sample state, any order and batch",
    "in_batch_state_one_by_one": "batch state, one by one",
    **{
        f"in_batch_state_{order}_{size}": f"batch state, {words}, {size}"
        for order, words in (("shuffled", "shuffled"), ("by_class", "sorted by class"))
        for size in (8, 32, 128)
    },
}
# (first, second) without the data -> what the difference is.
DIFFERENCES = {
    (
        "sample",
        "batch@in_batch_state_shuffled_32",
    ): "trained and tested with it, minus without it",
    **{
        (
            f"batch@in_batch_state_shuffled_{size}",
            f"batch@in_batch_state_by_class_{size}",
        ): f"trained with it: sorted minus shuffled, by {size}"
        for size in (8, 32, 128)
    },
    (
        "batch@in_batch_state_shuffled_32",
        "batch@in_sample_state",
    ): "trained with it: tested without, minus with",
    (
        "sample",
        "sample@in_batch_state_shuffled_32",
    ): "trained without it: tested with, minus without",
    **{
        (family, "qkformer"): f"QKFormer minus {words}"
        for family, words in FAMILIES.items()
    },
    **{
        ("jax", way): f"{VARIANTS[way]}, minus JAX"
        for way in ("jax_bfloat16", "tensorflow", "torch")
    },
    **{
        ("published", change): f"{VARIANTS[change]}, minus published"
        for change in (
            *("self", "token", "one_stage", "without_shortcut", "pre_activation"),
            *("t1", "t2"),
        )
    },
}
COLUMNS = {  # Of the picture of costs -> a number from an entry of `costs`.
    "operations, M MACs": lambda cost: cost["dense_macs"] / 1e6,
    "energy, strict, mJ": lambda cost: cost["total_mj"]["strict"],
    "time, CPU ms": lambda cost: cost["cpu_ms"],
}


def load(name):
    """Return the contents of a file of results, or `None` if there is none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def split(score):
    """Split the name of a score into variant, data and evaluation.

    Example:
    >>> split("sample_digits@in_sample_state"), split("jax_bfloat16")
    (('sample', 'digits', 'in_sample_state'), ('jax_bfloat16', '', 'test'))
    """
    variant, _, evaluation = score.partition("@")
    head, _, data = variant.rpartition("_")
    if data not in DATA:
        head, data = variant, ""
    return head, data, evaluation or "test"


def without_data(score):
    """Return the name of a score without its data."""
    head, _, evaluation = split(score)
    return head if evaluation == "test" else f"{head}@{evaluation}"


def by_data(compared):
    """Group comparisons by their data: dict from its name to lists of them."""
    found = {}
    for one in compared:
        found.setdefault(split(one["first"])[1], []).append(one)
    return found


def label_of(one):
    """Say what a comparison compares."""
    return DIFFERENCES[without_data(one["first"]), without_data(one["second"])]


def figure(name, what="differences"):
    """Draw a study: its `differences`, or the `scores` of its tests."""
    study = load(name)
    rows = []
    if study and what == "differences":
        for data, compared in by_data(study["summary"]["comparisons"]).items():
            rows += [{"label": DATA[data]}] if data else []
            rows += [
                {"label": label_of(one), **_in_percent(one, "differences")}
                for one in compared
                if one["seeds"]
            ]
    elif study:
        rows = [{"label": label, **own} for label, _, own in _tests(study)]
    if not any("values" in row for row in rows):
        return NONE
    if what == "differences":
        svg = dots(rows, "difference of accuracy, percentage points", zero=True)
    else:
        svg = dots(rows, "accuracy on the test split, %", most=100)
    dot = "a pair of trainings" if what == "differences" else "a training"
    return framed(
        svg,
        f"A dot is {dot}; the bar is their mean, the line its 95 % interval. An arrow: "
        "the line goes on.",
    )


def picture(name, costs):
    """Draw the scores of a study beside what an example costs, by a file of costs."""
    study, found = load(name), load(costs)
    if not study or not found:
        return NONE
    prices = {one["variant"]: one for one in found["costs"]}
    accuracy, rows = "accuracy on the test split, %", []
    for label, variant, own in _tests(study):
        rows.append({"label": label})
        if own:
            rows[-1][accuracy] = own
            for column, number in COLUMNS.items():
                rows[-1][column] = number(prices[variant])
    return framed(
        beside(rows, [accuracy, *COLUMNS]),
        "A dot is a training, the stroke their mean, the line its 95 % interval as far "
        "as the axis goes. Bars are what one example costs.",
    )


def _tests(study):
    """Yield `(label, variant, score in per cent)` of the tests, by data.

    The tests of each data follow a label alone, with an empty score.
    """
    last = ""
    for score, one in study["summary"]["scores"].items():
        head, data, evaluation = split(score)
        if evaluation == "test":
            if data and data != last:
                yield DATA[data], None, {}
            last = data
            yield VARIANTS[head], score, _in_percent(one)


def framed(svg, words):
    """Return a figure that scrolls within itself, with its words."""
    return (
        f'<figure class="block-picture"><div class="scroll">{svg}</div>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def scores(name):
    """Return the mean of each score with its interval: a row for each evaluation."""
    study = load(name)
    if not study:
        return ""
    found = study["summary"]["scores"]
    columns = [v for v in study["study"]["variants"] if v in found]
    rows = ["test", *study["study"]["evaluations"]]
    words = [
        f"{VARIANTS[h]}{', ' * bool(d)}{DATA.get(d, '')}"
        for h, d, _ in map(split, columns)
    ]
    if len(rows) == 1:  # Then the variants are the rows.
        lines = ["| | mean and 95 % interval, % | by seed |", "|---|---|---|"]
        lines += [
            f"| {word} | {_cell(found[c])} | "
            f"{', '.join(f'{100 * v:.1f}' for v in found[c]['values'])} |"
            for word, c in zip(words, columns, strict=True)
        ]
        return "\n".join(lines)
    lines = [f"| tested | {' | '.join(words)} |", "|---" * (1 + len(columns)) + "|"]
    for row in rows:
        names = [c if row == "test" else f"{c}@{row}" for c in columns]
        cells = " | ".join(_cell(found[n]) if n in found else "-" for n in names)
        lines.append(f"| {EVALUATIONS[row]} | {cells} |")
    return "\n".join(lines)


def differences(name):
    """Return the comparisons of a study, each with its seeds, interval and tests."""
    study = load(name)
    if not study:
        return ""
    lines = [
        "| difference | pairs | points | 95 % interval | p | p, Holm | |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, compared in by_data(study["summary"]["comparisons"]).items():
        for one in compared:
            words = label_of(one) + (f", {DATA[data]}" if data else "")
            mean = "-" if one["mean"] is None else f"{100 * one['mean']:+.2f}"
            lines.append(
                f"| {words} | {len(one['seeds'])} | {mean} | {span(one['interval'])} | "
                f"{_p(one['p'])} | {_p(one['p_holm'])} | {verdict(one)} |"
            )
    return "\n".join(lines)


def verdict(one):
    """Apply the rule of the plans to a comparison."""
    if len(one["seeds"]) < 2:
        return "open"
    if one["p_holm"] is None:  # Without spread there is no test.
        return "the same in all pairs"
    return "**shown**" if one["p_holm"] < 0.05 else "not shown"


def told(one):
    """Return the size of a difference as words, with its interval and pairs."""
    if not one["seeds"]:
        return "not measured yet"
    size = f"{100 * one['mean']:+.1f} points"
    pairs = len(one["seeds"])
    if pairs < 2:
        return f"{size} in one pair of trainings, which tells nothing"
    if one["interval"] is None:
        return f"{size} in each of {pairs} pairs"
    return f"{size}, 95 % interval {span(one['interval'], 1)}, {pairs} pairs"


def runs(name):
    """Say how much of a study there is, and what made it."""
    study = load(name)
    if not study:
        return NONE
    found, variants = study["runs"], study["study"]["variants"]
    planned = len(variants) * study["study"]["seeds"]
    per = {v: sum(run["variant"] == v for run in found) for v in variants}
    least, most = min(per.values()), max(per.values())
    each = f"{least}" if least == most else f"{least} to {most}"
    backends = sorted({run["versions"]["backend"] for run in found})
    commits = dict.fromkeys((run["commit"] or "unknown")[:7] for run in found)
    missing = (
        "All trainings of the plan are there"
        if len(found) == planned
        else f"**{len(found)} of the {planned} trainings of the plan are there**"
    )
    return (
        f"{missing}: {each} of {study['study']['seeds']} seeds for each variant. "
        f"Backend: {', '.join(backends)}; commits {', '.join(commits)}; "
        f"`docs/evidence/{name}.json` holds the command, versions and scores of each."
    )


def plan(name):
    """Return the plan of a study, as it was written before its first result."""
    study = load(name)
    return f"> {study['study']['plan']}" if study else NONE


def attack(name="attack"):
    """Return the counts of `studies/batch_state_attack.py`."""
    found = load(name)
    if not found:
        return NONE
    lines = [
        "| trained with | state when attacked | trainings | victims moved | "
        "pairs moved | largest difference of a logit between attackers |",
        "|---|---|---|---|---|---|",
    ]
    for state in ("batch", "sample"):
        for variant in ("batch_digits", "sample_digits"):
            same = attacks(found, state, variant)
            if same:
                victims = sum(run["victims"] for run in same)
                pairs = sum(run["victims"] * run["attackers"] for run in same)
                most = max(r["largest_difference_between_attackers"] for r in same)
                lines.append(
                    f"| {split(variant)[0]} state | {state} state | {len(same)} | "
                    f"{sum(run['moved_victims'] for run in same)} of {victims} | "
                    f"{sum(run['moved_pairs'] for run in same)} of {pairs:,} | "
                    f"{most:g} |"
                )
    return "\n".join(lines)


def attacks(found, state, variant=None):
    """Return the runs of an attack in one state."""
    return [
        run
        for run in found["runs"]
        if run["membrane_state"] == state and variant in (None, run["variant"])
    ]


def costs(name="families_cost"):
    """Return what the families cost, by `studies/families_cost.py`."""
    found = load(name)
    if not found:
        return NONE
    conventions = [*found["costs"][0]["total_mj"]]
    lines = [
        f"| | parameters | dense MACs, M | {' | '.join(conventions)} | twin | "
        "correct, % |",
        "|---" + "|--:" * (len(conventions) + 4) + "|",
    ]
    for data, words in DATA.items():
        for one in found["costs"]:
            head, own, _ = split(one["variant"])
            if own == data:
                each = " | ".join(f"{one['total_mj'][c]:.4f}" for c in conventions)
                lines.append(
                    f"| {VARIANTS[head]}, {words} | {one['parameters']:,} | "
                    f"{one['dense_macs'] / 1e6:.1f} | {each} | {one['twin_mj']:.4f} | "
                    f"{100 * one['accuracy']:.1f} |"
                )
    return "\n".join(lines)


WAYS = {
    "jax": "JAX",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
    "bfloat16": "JAX in bfloat16",
    "four_devices": "JAX on four devices",
    "one_by_one": "JAX, one by one",
    "stream": "JAX, as a stream",
    "tensorflow_float64": "TensorFlow in float64",
    "torch_float64": "PyTorch in float64",
}


def exact(name="neutral_exact"):
    """Return the counts of `studies/neutral_exact.py`."""
    found = load(name)
    if not found:
        return NONE
    lines = [
        "| the same weights on | and on | predictions that differ | images whose "
        "logits differ | largest difference of a logit | correct |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {WAYS[p['first']]} | {WAYS[p['second']]} | {p['changed_predictions']} of "
        f"{p['predictions']:,} | {p['changed_logits']:,} | "
        f"{p['largest_change_of_a_logit']:.2g} | "
        f"{p['correct'][0]:,} and {p['correct'][1]:,} |"
        for p in found["pairs"]
    ]
    return "\n".join(lines)


def span(interval, digits=2):
    """Return an interval of accuracies as words, in per cent."""
    if interval is None:
        return "-"
    return " to ".join(f"{100 * value:.{digits}f}" for value in interval)


def _cell(score):
    interval = score["interval"]
    words = f" ({span(interval, 1)})" if interval else ""
    return f"{100 * score['mean']:.1f}{words}"


def _in_percent(one, values="values"):
    return {
        "values": [100 * value for value in one[values]],
        "mean": None if one["mean"] is None else 100 * one["mean"],
        "interval": one["interval"] and [100 * value for value in one["interval"]],
    }


def _p(value):
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"

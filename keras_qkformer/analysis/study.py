"""What the scores of a study say: means, intervals and paired tests.

The seeds of a training are the sample: they draw the weights, the order of the examples
and the augmentation. So an interval is about training again, not about other test
examples, which all trainings share.
"""

import numpy as np

CONFIDENCE = 0.95
_ROUNDING = 1e-9  # Accuracies of fewer than a billion examples differ by more.


def summarize(runs, comparisons=()):
    """Summarize the accuracies of a study.

    Args:
        runs: list of dicts with `variant`, `seed` and `scores`, see
            `training.study.run_study`.
        comparisons: pairs of names of scores: `VARIANT` or `VARIANT@EVALUATION`.

    Returns:
        Dict that JSON can hold. `scores`: a dict from the name of a score to its
        `seeds`, `values`, `mean` and `interval` (of the mean, see `mean_interval`).
        `comparisons`: a list of dicts with `first`, `second`, the `seeds` that both
        have, the mean of the `differences` second - first, its `interval`, and the
        two-sided `p` of Student's paired t-test, as it is and `p_holm`, after Holm's
        correction for the number of comparisons. What one seed can't tell is `None`.

    Reference:
        [Holm, 1979](https://www.jstor.org/stable/4615733): a simple sequentially
        rejective multiple test procedure.
    """
    found = {}
    for run in runs:
        for name, score in run["scores"].items():
            name = run["variant"] + (f"@{name}" if name != "test" else "")
            found.setdefault(name, {})[run["seed"]] = score["accuracy"]
    scores = {
        name: {
            "seeds": [*values],
            "values": [*values.values()],
            "mean": float(np.mean([*values.values()])),
            "interval": mean_interval([*values.values()]),
        }
        for name, values in found.items()
    }
    compared = [
        _compare(first, second, found.get(first, {}), found.get(second, {}))
        for first, second in comparisons
    ]
    for one, p in zip(compared, holm([one["p"] for one in compared]), strict=True):
        one["p_holm"] = p
    return {"confidence": CONFIDENCE, "scores": scores, "comparisons": compared}


def _compare(first, second, of_first, of_second):
    seeds = [seed for seed in of_first if seed in of_second]
    differences = [of_second[seed] - of_first[seed] for seed in seeds]
    return {
        "first": first,
        "second": second,
        "seeds": seeds,
        "differences": differences,
        "mean": float(np.mean(differences)) if seeds else None,
        "interval": mean_interval(differences),
        "p": paired_p(differences),
    }


def mean_interval(values):
    """Return Student's 95 % confidence interval of a mean.

    Args:
        values: sequence of float.

    Returns:
        `[low, high]`, or `None` for fewer than two values, and where all are equal,
        which leaves nothing to estimate their spread from.

    Example:
    >>> low, high = mean_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    from scipy import stats

    if len(values) < 2 or _are_equal(values):
        return None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def paired_p(differences):
    """Return the two-sided p of Student's t-test that differences have the mean 0.

    Args:
        differences: sequence of float, one for each pair.

    Returns:
        Float in [0, 1], or `None` for fewer than two differences. If all are equal, 1
        if they are 0 and `None` otherwise, as for `mean_interval`.
    """
    from scipy import stats

    if len(differences) < 2:
        return None
    if _are_equal(differences):
        return 1.0 if abs(differences[0]) < _ROUNDING else None
    return float(stats.ttest_1samp(differences, 0).pvalue)


def _are_equal(values):
    """Whether accuracies, or their differences, are equal but for rounding."""
    return np.ptp(values) < _ROUNDING


def holm(values):
    """Correct the p of several tests, so that any false alarm has that probability.

    Args:
        values: sequence of float or `None`, which stays and counts as no test.

    Returns:
        List of the same length.

    Example:
    >>> holm([0.01, 0.04, None, 0.5])
    [0.03, 0.08, None, 0.5]
    """
    order = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected, largest = [None] * len(values), 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[i] = largest
    return corrected


def markdown(summary):
    """Write a summary as Markdown: a table of scores and one of comparisons.

    Args:
        summary: dict, see `summarize`.

    Returns:
        Str. Accuracies are in per cent, differences in percentage points.
    """
    lines = [
        "| | seeds | accuracy, % | 95 % interval | by seed |",
        "|---|---|---|---|---|",
    ]
    for name, score in summary["scores"].items():
        values = ", ".join(f"{100 * value:.1f}" for value in score["values"])
        lines.append(
            f"| {name} | {len(score['seeds'])} | {100 * score['mean']:.2f} | "
            f"{_span(score['interval'])} | {values} |"
        )
    if summary["comparisons"]:
        lines += [
            "",
            "| difference | pairs | points | 95 % interval | p | p, Holm |",
            "|---|---|---|---|---|---|",
        ]
    for one in summary["comparisons"]:
        mean = "-" if one["mean"] is None else f"{100 * one['mean']:+.2f}"
        lines.append(
            f"| {one['second']} minus {one['first']} | {len(one['seeds'])} | {mean} | "
            f"{_span(one['interval'])} | {_p(one['p'])} | {_p(one['p_holm'])} |"
        )
    return "\n".join(lines) + "\n"


def _span(interval):
    if interval is None:
        return "-"
    return " to ".join(f"{100 * value:.2f}" for value in interval)


def _p(value):
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"

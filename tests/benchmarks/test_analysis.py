"""The cost of an analysis: who is compared with whom."""

import pytest

from benchmarks.analysis import compare, is_within

pytestmark = pytest.mark.backend_independent


def costs(analysis, peak):
    """Four times as long by the clock of a busy machine, which does not count."""
    turns = {
        "examples": 100,
        "peak_mb": 9999.0,
        "seconds": {
            "evaluation": {"processor": 10.0, "wall": 10.0},
            "analysis": {"processor": analysis, "wall": 40.0},
        },
    }
    peaks = {"evaluation": 500.0, "analysis": peak}
    return compare(
        turns, {task: {"examples": 9, "peak_mb": mb} for task, mb in peaks.items()}
    )


def test_an_analysis_is_compared_with_an_evaluation():
    found = costs(12.0, 550.0)
    assert found["time_ratio"] == 1.2
    assert found["wall_time_ratio"] == 4.0
    assert found["memory_ratio"] == 1.1
    assert (found["examples"], found["memory_examples"]) == (100, 9)


@pytest.mark.parametrize(
    ("analysis", "peak", "fine"),
    [(13.0, 600.0, True), (13.1, 500.0, False), (10.0, 601.0, False)],
)
def test_both_bounds_hold(analysis, peak, fine):
    assert is_within(costs(analysis, peak)) is fine

"""Timing, tables and the roofline on fixed numbers."""

import numpy as np
import pytest

from benchmarks import report, worker
from benchmarks.measure import Memory, environment, from_ends, measure, summary

pytestmark = pytest.mark.backend_independent


def test_first_call_is_apart_and_the_second_is_dropped():
    memory = Memory("cpu", "torch")
    memory.start()
    record = from_ends([0.0, 5.0, 7.0, 8.0, 8.5], memory)
    assert record["first_s"] == 5.0
    assert record["seconds"] == [1.0, 0.5]


def test_a_step_is_called_twice_more_than_timed():
    calls = []
    record = measure(lambda: calls.append(1), 3, Memory("cpu", "torch"))
    assert len(calls) == 5
    assert len(record["seconds"]) == 3


def test_memory_rises_by_what_a_step_holds_and_not_by_what_was_held_before():
    # 160 MB are held and freed before the start, 80 MB after it.
    np.ones(20_000_000)
    memory = Memory("cpu", "torch")
    memory.start()
    held = np.ones(10_000_000)
    record = memory.stop()
    assert 76 < record["increase_mb"] < 90
    assert record["peak_mb"] > held.nbytes / 1e6


def test_summary_is_median_and_range():
    expected = {"median_s": 2.0, "min_s": 1.0, "max_s": 9.0, "count": 3}
    assert summary([9.0, 1.0, 2.0]) == expected


def test_environment_names_machine_versions_and_commit():
    found = environment("cpu")
    assert found["cores"] > 0
    assert found["versions"]["keras"].startswith("3.")
    assert found["gpu"] is None
    assert len(found["load_average_at_start"]) == 3


def record(task, seconds, batch=2, **more):
    times = {"first_s": 9.0, "seconds": seconds}
    return {"task": task, "batch": batch, "peak_mb": 50.0, "increase_mb": 5.0} | (
        times | more
    )


def unit(case, subject, *records, round_=1, status="done"):
    return {
        "case": case,
        "subject": subject,
        "round": round_,
        "status": status,
        "records": list(records),
    }


def results(*units, **kinds):
    kinds = {"machine": "machine", **kinds}
    cases = {
        name: {
            "kind": kind,
            "title": name,
            "sizes": {"sides": (10,), "channels": 256},
        }
        for name, kind in kinds.items()
    }
    return {
        "device": "cpu",
        "sessions": [environment("cpu")],
        "cases": cases,
        "subjects": {"plain": "a peer"},
        "absent": {"spyx": ["spyx"]},
        "units": list(units),
    }


@pytest.fixture
def model_results():
    count = {"macs_per_image": 200, "bytes_per_image": 30, "bytes_per_step": 40}
    return results(
        # 800 and 1000 multiply-accumulates and 400 bytes a second.
        unit("machine", "machine", record("matrix product", [2.0], macs=1600)),
        unit("machine", "machine", record("convolution", [3.0], macs=3000)),
        unit("machine", "machine", record("copy", [0.5], bytes=200)),
        unit("m", "ours-jax", record("inference", [1.0, 2.0], count=count)),
        unit("m", "plain", record("inference", [6.0])),
        unit("m", "ours-jax", record("inference", [4.0], count=count), round_=2),
        unit("m", "ours-torch", record("inference", [8.0]), round_=1),
        m="model",
    )


def test_rows_join_the_rounds(model_results):
    row, *_ = [r for r in report.rows(model_results) if r["subject"] == "ours-jax"]
    assert (row["median_s"], row["min_s"], row["max_s"]) == (2.0, 1.0, 4.0)
    assert row["per_second"] == 1.0


def test_floor_is_the_larger_of_arithmetic_and_bytes(model_results):
    # Two images: 400 MACs in 0.4 s; 60 + 40 bytes in 0.25 s.
    shares = {r["subject"]: r["floor_share"] for r in report.rows(model_results)}
    assert shares["ours-jax"] == pytest.approx(0.4 / 2.0)
    assert shares["plain"] == pytest.approx(0.4 / 6.0)


def test_comparison_takes_the_fastest_of_ours(model_results):
    lines = report.comparisons(report.rows(model_results), model_results)
    assert lines == ["m, inference: ours 2 s (jax), plain 6 s: 3.00 times as fast"]


def test_largest_batch_is_the_last_that_fits():
    data = results(
        unit(
            "m",
            "ours-jax",
            record("training step", [1.0], batch=64),
            record("training step", [1.0], batch=128),
            {"out_of_memory": "too much"},
        ),
        unit("m", "plain", record("training step", [1.0], batch=32)),
        m="largest_batch",
    )
    (line,) = report.comparisons(report.rows(data), data)
    assert line == "m, training step: ours 128 (jax), plain 32: 4.00 times the batch"


def test_slope_of_a_quadratic_cost_is_two():
    records = [record(f"self {n}x{n}", [1e-9 * n**4]) for n in (10, 50, 100, 200)]
    data = results(unit("attention", "plain", *records), attention="attention")
    slope = report.slopes(report.rows(data))["plain", "self", "median_s"]
    assert slope == pytest.approx(2.0)


def test_markdown_names_what_is_left_out_and_what_failed(model_results):
    failed = unit("m", "snntorch", status="failed")
    failed["error"] = "exit status 1: no such thing"
    model_results["units"].append(failed)
    text = report.markdown(model_results)
    assert "`spyx` left out: not installed: spyx" in text
    assert "**failed**: m, `snntorch`, round 1: exit status 1: no such thing" in text
    assert "| inference | ours-jax | 2 | 9 s, 9 s | 2 s (1 s to 4 s, n=3) | 1 |" in text


def test_memory_of_attention_stands_beside_that_of_the_paper():
    records = [record("token 10x10", [1.0]), record("self 10x10", [1.0])]
    data = results(unit("attention", "plain", *records), attention="attention")
    assert "| 100 | 0.10 | 0.1 | 0.14 | 0.14 |" in report.markdown(data)


def test_every_case_has_a_figure(model_results, tmp_path):
    records = [record(f"token {n}x{n}", [1e-9 * n**2]) for n in (10, 50)]
    data = {**model_results}
    data["cases"] = {
        **data["cases"],
        "attention": {"kind": "attention", "title": "attention"},
    }
    data["units"] = [*data["units"], unit("attention", "plain", *records)]
    paths = report.plot(data, tmp_path, "day")
    assert [path.name for path in paths] == ["day-m.png", "day-attention.png"]
    assert all(path.stat().st_size > 1000 for path in paths)


@pytest.mark.parametrize(
    "error, expected",
    [
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying"), True),
        (type("ResourceExhaustedError", (Exception,), {})("OOM"), True),
        (RuntimeError("shapes do not fit"), False),
    ],
)
def test_a_full_memory_is_told_from_other_errors(error, expected):
    assert worker.is_out_of_memory(error) == expected

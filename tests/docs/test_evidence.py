"""The pages of `docs/evidence`: they say what the files of results say, and no more."""

import json
import re
from pathlib import Path

import pytest

from keras_qkformer.analysis.study import summarize
from keras_qkformer.training.study import declared, load_study

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "evidence"
pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs a checkout"),
]
STUDIES = sorted(
    path.stem
    for path in FOLDER.glob("*.json")
    if "study" in json.loads(path.read_text())
)


@pytest.fixture
def making(monkeypatch):
    """Make the modules of `docs/making` importable, and forget them afterwards."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "making")
    monkeypatch.syspath_prepend(ROOT)


@pytest.mark.parametrize("name", STUDIES)
def test_results_are_those_of_the_plan_and_of_their_runs(name):
    """No number was edited, no comparison dropped, no plan changed afterwards."""
    results = json.loads((FOLDER / f"{name}.json").read_text())
    study, runs = results["study"], results["runs"]
    plan = json.loads(json.dumps(declared(load_study(ROOT / "studies" / f"{name}.py"))))
    assert study == {key: plan[key] for key in study}
    assert results["summary"] == json.loads(
        json.dumps(summarize(runs, study["comparisons"]))
    )
    assert len({(run["variant"], run["seed"]) for run in runs}) == len(runs)
    for run in runs:
        assert run["variant"] in study["variants"] and run["seed"] < study["seeds"]
        assert {*run["scores"]} == {"test", *study["evaluations"]}
        for score in run["scores"].values():
            assert score["accuracy"] == score["correct"] / score["examples"]


def test_every_file_of_results_is_told_and_every_part_is_there(making):
    import directives

    pages = {path.stem: path.read_text() for path in FOLDER.glob("*.md")}
    made = {name: directives.with_directives(text) for name, text in pages.items()}
    assert not [name for name, text in made.items() if "{{" in text]
    for name in STUDIES:
        assert f"{{{{evidence differences {name}}}}}" in pages[name]
        assert f"docs/evidence/{name}.json" in made[name]
    # The answer of a page is that of the first page.
    for name in pages.keys() - {"index"}:
        answer = re.search(r"^\{\{evidence answer \w+\}\}$", pages[name], re.M)[0]
        assert answer in pages["index"]


def results_of(accuracies, seeds=5):
    """The results of a study of two states, from accuracies by variant."""
    runs = [
        {
            "variant": variant,
            "seed": seed,
            "scores": {
                "test": {"accuracy": value},
                "in_batch_state_shuffled_32": {"accuracy": value},
            },
            "commit": None,
            "versions": {"backend": "jax"},
        }
        for variant, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    pairs = [["sample_digits", "batch_digits@in_batch_state_shuffled_32"]]
    about = {
        "plan": "p",
        "seeds": seeds,
        "variants": {"sample_digits": [], "batch_digits": []},
        "evaluations": {"in_batch_state_shuffled_32": {}},
        "comparisons": pairs,
    }
    return {"study": about, "summary": summarize(runs, pairs), "runs": runs}


def test_what_is_shown_and_what_is_not_follows_the_rule(making, tmp_path, monkeypatch):
    import answers
    import evidence

    monkeypatch.setattr(evidence, "FOLDER", tmp_path)

    def told(sample, batch):
        results = results_of({"sample_digits": sample, "batch_digits": batch})
        (tmp_path / "batch_state.json").write_text(json.dumps(results))
        return evidence.differences("batch_state").splitlines()[-1]

    # Differences of 9, 10 and 11 points: t = 0.1 / (0.01 / sqrt(3)) = 17.3, p = 0.0033.
    row = told([0.80, 0.80, 0.80], [0.89, 0.90, 0.91])
    assert "| 3 | +10.00 | 7.52 to 12.48 | 0.003 | 0.003 | **shown** |" in row
    assert "shown to change accuracy on the digits (3 of 5 seeds)" in answers.answer(
        "short"
    )
    assert "6 of the 10 trainings" in evidence.runs("batch_state")
    assert evidence.figure("batch_state").count('class="dot"') == 3
    # Differences of -10, 0 and 10 points.
    row = told([0.80, 0.80, 0.80], [0.70, 0.80, 0.90])
    assert row.endswith("| 1.000 | 1.000 | not shown |")
    assert "not shown to change accuracy" in answers.answer("short")
    # One pair tells nothing, however large its difference.
    assert told([0.80], [0.20]).endswith("| 1 | -60.00 | - | - | - | open |")
    assert "open" in answers.answer("short")
    assert "tells nothing" in answers.answer("batch_state")
    (tmp_path / "batch_state.json").unlink()
    assert evidence.figure("batch_state") == evidence.NONE
    assert "Open" in answers.answer("batch_state")


def test_exponents_come_from_the_calls(making):
    from complexity import exponents

    def record(side, power):
        calls = [1e-9 * side ** (2 * power), 2e-9 * side ** (2 * power)]
        task = f"token {side}x{side}"
        return {
            **{"task": task, "batch": 1, "first_s": 1.0, "seconds": calls},
            **{"peak_mb": 1.0, "increase_mb": 1e-3 * side**2},
        }

    unit = {"case": "attention", "subject": "ours-jax", "round": 1, "status": "done"}
    data = {
        "cases": {"attention": {"kind": "attention"}},
        "units": [
            {**unit, "records": [record(n, power) for n in (50, 100, 200)]}
            for power in (1, 1.5)
        ],
    }
    found = exponents(data)
    times = found["ours-jax", "token", "median_s"]
    assert times == pytest.approx([1, 1, 1.5, 1.5])
    assert found["ours-jax", "token", "increase_mb"] == pytest.approx([1, 1])


def test_attack_comparisons_and_costs_are_counted(making, tmp_path, monkeypatch):
    import answers
    import evidence

    monkeypatch.setattr(evidence, "FOLDER", tmp_path)

    def write(name, **found):
        (tmp_path / f"{name}.json").write_text(json.dumps(found))

    def attacked(state, moved, most):
        return {
            **{"variant": "batch_digits", "membrane_state": state, "victims": 100},
            **{"attackers": 32, "moved_victims": moved, "moved_pairs": 2 * moved},
            "largest_difference_between_attackers": most,
        }

    runs = [attacked("batch", 3, 1.5), attacked("batch", 4, 0.5)]
    write("attack", runs=[*runs, attacked("sample", 0, 0.0)])
    lines = evidence.attack().splitlines()
    assert "| 2 | 7 of 200 | 14 of 6,400 | 1.5 |" in lines[-2]
    assert "| 1 | 0 of 100 | 0 of 3,200 | 0 |" in lines[-1]
    results = results_of({"sample_digits": [0.5], "batch_digits": [0.5]})
    write("batch_state", **results)
    told = answers.answer("batch_state")
    assert "up to 1.50 and moved 7 of 200" in told and "it changed no logit" in told

    def pair(second, changed):
        return {
            **{"first": "jax", "second": second, "predictions": 1800},
            **{"changed_predictions": changed, "changed_logits": 9, "trainings": 5},
            **{"largest_change_of_a_logit": 0.25, "correct": [1790, 1789]},
        }

    ways = ("tensorflow", "torch", "bfloat16", "four_devices", "one_by_one", "stream")
    write("neutral_exact", pairs=[pair(way, n) for n, way in enumerate(ways)])
    assert "| JAX | PyTorch | 1 of 1,800 | 9 | 0.25 | 1,790 and 1,789 |" in (
        evidence.exact()
    )
    assert (
        "0 on TensorFlow, 1 on PyTorch, 2 in bfloat16, 3 on four devices and 5 as"
        in (answers.answer("neutral"))
    )
    one = {
        **{"variant": "sew_resnet_nmnist", "accuracy": 0.9, "parameters": 1234},
        **{"dense_macs": 2.5e6, "twin_mj": 0.25, "total_mj": {"strict": 0.125}},
        "cpu_ms": 7.75,
    }
    write("families_cost", costs=[one])
    assert evidence.costs().splitlines()[-1] == (
        "| SEW ResNet, N-MNIST | 1,234 | 2.5 | 0.1250 | 0.2500 | 90.0 |"
    )
    runs = [{"variant": one["variant"], "seed": 0, "scores": {"test": {"accuracy": 1}}}]
    study = {
        "study": {"variants": {one["variant"]: []}},
        "summary": summarize(runs, []),
    }
    write("families", **study)
    drawn = evidence.picture("families", "families_cost")
    assert re.findall(r'class="number"[^>]*>([^<]*)', drawn) == ["2.5", "0.125", "7.75"]
    assert drawn.count('class="bar"') == 3 and drawn.count('class="dot"') == 1
    assert evidence.picture("families", "missing") == evidence.NONE


def test_a_leak_through_the_order_is_told_where_it_is_shown(
    making, tmp_path, monkeypatch
):
    import answers
    import evidence

    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    orders = [f"in_batch_state_{order}_32" for order in ("shuffled", "by_class")]
    pairs = [[f"batch_cifar10@{order}" for order in orders]]
    pairs.append(["sample_cifar10", f"batch_cifar10@{orders[0]}"])

    def told(gains):
        same = [0.5] * len(gains)
        found = results_of({"batch_cifar10": same, "sample_cifar10": same})
        for run in found["runs"]:
            run["scores"][orders[1]] = {"accuracy": 0.5 + gains[run["seed"]]}
        found["summary"] = summarize(found["runs"], pairs)
        (tmp_path / "batch_state_cifar10.json").write_text(json.dumps(found))
        return answers.answer("short").splitlines()[0]

    # Differences of 9, 10 and 11 points, then of -10, 0 and 10.
    shown = "sorted by class is shown to change it on CIFAR-10, by up to +10.0 points"
    assert shown in told([0.09, 0.10, 0.11])
    assert "sorted" not in told([-0.1, 0.0, 0.1])


def test_ablations_are_told_by_the_rule(making, tmp_path, monkeypatch):
    import answers
    import evidence

    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    pairs = [["published_digits", f"{change}_digits"] for change in ("self", "t1")]

    def told(**accuracies):
        found = results_of({f"{name}_digits": v for name, v in accuracies.items()})
        found["summary"] = summarize(found["runs"], pairs)
        (tmp_path / "ablations.json").write_text(json.dumps(found))
        return answers.answer("ablations")

    published = [0.80, 0.81, 0.82]
    text = told(published=published, self=[0.79, 0.81, 0.83], t1=[0.70, 0.72, 0.71])
    assert "shown to change accuracy: one time step, minus published (-10.0" in text
    assert "Of the other 1 changes none" in text and "+0.0 to +0.0" in text
    text = told(published=published, self=published[::-1], t1=published)
    assert "of 2 changes none is shown" in text
    (tmp_path / "ablations.json").unlink()
    assert "Open" in answers.answer("ablations")

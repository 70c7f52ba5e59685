"""The benchmark as a whole on small sizes, and the counts of a model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import __main__ as benchmark
from benchmarks import cases, ours
from benchmarks.measure import Memory
from keras_qkformer import QKFormerClassifier
from keras_qkformer.analysis.operations import attention_macs, convolutions, counts

BACKEND = keras.backend.backend()


def run_code(code, *arguments, **environment):
    """Python code in a process of its own, at the root of the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(benchmark.__file__).parents[1],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_training_of_keras_is_timed_step_by_step():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, labels = np.ones((20, 3), "float32"), np.zeros(20, "int32")
    record = ours._training(model, x, labels, 4, Memory("cpu", BACKEND))
    assert record["task"] == "training step"
    assert len(record["seconds"]) == 3  # of five
    assert min(record["seconds"]) > 0


def test_quick_run_measures_reports_and_goes_on(tmp_path, capsys):
    arguments = ["--quick", "--case", "neuron", "--subjects", f"ours-{BACKEND}"]
    arguments += ["--steps", "2"]
    status = benchmark.main([*arguments, "--results", str(tmp_path)])
    said = capsys.readouterr().out
    assert status == 0, said
    (path,) = tmp_path.glob("*-quick-run.json")
    data = json.loads(path.read_text())
    (unit,) = data["units"]
    assert unit["status"] == "done"
    tasks = {record["task"]: record for record in unit["records"]}
    assert set(tasks) == {"T=4 forward", "T=4 forward + backward"}
    assert all(len(record["seconds"]) == 2 for record in tasks.values())
    assert f"| T=4 forward | ours-{BACKEND} | 2 |" in said
    assert (tmp_path / f"{path.stem}-neuron.png").is_file()

    # What is done is kept; what was started is done again.
    unit["mark"] = "kept"
    data["units"].append({**unit, "round": 2, "status": "started"})
    path.write_text(json.dumps(data))
    assert benchmark.main([*arguments, "--resume", str(path)]) == 0
    data = json.loads(path.read_text())
    assert [unit["mark"] for unit in data["units"]] == ["kept"]
    assert len(data["sessions"]) == 2


@pytest.mark.backend_independent
def test_a_process_that_fails_is_reported_with_its_last_words(
    tmp_path, capsys, monkeypatch
):
    broken = {**os.environ, "KERAS_BACKEND": "no_such_backend"}
    monkeypatch.setattr(benchmark, "environment_of", lambda *_: broken)
    arguments = ["--quick", "--case", "neuron", "--subjects", "ours-torch"]
    assert benchmark.main([*arguments, "--results", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "**failed**: neuron, `ours-torch`, round 1: exit status 1" in said
    assert "no_such_backend" in said


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--case", "nothing"], "--case must match one of"),
        (["--subjects", "nobody"], "--subjects must be some of"),
        (["--part", "3/2"], "--part must be N/M"),
        (["--rounds", "0"], "--rounds must be above 0. Received: 0"),
        (["--report", "absent.json"], "absent.json"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, tmp_path, capsys):
    status = benchmark.main([*arguments, "--quick", "--results", str(tmp_path)])
    said = capsys.readouterr().err
    assert status == 2
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.backend_independent
def test_neither_the_command_nor_the_peers_import_keras_or_a_backend():
    code = (
        "import sys\n"
        "from benchmarks import __main__, peers, worker\n"
        "assert __main__.preset_arguments(sys.argv[1])['qkformer_tiny']\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))\n"
    )
    done = run_code(code, BACKEND)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.backend_independent
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_gpu_that_is_not_seen_is_an_error_and_not_a_measurement(library):
    request = {
        "set": "quick",
        "case": "neuron",
        "subject": f"ours-{library}",
        "device": "gpu",
        "steps": 1,
    }
    done = run_code(
        "import sys; from benchmarks.worker import main; main(sys.argv[1])",
        json.dumps(request),
        CUDA_VISIBLE_DEVICES="",
        JAX_PLATFORMS="cpu",
    )
    assert done.returncode != 0
    assert f"Received: {library} sees none" in done.stderr


@pytest.mark.backend_independent
def test_subjects_take_turns():
    options = benchmark._make_parser().parse_args(["--subjects", "spyx,snntorch"])
    chosen = {"neuron": cases.CPU["neuron"]}
    plan = [(r, s.name) for _, r, s in benchmark._plan(chosen, options)]
    assert plan == [(1, "snntorch"), (1, "spyx"), (2, "snntorch"), (2, "spyx")]


@pytest.mark.backend_independent
def test_every_subject_of_every_case_is_known():
    for table in (cases.CPU, cases.GPU, cases.QUICK):
        for case in table.values():
            assert {*case.subjects, *case.optional} <= set(cases.SUBJECTS)


@pytest.mark.backend_independent
def test_a_model_is_measured_without_tensorflow():
    request = {
        "set": "quick",
        "case": "qkformer_tiny",
        "subject": "ours-torch",
        "device": "cpu",
        "steps": 1,
    }
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "from benchmarks.worker import main\n"
        "main(sys.argv[1])\n"
    )
    # One thread: two that wait for each other spin where others use the cores.
    done = run_code(
        code, json.dumps(request), KERAS_BACKEND="torch", OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line[8:]) for line in done.stdout.splitlines()]
    tasks = [record["task"] for record in records]
    assert tasks[0] == "inference" and tasks[-1] == "training step"
    assert records[0]["count"]["macs_per_image"] > 0


@pytest.mark.backend_independent
def test_counts_of_a_small_model_by_hand():
    model = QKFormerClassifier.from_preset(
        "qkformer_tiny", embed_dim=8, num_heads=2, time_steps=2, num_classes=3
    )
    # (entries in, entries out, weights), 8x8 images, two steps; the image itself is
    # seen once. Stem: 1 -> 2 -> 4 channels, shortcut 2 -> 4. Token block: three 4 -> 4,
    # MLP 4 -> 16 -> 4. Second embedding: 4 -> 8, 8 -> 8, shortcut of stride 2; block of
    # self-attention on 4x4: four 8 -> 8, MLP 8 -> 32 -> 8.
    expected = [
        (64, 128, 18),
        (256, 512, 8),
        (256, 512, 72),
        *[(512, 512, 16)] * 3,
        (512, 2048, 64),
        (2048, 512, 64),
        (512, 256, 32),
        (512, 1024, 288),
        (1024, 1024, 576),
        *[(256, 256, 64)] * 4,
        (256, 1024, 256),
        (1024, 256, 256),
    ]
    found = convolutions(model)
    assert [(c.inputs, c.outputs, c.weights) for c in found] == expected
    assert [c.positions for c in found[:3]] == [64, 128, 128]
    # 32 tokens of 2 heads of 4 x 4, twice.
    assert attention_macs(model) == 2 * 32 * 2 * 4 * 4
    conv_macs = sum(c.positions * c.weights for c in found)
    count = counts(model)
    assert count["inference"]["macs_per_image"] == conv_macs + 2048 + 24
    training = count["training step"]
    assert training["macs_per_image"] == 3 * (conv_macs + 2048 + 24) - 64 * 18
    entries_in, entries_out = (sum(e[i] for e in expected) for i in (0, 1))
    assert training["bytes_per_image"] == 4 * (3 * entries_in + 2 * entries_out - 64)
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    weights = sum(int(np.prod(v.shape)) for v in kernels)
    assert count["inference"]["bytes_per_step"] == 4 * weights

"""Measures what an analysis costs beside a plain evaluation of the same images.

    python -m benchmarks.analysis --backends jax,torch --examples 1000

For each backend, one process evaluates and analyses every batch in turns, so that the
load of the machine affects both alike; the ratio is that of processor time. Peak memory
is that of two processes, one for each, over `--memory-examples`: it does not depend on
their number. The exit status is 1 if a bound is broken. Results are written as JSON to
`benchmarks/results/<date>-analysis-<name>.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Memory, environment

RESULTS = Path(__file__).with_name("results")
BATCH = 32
MOST_TIME, MOST_MEMORY = 1.3, 1.2
"""Bounds of an analysis, as multiples of a plain evaluation."""


def main(arguments=None):
    """Run the benchmark.

    Args:
        arguments: list of str, or `None` for `sys.argv[1:]`.

    Returns:
        Exit status: 0, or 1 if an analysis costs more than it may.
    """
    options = _make_parser().parse_args(arguments)
    if options.worker:
        print(json.dumps(run_task(options.worker, options.model, options.examples)))
        return 0
    result = {
        "what": "an analysis of the examples beside a plain evaluation",
        **environment("cpu"),
        "model": options.model,
        "batch": BATCH,
        "bounds": {"time": MOST_TIME, "memory": MOST_MEMORY},
        "backends": {},
    }
    for backend in options.backends.split(","):
        turns = _in_process(backend, "turns", options, options.examples)
        peaks = {
            task: _in_process(backend, task, options, options.memory_examples)
            for task in ("evaluation", "analysis")
        }
        result["backends"][backend] = found = compare(turns, peaks)
        print(
            f"{backend}: {found['examples']} examples, {found['time_ratio']:.2f} times "
            f"the time, {found['memory_ratio']:.2f} times the memory"
        )
    path = RESULTS / f"{result['date'][:10]}-analysis-{options.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)
    return 0 if all(map(is_within, result["backends"].values())) else 1


def _make_parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--backends", default="tensorflow,jax,torch", metavar="A,B")
    add("--examples", type=int, default=1000, help="default: %(default)s")
    add("--memory-examples", type=int, default=150, help="default: %(default)s")
    add("--model", default="weights/cifar10", help="preset folder (%(default)s)")
    add("--name", default="cpu", help="end of the file name")
    add("--worker", help=argparse.SUPPRESS)
    return parser


def _in_process(backend, task, options, examples):
    command = [sys.executable, "-m", "benchmarks.analysis", "--worker", task]
    done = subprocess.run(
        [*command, "--model", options.model, "--examples", str(examples)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def compare(turns, peaks):
    """Return the costs of an analysis as multiples of those of an evaluation.

    Args:
        turns: dict of `run_task` for `"turns"`.
        peaks: dict from `"evaluation"` and `"analysis"` to those of these tasks.

    Returns:
        Dict with `examples`, the seconds of `turns`, `time_ratio` by processor and
        `wall_time_ratio` by clock, `peak_mb` and `memory_ratio`.
    """
    seconds = turns["seconds"]
    peak = {task: found["peak_mb"] for task, found in peaks.items()}
    ratio = {
        clock: seconds["analysis"][clock] / seconds["evaluation"][clock]
        for clock in ("processor", "wall")
    }
    return {
        "examples": turns["examples"],
        "seconds": seconds,
        "time_ratio": ratio["processor"],
        "wall_time_ratio": ratio["wall"],
        "memory_examples": peaks["analysis"]["examples"],
        "peak_mb": peak,
        "memory_ratio": peak["analysis"] / peak["evaluation"],
    }


def is_within(found):
    """Return whether an analysis costs no more than it may.

    Args:
        found: dict of `compare`.
    """
    return found["time_ratio"] <= MOST_TIME and found["memory_ratio"] <= MOST_MEMORY


def run_task(task, folder, examples):
    """Evaluate or analyse random images in this process, or both in turns.

    Args:
        task: `"evaluation"`, `"analysis"` or `"turns"`.
        folder: str. A preset folder of images.
        examples: int > 0.

    Returns:
        Dict with `examples`, `peak_mb`, and `seconds`: for both, those of the processor
        and of the clock, with compiling; those of the analysis include what follows the
        last batch, the record and the look into six examples, also told as `after`.
    """
    import numpy as np

    from keras_qkformer.analysis.analyze import analyze
    from keras_qkformer.analysis.report.inside import look_inside
    from keras_qkformer.trained import load_trained
    from keras_qkformer.training.scores import score

    trained = load_trained(folder)
    random = np.random.default_rng(0)
    shape, classes = trained.model.input_shape[1:], len(trained.class_names)
    images = random.integers(0, 256, (examples, *shape), "uint8")
    labels = random.integers(0, classes, examples)
    inputs = np.stack([trained.prepared(x) for x in images])
    memory = Memory("cpu", "")
    logits, spent, analysed = [], np.zeros(2), np.zeros(2)

    def clocks():
        return np.array([time.process_time(), time.perf_counter()])

    def batches():
        for first in range(0, examples, BATCH):
            batch = inputs[first : first + BATCH]
            if task != "analysis":
                start = clocks()
                logits.append(trained.model.predict(batch, verbose=0))
                spent[:] += clocks() - start
            start = clocks()
            yield batch
            analysed[:] += clocks() - start

    memory.start()
    start = clocks()
    if task == "evaluation":
        for _ in batches():
            pass
        score(labels, np.concatenate(logits), trained.class_names)
    else:
        analyze(trained, batches(), labels=labels)
        look_inside(trained, inputs[:6], labels[:6])
    rest = clocks() - start - spent
    return {
        "examples": examples,
        "seconds": {
            name: dict(zip(("processor", "wall"), seconds, strict=True))
            for name, seconds in (
                ("evaluation", spent),
                ("analysis", rest),
                ("after", rest - analysed),
            )
        },
        **memory.stop(),
    }


if __name__ == "__main__":
    sys.exit(main())

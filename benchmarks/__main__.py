"""Compare keras_qkformer with its peers: `python -m benchmarks`.

    python -m benchmarks                                  everything, on this CPU
    python -m benchmarks --case neuron --subjects ours-jax,spyx
    python -m benchmarks --device gpu --minutes 8         then again with --resume FILE

Every library runs in its own processes, in turns (A B A B). Results are written as JSON
to benchmarks/results/ after every measurement; tables go to standard output.
"""

import argparse
import dataclasses
import fnmatch
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import cases, report
from benchmarks.measure import environment
from benchmarks.worker import MARK, environment_of

RESULTS = Path(__file__).parent / "results"
SAME = ("commit", "device", "cpu", "gpu", "versions")


def main(arguments=None):
    """Run the benchmark.

    Args:
        arguments: list of str, or `None` for `sys.argv[1:]`.

    Returns:
        Exit status: 0; 1 if a process failed; 2 for a user error; 130 after Ctrl-C.
    """
    try:
        options = _make_parser().parse_args(arguments)
        path, data = _open(options)
        if not options.report:
            _run_all(options, path, data)
        _show(path, data)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nbenchmarks: interrupted; --resume {path} goes on", file=sys.stderr)
        return 130
    return 1 if any(unit["status"] == "failed" for unit in data["units"]) else 0


def _make_parser():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--quick", action="store_true", help="check that it runs: small, one round")
    add("--case", action="append", metavar="PATTERN", help="only these; repeatable")
    add("--subjects", metavar="A,B", help="replace the default subjects of cases")
    add("--rounds", type=int, default=2, help="processes per library (%(default)s)")
    add("--steps", type=int, default=3, help="timed steps per process (%(default)s)")
    add("--part", metavar="N/M", help="only the N-th of M parts of the cases")
    add("--minutes", type=float, help="start no process after this many minutes")
    add("--timeout", type=float, default=900, help="seconds per process (%(default)s)")
    add("--name", default="run", help="end of the file name")
    add("--results", type=Path, default=RESULTS, help="folder (%(default)s)")
    add("--resume", type=Path, metavar="FILE", help="go on with this results file")
    add("--report", type=Path, metavar="FILE", help="only show this results file")
    return parser


def _open(options):
    """Return the path and contents of the results file, new or resumed."""
    path = options.report or options.resume
    if options.report:
        return path, json.loads(path.read_text())
    for name in ("rounds", "steps"):
        if getattr(options, name) < 1:
            raise ValueError(
                f"--{name} must be above 0. Received: {getattr(options, name)}"
            )
    now = environment(options.device)
    chosen = "quick" if options.quick else options.device
    if path:
        data = json.loads(path.read_text())
        start = data["sessions"][0]
        for key in SAME:
            if start[key] != now[key]:
                raise ValueError(
                    f"--resume must go on with the same {key}. "
                    f"Received: {now[key]}, after {start[key]}"
                )
        if data["set"] != chosen:
            raise ValueError(
                f"--resume must go on with the same sizes. Received: {chosen!r}, "
                f"after {data['set']!r}"
            )
        data["sessions"].append(now)
        data["units"] = [u for u in data["units"] if u["status"] == "done"]
        return path, data
    options.results.mkdir(parents=True, exist_ok=True)
    day = now["date"][:10]
    path = options.results / f"{day}-{chosen}-{options.name}.json"
    if path.exists():
        raise ValueError(
            f"The results file must be a new one: choose another --name, or go on with "
            f"--resume. Received: {path}"
        )
    return path, {
        "set": chosen,
        "device": options.device,
        "sessions": [now],
        "cases": {},
        "subjects": {},
        "absent": {},
        "units": [],
    }


def _run_all(options, path, data):
    with tempfile.TemporaryDirectory(prefix="keras_qkformer_compiled_") as compiled:
        _run_units(options, path, data, Path(compiled))


def _run_units(options, path, data, compiled):
    """Run all missing processes; `compiled` is the folder for compiled programs."""
    chosen = _choose(options, data["set"])
    for _, _, subject in _plan(chosen, options):
        data["subjects"][subject.name] = subject.note
        missing = [p for p in subject.needs if importlib.util.find_spec(p) is None]
        if missing:
            data["absent"][subject.name] = missing
    for name, case in chosen.items():
        data["cases"][name] = dataclasses.asdict(case)
    _write(path, data)
    done = {(u["case"], u["subject"], u["round"]) for u in data["units"]}
    end = time.monotonic() + 60 * options.minutes if options.minutes else None
    for name, round_, subject in _plan(chosen, options):
        if subject.name in data["absent"] or (name, subject.name, round_) in done:
            continue
        if end is not None and time.monotonic() > end:
            print(f"time is up: --resume {path} goes on", file=sys.stderr)
            return
        unit = {
            "case": name,
            "subject": subject.name,
            "round": round_,
            "status": "started",
            "records": [],
        }
        data["units"].append(unit)
        print(f"{name}: {subject.name}, round {round_}", file=sys.stderr, flush=True)
        for batch in _batches(chosen[name]):
            error = _run_unit(unit, batch, subject, options, path, data, compiled)
            if error or "out_of_memory" in unit["records"][-1]:
                break
        unit["status"] = "failed" if error else "done"
        if error:
            unit["error"] = error
        _write(path, data)


def _choose(options, chosen):
    """Return the cases to run, by name."""
    known = getattr(cases, chosen.upper())
    names = list(known)
    if options.case:
        for pattern in options.case:
            if not fnmatch.filter(names, pattern):
                raise ValueError(f"--case must match one of {names}. Got: {pattern!r}")
        names = [n for n in names if any(fnmatch.fnmatch(n, p) for p in options.case)]
    if options.part:
        part, _, parts = options.part.partition("/")
        if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
            raise ValueError(
                f"--part must be N/M with N from 1 to M. Received: {options.part!r}"
            )
        names = names[int(part) - 1 :: int(parts)]
    if options.subjects:
        unknown = set(options.subjects.split(",")) - set(cases.SUBJECTS)
        if unknown:
            raise ValueError(
                f"--subjects must be some of {list(cases.SUBJECTS)}. "
                f"Received: {sorted(unknown)}"
            )
    return {name: known[name] for name in names}


def _plan(chosen, options):
    """Yield case, round and subject of all processes in order, A B A B in a case."""
    wanted = options.subjects.split(",") if options.subjects else None
    for name, case in chosen.items():
        once = options.quick or case.kind == "largest_batch"
        for round_ in range(1, 1 + (1 if once else options.rounds)):
            for subject in (*case.subjects, *case.optional):
                if subject in wanted if wanted else subject in case.subjects:
                    yield name, round_, cases.SUBJECTS[subject]


def _batches(case):
    """Yield the batch of each process: one, or doubled until the memory is full."""
    batch = case.sizes.get("batch")
    yield batch
    while case.kind == "largest_batch" and batch < case.sizes.get("stop_at", 2**16):
        batch *= 2
        yield batch


def _run_unit(unit, batch, subject, options, path, data, compiled):
    """Run a process and keep its records; return why it failed, or `None`."""
    request = {
        "set": data["set"],
        "case": unit["case"],
        "subject": subject.name,
        "device": options.device,
        "steps": options.steps,
    }
    sizes = request["sizes"] = {} if batch is None else {"batch": batch}
    preset = data["cases"][unit["case"]]["sizes"].get("preset")
    if preset and not subject.ours:
        sizes["arguments"] = preset_arguments(subject.library)[preset]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker", json.dumps(request)],
        cwd=Path(__file__).parents[1],
        env={
            **environment_of(subject, options.device),
            # Processes of this run share what they compile; other runs don't see it.
            "KERAS_QKFORMER_CACHE": str(compiled),
            "TORCHINDUCTOR_CACHE_DIR": str(compiled / "torch"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    late = threading.Event()
    timer = threading.Timer(options.timeout, lambda: (late.set(), process.kill()))
    timer.start()
    said, count = "", len(unit["records"])
    try:
        with process:
            for line in process.stdout:
                if line.startswith(MARK):
                    unit["records"].append(json.loads(line.removeprefix(MARK)))
                    _write(path, data)
                else:
                    print(line, end="", file=sys.stderr, flush=True)
                    said = line.strip() or said
    finally:
        timer.cancel()
    if late.is_set():
        return f"took more than {options.timeout:.0f} s"
    if process.returncode:
        return f"exit status {process.returncode}: {said[-300:]}"
    return None if len(unit["records"]) > count else "it measured nothing"


@functools.cache
def preset_arguments(backend):
    """Return the arguments of all presets, as a dict by name.

    Another process looks them up, so that this one need not import Keras.

    Args:
        backend: str. An installed backend of Keras.

    Raises:
        CalledProcessError: if that process fails.
    """
    code = (
        "import json; from keras_qkformer.models import PRESETS; "
        "print(json.dumps({name: p.arguments for name, p in PRESETS.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _write(path, data):
    """Replace the file in one step, so that an interruption can't damage it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)


def _show(path, data):
    print(report.markdown(data))
    try:
        figures = report.plot(data, path.parent, path.stem)
    except ImportError as error:
        figures = []
        print(f"no figures: {error}", file=sys.stderr)
    for written in (path, *figures):
        print(written)


if __name__ == "__main__":
    sys.exit(main())

"""Kill a study at random moments, and compare its results with one left alone.

    export PYTHONPATH=tests
    KERAS_BACKEND=torch nice python tests/fuzz/study_kills.py --kills 20 --seconds 0

A study of two variants and two evaluations is killed, goes on, is killed
again, and so on until it ends. Then its file of results must be that of the study left
alone, but for what names a run (command, commit), and its folder must hold the same
files. After each kill, what is finished must be whole, and stay as it is. Processes
are forks of this one, as in `kills.py`.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import fuzzing
from fuzz.kills import OVERRIDES, ROOT, save_start, start

STUDY = """
from keras_qkformer.training.study import Evaluation, Study

FEW = ["preset={preset}", *{overrides}, "optimizer.epochs=2"]
study = Study(
    question="Does a kill change anything?",
    plan="It must not.",
    variants={{
        "slow": ["{recipe}", *FEW],
        "fast": ["{recipe}", *FEW, "optimizer.learning_rate=0.02"],
    }},
    seeds=1,
    evaluations={{
        "by_class": Evaluation(order="by_class", batch_size=8),
        "alone": Evaluation(batch_size=1),
    }},
    comparisons=[("slow", "fast"), ("fast", "fast@by_class")],
)
"""


def run(study, workdir):
    """Run the command; the status is its own."""
    from keras_qkformer.cli.main import main

    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        sys.exit(main(["study", str(study), "--workdir", str(workdir)]))


def outcome(workdir):
    """What must not differ: results without what names the run, and the files."""
    found = json.loads((workdir / "study.json").read_text())
    named = ("command", "versions", "machine", "commit")
    for one in found["runs"]:
        for name in named:
            del one[name]
    return found | {
        "files": sorted(
            str(path.relative_to(workdir))
            for path in workdir.rglob("*")
            if "logs" not in path.relative_to(workdir).parts
        )
    }


def finished(workdir):
    """When each finished training was written, and that its files are whole."""
    for path in workdir.rglob("*.json"):
        if not any(part.startswith("partial-") for part in path.parts):
            json.loads(path.read_text())
    return {p: p.stat().st_mtime_ns for p in workdir.glob("*/*/results.json")}


def main(arguments=None):
    """Kill, compare, and print what happened; the exit status is 1 for a difference."""
    parser = fuzzing.arguments_of_all()
    parser.add_argument("--kills", type=int, default=1)
    arguments = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        import keras
        import numpy as np

        import keras_qkformer.training.study_runs  # noqa: F401

        random = np.random.default_rng(arguments.seed)
        folder = Path(folder)
        preset, study = folder / "preset", folder / "rates.py"
        start(save_start, preset, arguments.seed).join()
        recipe = ROOT / "recipes" / "digits.py"
        study.write_text(
            STUDY.format(recipe=recipe, preset=preset, overrides=[*OVERRIDES])
        )
        start(run, study, folder / "first").join()  # Fills the caches of compilers.
        begin = time.monotonic()
        start(run, study, folder / "whole").join()
        whole = time.monotonic() - begin
        wanted = outcome(folder / "whole")
        print(f"{whole:.1f} s without a kill", flush=True)
        kills = compared = differing = 0
        workdir, end = folder / "0", time.monotonic() + arguments.seconds
        kept, ended = {}, False
        while not ended:
            process = start(run, study, workdir)
            if kills < arguments.kills or time.monotonic() < end:
                process.join(random.uniform(0, whole))
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
            process.join()
            now = finished(workdir)
            if kept.items() - now.items():
                print(f"changed: {sorted(map(str, kept.items() - now.items()))}")
                return 1
            kept = now
            if process.exitcode == 0:
                found = outcome(workdir)
                names = [k for k in {*found, *wanted} if found.get(k) != wanted.get(k)]
                compared += 1
                differing += bool(names)
                print(f"{kills} kills; differing: {sorted(names) or 'nothing'}")
                if "files" in names:
                    print({*found["files"]} ^ {*wanted["files"]})
                workdir, kept = folder / str(compared), {}
                ended = kills >= arguments.kills and time.monotonic() > end
            elif process.exitcode != -signal.SIGKILL:
                raise RuntimeError(f"a study ended with status {process.exitcode}")
            sys.stdout.flush()
    print(
        f"{keras.backend.backend()}: {kills} kills in {compared} studies, {differing} "
        f"differ; seed {arguments.seed}"
    )
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())

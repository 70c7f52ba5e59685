"""Kill trainings at random moments, and compare them with one that was left alone.

    export PYTHONPATH=tests
    KERAS_BACKEND=jax nice python tests/fuzz/kills.py --kills 20 --seconds 0

A training is killed, goes on, is killed again, and so on until it ends; then every
weight, optimizer state, metric and score must be bit for bit that of the training left
alone. Half of the kills come at any time of a process, half while it trains. All
processes are forks of this one, so that libraries are imported once. There are
`--kills`, and then more until `--seconds` have passed.

`--blow term` sends SIGTERM instead; `--blow full` fills the disk, which must be small:

    unshare -m sh -c 'mount -t tmpfs -o size=64m none /mnt &&
      TMPDIR=/mnt python tests/fuzz/kills.py --blow full'
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import fuzzing

ROOT = Path(__file__).parents[2]
OVERRIDES = (
    "model.dropout=0.3",
    "data.train=train[:64]",
    "data.validation=train[96:112]",
    "data.test=test[:16]",
    "data.batch_size=16",
    "optimizer.epochs=3",
    "optimizer.average_decay=0.5",
)


def start(function, *arguments):
    """Start a function in a process of its own and return the process."""
    process = multiprocessing.get_context("fork").Process(
        target=function, args=arguments
    )
    process.start()
    return process


def save_start(folder, seed):
    """Save a model whose neurons fire, to start from."""
    import keras
    from saved_presets import save_preset

    keras.utils.set_random_seed(seed)
    save_preset(folder)


def train(preset, workdir):
    """Train the digits; the status is 2 if a file could not be written."""
    from keras_qkformer.training.fit import fit
    from keras_qkformer.training.recipe import load_recipe

    recipe = ROOT / "recipes" / "digits.py"
    try:
        fit(load_recipe(recipe, [f"preset={preset}", *OVERRIDES]), workdir, verbose=0)
    except OSError as error:
        print(f"told: {error}", flush=True)
        sys.exit(2)


def begun(process, workdir):
    """Wait until a process trains or ends; return the seconds that this took."""
    begin, before = time.monotonic(), time.time()
    recipe = workdir / "recipe.json"
    while process.is_alive():
        if recipe.is_file() and recipe.stat().st_mtime >= before:
            break
        time.sleep(0.02)
    return time.monotonic() - begin


def fill(path):
    """Write a file until the disk is full."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def outcome(workdir):
    """Everything that must not differ, by name."""
    import h5py
    import numpy as np

    found = {}
    state = json.loads((workdir / "checkpoints" / "state.json").read_text())
    for path in (
        workdir / "checkpoints" / state["weights"],
        workdir / "best" / "model.weights.h5",
    ):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item, path=path: found.update(
                    {f"{path.name}/{name}": item[()].tobytes()}
                    if isinstance(item, h5py.Dataset)
                    else {}
                )
            )
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    timed = ("images_per_second", "seconds", "learning_rate")
    metrics = [json.loads(line) for line in lines]
    results = json.loads((workdir / "results.json").read_text())
    with np.load(workdir / "examples.npz") as examples:
        found["logits"] = examples["logits"].tobytes()
    return found | {
        "state": {k: v for k, v in state.items() if k not in ("sha256", "digests")},
        "metrics": [{k: v for k, v in m.items() if k not in timed} for m in metrics],
        **{name: results[name] for name in ("test", "best", "history")},
        "files": sorted(
            str(path.relative_to(workdir))
            for path in workdir.rglob("*")
            if "logs" not in path.relative_to(workdir).parts
        ),
    }


def main(arguments=None):
    """Kill, compare, and print what happened; the exit status is 1 for a difference."""
    parser = fuzzing.arguments_of_all()
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--blow", choices=("kill", "term", "full"), default="kill")
    arguments = parser.parse_args(arguments)
    number = {"kill": signal.SIGKILL, "term": signal.SIGTERM}.get(arguments.blow)
    ends = (2,) if number is None else (-number, 128 + number)
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(dir="/tmp") as compiled,
    ):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
        os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
        import keras
        import numpy as np

        import keras_qkformer.training.fit  # noqa: F401

        random = np.random.default_rng(arguments.seed)
        folder, preset = Path(folder), Path(folder) / "preset"
        start(save_start, preset, arguments.seed).join()
        start(train, preset, folder / "first").join()  # Fills the caches of compilers.
        process = start(train, preset, folder / "whole")
        setup, begin = begun(process, folder / "whole"), time.monotonic()
        process.join()
        training = time.monotonic() - begin
        wanted = outcome(folder / "whole")
        print(f"{setup:.1f} s of set-up, {training:.1f} s of training", flush=True)
        kills = compared = differing = 0
        workdir, end = folder / "0", time.monotonic() + arguments.seconds
        while kills < arguments.kills or process.exitcode or time.monotonic() < end:
            process = start(train, preset, workdir)
            if kills < arguments.kills or time.monotonic() < end:
                seconds = random.uniform(0, setup + training)
                if random.random() < 0.5:
                    begun(process, workdir)
                    seconds = random.uniform(0, training)
                process.join(seconds)
                if process.is_alive():
                    if number is None:
                        fill(folder / "filler")
                    else:
                        os.kill(process.pid, number)
                    kills += 1
            process.join()
            (folder / "filler").unlink(missing_ok=True)
            if process.exitcode == 0:
                found = outcome(workdir)
                names = [k for k in {*found, *wanted} if found.get(k) != wanted.get(k)]
                compared += 1
                differing += bool(names)
                workdir = folder / str(compared)
                print(f"{kills} kills; differing: {sorted(names) or 'nothing'}")
            elif process.exitcode not in ends:
                raise RuntimeError(f"a training ended with status {process.exitcode}")
            sys.stdout.flush()
    print(
        f"{keras.backend.backend()}: {kills} times {arguments.blow} in {compared} "
        f"trainings, {differing} differ; seed {arguments.seed}"
    )
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())

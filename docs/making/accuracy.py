"""The table of accuracies: what a source reports, what was measured here, and why."""

import json
import math
import statistics
from pathlib import Path

from keras_qkformer.presets.published import PRESETS
from keras_qkformer.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
# Folder of `weights` -> what differs from the source.
TRAINED = {
    "cifar10": "16 of 410 epochs, batches of 256 at twice the rate, no mixup; JPEG "
    "files; 2 % of the images choose the epoch, in the source the test images do; "
    "every image starts at rest",
    "cifar10_small": "no source: a third of the parameters, 2 time steps, 7 epochs",
    "digits": "no source",
    "dvs_digits": "no source: digits before a simulated event camera",
}
# Recipe -> (preset, why it was not run).
NOT_RUN = {
    "cifar100": ("qkformer_4_384_cifar100", "hours of a GPU"),
    "dvs128_gesture": (
        "qkformer_2_256_dvs128_gesture",
        "hours of a GPU, and recordings that one must ask for",
    ),
    "cifar10_dvs": ("qkformer_2_256_cifar10_dvs", "hours of a GPU, and the recordings"),
    "imagenet_10_384": ("qkformer_10_384_imagenet", "4 days of 8 GPUs, as reported"),
    "imagenet_10_512": ("qkformer_10_512_imagenet", "days of 8 GPUs"),
    "imagenet_10_768": ("qkformer_10_768_imagenet", "12 days of 8 GPUs, as reported"),
}


def accuracies():
    """Return the table of all weights that were trained here, with their sources."""
    lines = [
        "| model, data | reported, % | measured, % | difference | why |",
        "|---|--:|--:|--:|---|",
    ]
    for name, why in TRAINED.items():
        data = json.loads((ROOT / "weights" / name / "metadata.json").read_text())
        preset = PRESETS[data["preset"]]
        reported = preset.reported if data["parameters"] == preset.parameters else None
        test = data["test"]
        measured = 100 * test["accuracy"]
        cells = ("-", "-")
        if reported:
            cells = (f"{reported:.2f}", f"{measured - reported:+.1f}")
        lines.append(
            f"| `{data['preset']}` as [`weights/{name}`](../weights.md) | {cells[0]} | "
            f"{measured:.2f} ± {100 * half_width(test):.2f} | {cells[1]} | {why} |"
        )
    for recipe, (preset, why) in NOT_RUN.items():
        reported = f"{PRESETS[preset].reported:.2f}"
        what = f"`{preset}`, `recipes/{recipe}.py`"
        lines.append(f"| {what} | {reported} | not run | - | needs {why} |")
    return "\n".join(lines)


def whole_schedule():
    """Say how long the whole schedule on CIFAR-10 would take on a GPU."""
    path = max((ROOT / "benchmarks" / "results").glob("*-cifar10.json"))
    data = json.loads(path.read_text())
    seconds = statistics.median(one["seconds"] for one in data["log"])
    settings = load_recipe(ROOT / "recipes" / "cifar10.py").optimizer
    epochs = settings.epochs + settings.cooldown_epochs
    return (
        f"and goes on after any interruption. On {data['hardware'].split(' (')[0]} an "
        f"epoch took {seconds:.1f} s, with batches of 256, so {epochs} such epochs "
        f"take {epochs * seconds / 3600:.1f} hours there; with the recipe's batches of "
        "64 it was not measured."
    )


def half_width(test):
    """Half of the 95 % interval of an accuracy, by the number of test examples.

    By Wilson, 1927, which holds near 100 % too.
    """
    p, n, z = test["accuracy"], test["examples"], 1.959964
    return z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))

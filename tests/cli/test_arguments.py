"""Every option of every command reaches the function of the library that it is for.

The functions are replaced by recorders. What a command passes is compared whole, with
every option off its default: an option that is accepted and ignored shows.
"""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from report_example import make_record

from keras_qkformer import convert, files, predict, predict_live, provenance, trained
from keras_qkformer import predict as predict_module
from keras_qkformer.analysis import analyze, profile
from keras_qkformer.analysis.figures import confusion, events, images, spikes, training
from keras_qkformer.analysis.figures import study as study_figures
from keras_qkformer.analysis.report import gallery, inside, tables, write
from keras_qkformer.cli.main import main
from keras_qkformer.data import service
from keras_qkformer.data.images import digits
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.recordings import moving_digits, prepare
from keras_qkformer.events import recording as events_recording
from keras_qkformer.events.event_array import make_events
from keras_qkformer.manifest import is_trusting
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.models.preset import PRESETS
from keras_qkformer.predict import Answer
from keras_qkformer.presets import addresses
from keras_qkformer.presets import folders as preset_files
from keras_qkformer.presets import upload as preset_upload
from keras_qkformer.serving import check, client, export
from keras_qkformer.training import (
    evaluate,
    fit,
    input_pipeline,
    keep_weights,
    model_data,
    rate_finder,
    recipe_table,
    schedules,
    study_runs,
    tensorboard,
)
from keras_qkformer.training import workdir as training_workdir
from keras_qkformer.training.recipe import Data, Optimizer, Recipe, from_dict, to_dict
from keras_qkformer.training.study import Study

pytestmark = pytest.mark.backend_independent

RECIPE = Recipe(
    preset="qkformer_tiny",
    model={"embed_dim": 16},
    data=Data(
        name="digits",
        train="train[:64]",
        validation="train[64:96]",
        test="test[:32]",
        batch_size=32,
    ),
    optimizer=Optimizer(
        epochs=7,
        learning_rate=1e-3,
        warmup_epochs=3,
        cooldown_epochs=2,
        accumulation_steps=3,
    ),
    seed=5,
)
VARIANTS = {"long": ["optimizer.epochs=70"]}
STUDY = Study(question="Which?", plan="p", variants={"only": ["recipe.py"]}, seeds=1)
STUDY_RUN = {
    "variant": "only",
    "seed": 0,
    "scores": {"test": {"accuracy": 0.75, "correct": 3, "examples": 4, "loss": 1.0}},
}
STUDY_TABLE = """\
| | seeds | accuracy, % | 95 % interval | by seed |
|---|---|---|---|---|
| only | 1 | 75.00 | - | 75.0 |
"""
SCORES = {
    "accuracy": 0.8,
    "loss": 0.6,
    "examples": 7,
    "top5_accuracy": 0.9,
    "calibration_error": 0.1,
    "per_class": dict.fromkeys("abcdef"),
}
SCORED = "accuracy 0.8000, loss 0.6000 (7 examples), top-5 0.9000, calibration error"
LEFT_OUT = {"a/b.jpg": "not a whole JPEG"}
DAMAGED = (
    "left out: a/b.jpg: not a whole JPEG\n"
    "keras-qkformer: 1 damaged image left out; data.strict=true makes that an error\n"
)
NAMES = ["cat", "ant", "bee", "dog"]
RESULTS = {
    "best": {"epoch": 3, "val_accuracy": 0.75},
    "test": {
        **SCORES,
        "confusion": {
            "cat": {"cat": 2},
            "ant": {"ant": 1, "bee": 3},  # And no bee was taken for an ant.
            "bee": {"bee": 1},
            "dog": {},
        },
        "per_class": dict.fromkeys(NAMES),
    },
    "test_split": "test[:7]",
    "history": {"loss": [2.0, 1.0]},
    "damaged_images": 1,
}
TRAINED = trained.TrainedModel(
    model="the model",
    class_names=NAMES,
    preprocessing=Preprocessing((1, 2), (0.5,), (0.25,)),
    metadata={},
    folder=Path("w"),
)
EXAMPLES = {
    "images": np.array([[[[255], [0]]], [[[0], [0]]]], "uint8"),
    "labels": np.array([1, 0]),
}
EVENTS = make_events(
    t=[10_000, 11_500, 11_600, 13_000, 15_499, 15_500, 100_000],
    x=[0, 1, 2, 3, 1, 0, 4],
    y=[0, 1, 0, 2, 1, 0, 1],
    p=[1, 0, 1, 1, 0, 1, 0],
)
FOUND = {
    "preset": None,
    "source": {"file": "w.pth"},
    "entry": "state_dict_ema",
    "other_entries": ["model", "\x1b[2J"],
    "parameters": 1234,
    "arguments": {"embed_dim": 32, "num_heads": 4},
    "assumed": {"num_heads": {"value": 4, "because": "given"}},
    "unused": ["last_neuron"],
}
FOUND_LINES = """\
w.pth (entry state_dict_ema): no published preset
the file has weights in model too: --entry model
the file has weights in \\x1b[2J too: --entry \\x1b[2J
1,234 parameters
by names and shapes: embed_dim=32
assumed num_heads=4: given
without effect, kept to be written back: last_neuron
"""
ANSWERS = [
    Answer("two.png", np.array([0.2, 0.5, 0.3, 0.0])),
    Answer("one.png", np.array([0.7, 0.05, 0.05, 0.2])),
]
FUNCTION = "a function that is not the default"


class Server:
    """What `serve_dispatcher` and `serve_worker` return."""

    def join(self):
        print("joined")


class LiveAnswers(list):
    """What `predict_live` returns."""

    def __init__(self):
        first, second = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.4, 0.0]])
        super().__init__(
            [
                predict_live.LiveAnswer(12.5, first, 1.25, 2.5, 0),
                predict_live.LiveAnswer(37.5, second, 2.5, 4.5, 1),
            ]
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def summary(self):
        counts = {"triggers": 3}
        return predict_live.LiveSummary(2, 1, 5000, counts, "DAT", 3.5, 4.5, "idle", "")


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that a command makes, and what it gets for it.

    Attributes:
        place: module, or class, in which the function is replaced.
        name: str. Of the function.
        arguments: dict of all its arguments, those not passed with their defaults.
        result: what the recorder returns, or an exception that it raises.
    """

    place: Any
    name: str
    arguments: Mapping
    result: Any = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A command line and what comes of it.

    Attributes:
        line: str. The command line, without `keras-qkformer`.
        calls: list of `Call`, in order.
        output: str. All of standard output, or with `...` in front its end.
        errors: str. All of standard error.
        status: int. What the command returns.
    """

    line: str
    calls: list
    output: str = ""
    errors: str = ""
    status: int = 0


def changed(optimizer=None, data=None, **fields):
    """The recipe with other values."""
    return dataclasses.replace(
        RECIPE,
        optimizer=dataclasses.replace(RECIPE.optimizer, **optimizer or {}),
        data=dataclasses.replace(RECIPE.data, **data or {}),
        **fields,
    )


def fit_row(line, workdir, recipe, **arguments):
    """A training that Ctrl-C ends."""
    defaults = {
        "verbose": "auto",
        "devices": "auto",
        "mesh": None,
        "hosts": None,
        "data_service": None,
    }
    wanted = {"recipe": recipe, "workdir": workdir, **defaults, **arguments}
    return Row(
        line,
        [Call(fit, "fit_and_load", wanted, KeyboardInterrupt())],
        errors="\nkeras-qkformer: interrupted; the same command goes on after the last "
        f"whole epoch in {workdir}\n",
        status=130,
    )


UPLOAD = preset_upload.Upload(
    "hf://me/a",
    Path("runs/a"),
    "mit",
    "# A\n",
    {"README.md": 3, "model.weights.h5": 1_234_567},
)


def agreement(neurons, flips, difference):
    """What an export tells of one function, as far as the command prints it."""
    return {
        "neurons": neurons,
        "flips": flips,
        "largest_difference": difference,
        "same_top1": 2,
        "examples": 3,
    }


def fetched(address, folder):
    wanted = {"address": address, "revision": None}
    return Call(addresses, "fetch", wanted, Path(folder))


def recording(source, **arguments):
    """The call that reads `EVENTS`."""
    defaults = {
        "name": None,
        "orientation": "jaer",
        "sensor_size": (34, 34),
        "time_unit": None,
        "columns": None,
        "strict": True,
        "ordered": True,
        "max_gap_us": events_recording.MAX_GAP_US,
        "details": None,
    }
    wanted = {"source": source, **defaults, **arguments}
    return Call(events_recording, "read_recording", wanted, EVENTS)


# The date is that of the day without this.
RAN = {"command": "c", "versions": {}, "machine": "m", "commit": None, "date": "d"}


def analysed(name):
    """The record of a model without results of a training."""
    return {
        "model": {"class_names": NAMES, "name": name},
        "curves": None,
        "settings": {"seed": 5},
        **RAN,
    }


def analysis_calls(workdir, source=None, split=None, overrides=()):
    """The calls that measure a model and look into its first examples."""
    labels = np.array([1, 1, 0, 1])
    batches = [np.arange(3.0), np.arange(3.0, 4.0)]
    found = model_data.ModelData(
        "digits", "test", labels, lambda: iter(batches), LEFT_OUT, {"seed": 5}
    )
    given = {"source": source, "split": split, "overrides": list(overrides)}
    return [
        Call(
            trained,
            "load_trained",
            {"folder": workdir, "trust": False, "revision": None},
            TRAINED,
        ),
        Call(
            model_data,
            "model_data",
            {"trained": TRAINED, "workdir": workdir, **given},
            found,
        ),
        Call(
            analyze,
            "analyze",
            {
                "trained": TRAINED,
                "batches": ANY,
                "labels": labels,
                "source": "digits",
                "split": "test",
                "device": "45nm_float32",
                "conventions": ANY,
            },
            {"model": {"class_names": NAMES}},
        ),
        Call(provenance, "provenance", {}, RAN),
        # The first example of each class in the first batch.
        Call(
            inside,
            "look_inside",
            {"trained": TRAINED, "inputs": [0.0, 2.0], "labels": [1, 0]},
            "inside",
        ),
    ]


def summarized(line, calls, output, errors=""):
    """A summary of two layers, one in the other."""
    layer = SimpleNamespace(_trainable_variables=[np.zeros((3, 4))])
    model = SimpleNamespace(
        _flatten_layers=lambda: [layer],
        input_shape=(None, 8, 6, 1),
        backbone=SimpleNamespace(time_steps=2),
    )
    loaded = [
        Call(
            trained,
            "find_trained",
            {"folder": "runs/a", "revision": None},
            Path("runs/a/best"),
        ),
        Call(
            SpikingClassifier,
            "from_preset",
            {
                "preset": "runs/a/best",
                **{"weights": None, "trust": False, "preprocess": False},
                "revision": None,
            },
            model,
        ),
        Call(
            profile,
            "summarize",
            {"model": model, "batch_size": 1},
            [profile.LayerSummary(**each, call=None) for each in LAYERS],
        ),
    ]
    return Row(line, [*loaded, *calls(model)], output, errors)


LAYERS = [
    {
        **{"path": "block", "depth": 0, "parameters": 1200, "macs": 1_234_567},
        **{"activation_bytes": 1024, "weight_bytes": 40},
    },
    {
        **{"path": "block/unit", "depth": 1, "parameters": 12, "macs": 0},
        **{"activation_bytes": 512, "weight_bytes": 0},
    },
]


def timed(seconds, share):
    return {"seconds": seconds, "roofline_share": share, "limit": "bytes"}


PROFILED = {
    **{"backend": "jax", "precision": "float32", "batch_size": 3, "repeats": 2},
    "layers": [
        {**LAYERS[0], **timed(0.002, 0.5)},
        {**LAYERS[1], **timed(0.001, 1.25)},
    ],
    "together": timed(0.002, 0.5),
    "whole": timed(0.0016, 0.625),
    "machine": {
        **{"macs_per_s": 5.04e10, "by": "convolution", "bytes_per_s": 9.66e9},
    },
}
SUMMARIZED = {
    "model": "runs/a",
    "parameters": 12,
    "input_shape": [8, 6, 1],
    "time_steps": 2,
    "layers": LAYERS,
}


def frames(shape, *places):
    """Frames with one event at each of these places."""
    array = np.zeros(shape, "float32")
    for place in places:
        array[place] += 1
    return array


SMOKE = {
    "optimizer": {"epochs": 2, "warmup_epochs": 1, "cooldown_epochs": 0},
    "max_steps": 2,
}
COUNT = len([*(Path(__file__).parents[2] / "recipes").glob("*.*")])
SAMPLES = f"""\
d: 2 of 2 files written
d/recipes: {COUNT} of {COUNT} files written
d/weights/cifar10_small: 4 of 4 files written
d/weights/digits: 4 of 4 files written
d/weights/dvs_digits: 4 of 4 files written
try: keras-qkformer predict d/weights/digits d/seven.png
"""
ROWS = [
    summarized(
        "summary runs/a --json",
        lambda _: [Call(provenance, "provenance", {}, RAN)],
        json.dumps({**SUMMARIZED, **RAN}) + "\n",
    ),
    summarized(
        "summary runs/a --profile --batch-size 3 --repeats 2",
        lambda model: [
            Call(
                profile,
                "profile",
                {"model": model, "batch_size": 3, "repeats": 2},
                PROFILED,
            )
        ],
        """\
layer            parameters     MACs, M   moved, KB          ms    roofline
block                 1,200       1.235         1.0       2.000       50.0%
  unit                   12       0.000         0.5       1.000      125.0%
layers together       1,200       1.235         1.0       2.000       50.0%
whole model                                               1.600       62.5%

Of one example; moved: what convolutions and products read and write.
Times are those of a batch of 3 on jax in float32, median of 2 calls in turns.
Each layer was compiled and called alone: their sum differs from the whole by
+25%. Roofline: the least time over that measured, by this machine's 50.4 G
MACs/s (convolution) and 9.7 GB/s (copy). Above 100 %: data that stay in the
cache.
""",
        "compiling and timing 2 layers, each alone\n",
    ),
    fit_row("fit recipe.py", "runs/recipe", RECIPE),
    fit_row(
        "fit recipe.py:long --workdir w --set seed=3 --set data.batch_size=8 "
        "--mesh data=2,model=4 --data-service grpc://host:5050",
        "w",
        changed({"epochs": 70}, {"batch_size": 8}, seed=3),
        mesh="data=2,model=4",
        data_service="grpc://host:5050",
    ),
    fit_row(
        "fit recipe.py --hosts host:5051,3,2 --set seed=3 --devices 2",
        "runs/recipe",
        changed(seed=3),
        devices=2,
        hosts="host:5051,3,2",
    ),
    fit_row("fit recipe.py --smoke", "runs/recipe_smoke", changed(**SMOKE)),
    fit_row(
        "fit recipe.py:long --set seed=3 --smoke",
        "runs/recipe_long_smoke",
        changed(**SMOKE, seed=3),
    ),
    fit_row("fit recipe.py --workdir w --smoke", "w", changed(**SMOKE)),
    Row(
        "fit recipe.py:long --find-lr --set seed=3",
        [
            Call(
                rate_finder,
                "find_rate",
                {"recipe": changed({"epochs": 70}, seed=3), "steps": 100},
                ([0.1, 0.2], [2.0, 1.0], 0.0125),
            ),
            Call(
                training,
                "plot_rate_sweep",
                {
                    "rates": [0.1, 0.2],
                    "losses": [2.0, 1.0],
                    "suggestion": 0.0125,
                    "path": "runs/recipe_long_find_lr.png",
                },
                "drawn.png",
            ),
        ],
        "drawn.png\ntry --set optimizer.learning_rate=0.013 (the recipe has 0.001)\n",
    ),
    Row(
        "fit recipe.py --workdir w",
        [
            Call(
                fit,
                "fit_and_load",
                fit_row("", "w", RECIPE).calls[0].arguments,
                (RESULTS, TRAINED),
            ),
            Call(training_workdir, "read_damaged", {"workdir": "w"}, LEFT_OUT),
            Call(
                training,
                "plot_training",
                {"history": {"loss": [2.0, 1.0]}, "path": "w/figures/training.png"},
                "training.png",
            ),
            Call(
                confusion,
                "plot_confusion_matrix",
                {
                    "labels": [0, 0, 1, 1, 1, 1, 2],
                    "predictions": [0, 0, 1, 2, 2, 2, 2],
                    "class_names": NAMES,
                    "path": "w/figures/confusion_matrix.png",
                },
                "confusion.png",
            ),
            Call(
                spikes,
                "plot_spikes",
                {
                    "model": "the model",
                    "image": [[[2.0], [-2.0]]],
                    "path": "w/figures/spikes.png",
                    "class_names": NAMES,
                    "label": 1,
                },
                "spikes.png",
            ),
            Call(
                tensorboard,
                "log_results",
                {
                    "workdir": "w",
                    "recipe": RECIPE,
                    "results": RESULTS,
                    "figures": ["training.png", "confusion.png", "spikes.png"],
                },
            ),
        ],
        "best epoch 3 by validation accuracy 0.7500\n"
        # Of four classes, the right one is always among five.
        f"test[:7]: {SCORED.replace(' top-5 0.9000,', '')} 0.1000\n"
        "training.png\nconfusion.png\nspikes.png\n",
        DAMAGED,
    ),
    Row(
        "evaluate runs/a --split train[90%:] --recipe recipe.py:long --set seed=3 "
        "--json e/e.json --membrane-state batch",
        [
            Call(
                evaluate,
                "evaluate",
                {
                    "workdir": "runs/a",
                    "split": "train[90%:]",
                    "recipe": changed({"epochs": 70}, seed=3),
                    "membrane_state": "batch",
                    "report_damaged": FUNCTION,
                },
                SCORES,
            ),
            Call(
                training_workdir,
                "write_scores",
                {"path": "e/e.json", "scores": SCORES, "split": "train[90%:]"},
                "e/e.json",
            ),
        ],
        f"train[90%:]: {SCORED} 0.1000\ne/e.json\n",
        DAMAGED,
    ),
    Row(
        "evaluate https://host/a --membrane-state sample",
        [
            fetched("https://host/a", "cache/a"),
            Call(training_workdir, "read_recipe", {"workdir": "cache/a"}, RECIPE),
            Call(
                evaluate,
                "evaluate",
                {
                    "workdir": "cache/a",
                    "split": "test[:32]",
                    "recipe": RECIPE,
                    "membrane_state": "sample",
                    "report_damaged": FUNCTION,
                },
                SCORES,
            ),
        ],
        f"test[:32]: {SCORED} 0.1000\n",
        DAMAGED,
    ),
    Row(
        "analyze runs/a --data recipe.py:long --split test[:3] --set seed=3 --out r",
        [
            *analysis_calls("runs/a", "recipe.py:long", "test[:3]", ["seed=3"]),
            Call(
                gallery,
                "gallery",
                {"inside": "inside", "class_names": NAMES},
                "examples",
            ),
            Call(
                write,
                "write_report",
                {"folder": "r", "record": analysed("a"), "examples": "examples"},
                [Path("r/report.html"), Path("r/report.json")],
            ),
        ],
        "r/report.html\n",
        f"analysing 4 examples of digits with runs/a\n{DAMAGED}r/report.json\n",
    ),
    Row(
        "analyze --compare kept https://host/a --out r --table paper",
        [
            fetched("https://host/a", "cache/a"),
            *analysis_calls("cache/a"),
            Call(
                tables,
                "paper_table",
                {"records": [make_record(), analysed("a")]},
                "| a |\n",
            ),
            Call(
                write,
                "write_comparison",
                {"folder": "r", "records": [make_record(), analysed("a")]},
                [Path("r/report.html")],
            ),
        ],
        "| a |\nr/report.html\n",
        f"analysing 4 examples of digits with https://host/a\n{DAMAGED}",
    ),
    Row(
        "lr-plot recipe.py:long --out r.pdf --set optimizer.epochs=1 "
        "--set optimizer.learning_rate=0.5",
        [
            Call(
                schedules,
                "make_schedule",
                {
                    "settings": changed({"epochs": 1, "learning_rate": 0.5}).optimizer,
                    "steps_per_epoch": 150,
                },
                lambda batches: 2 * batches,
            ),
            Call(
                training,
                "plot_learning_rate",
                {
                    # One epoch and two of the cool-down.
                    "epochs": np.arange(450) / 150,
                    "rates": np.arange(0, 900, 2),
                    "path": "r.pdf",
                },
                "drawn.pdf",
            ),
        ],
        "drawn.pdf\n",
    ),
    Row(
        "recipes others",
        [Call(recipe_table, "recipe_table", {"folder": "others"}, "| a |\n")],
        "| a |\n",
    ),
    Row(
        "study two.py --set seed=3 --workdir w --out o.json --minutes 2.5",
        [
            Call(
                study_runs,
                "run_study",
                {
                    "study": STUDY,
                    "recipes": {("only", 0): changed(seed=0)},
                    "folder": "w",
                    "minutes": 2.5,
                    "verbose": "auto",
                },
                [STUDY_RUN],
            ),
            Call(
                study_figures,
                "plot_study",
                {"summary": ANY, "path": "o.png", "title": "Which?"},
                "o.png",
            ),
        ],
        STUDY_TABLE + "o.json\no.png\n",
        "1 of 1 trainings are finished\n",
    ),
    Row(
        "keep runs/a --out weights/a",
        [
            Call(
                keep_weights,
                "keep_weights",
                {"workdir": "runs/a", "folder": "weights/a"},
                {**SCORES, "split": "test[:7]"},
            )
        ],
        f"test[:7]: {SCORED} 0.1000\nweights/a\n",
    ),
    Row(
        "upload runs/a hf://me/a --licence mit --private --report r.aedat",
        [
            Call(
                preset_upload,
                "prepare_upload",
                {
                    "address": "hf://me/a",
                    "folder": "runs/a",
                    "licence": "mit",
                    "report": "r.aedat",
                },
                UPLOAD,
            ),
            Call(
                preset_upload,
                "send",
                {"upload": UPLOAD, "private": True},
                "https://hub/me/a\x1b[2J",
            ),
        ],
        "https://hub/me/a\\x1b[2J\n",
        "            3 README.md\n"
        "    1,234,567 model.weights.h5\n"
        "    1,234,570 bytes to hf://me/a, licence mit, private\n"
        "metadata.json tells the recipe, with local paths, and the machine\n"
        "next: keras-qkformer predict hf://me/a FILE\n",
    ),
    Row(
        "upload runs/a kaggle://me/a/keras/b --dry-run",
        [
            Call(
                preset_upload,
                "prepare_upload",
                {
                    "address": "kaggle://me/a/keras/b",
                    "folder": "runs/a",
                    "licence": None,
                    "report": None,
                },
                dataclasses.replace(UPLOAD, address="kaggle://me/a/keras/b"),
            ),
        ],
        "# A\n",
        "            3 README.md\n"
        "    1,234,567 model.weights.h5\n"
        "    1,234,570 bytes to kaggle://me/a/keras/b, licence mit, private until you "
        "publish it on its page\n"
        "metadata.json tells the recipe, with local paths, and the machine\n"
        "nothing was sent; the card:\n",
    ),
    Row(
        "predict hf://owner/a two.png one.png --top 2",
        [
            fetched("hf://owner/a", "cache/a"),
            Call(
                predict,
                "predict_files",
                {
                    "folder": "cache/a",
                    "paths": ["two.png", "one.png"],
                    "batch_size": 32,
                },
                (NAMES, ANSWERS),
            ),
        ],
        "two.png\tant:0.5000\tbee:0.3000\none.png\tcat:0.7000\tdog:0.2000\n",
    ),
    Row(
        "predict hf://owner/a r.aedat one.png --top 2 --orientation spikingjelly "
        "--sensor-size 480x640 --time-unit s --columns txyp",
        [
            fetched("hf://owner/a", "cache/a"),
            Call(
                predict,
                "predict_files",
                {
                    "folder": "cache/a",
                    "paths": ["r.aedat", "one.png"],
                    "batch_size": 32,
                    "orientation": "spikingjelly",
                    "sensor_size": (480, 640),
                    "time_unit": "s",
                    "columns": "txyp",
                },
                (NAMES, ANSWERS),
            ),
        ],
        "two.png\tant:0.5000\tbee:0.3000\none.png\tcat:0.7000\tdog:0.2000\n",
    ),
    *(
        Row(
            f"predict hf://owner/a two.png one.png r.aedat --top 2 {option}",
            [
                fetched("hf://owner/a", "cache/a"),
                Call(
                    predict,
                    "predict_files",
                    {
                        "folder": "cache/a",
                        "paths": ["two.png", "one.png", "r.aedat"],
                        "batch_size": 32,
                    },
                    (NAMES, [*ANSWERS, Answer("r.aedat", None, "no image")]),
                ),
            ],
            output,
            "r.aedat: no image\n",
            status=1,
        )
        for option, output in (
            (
                "--json",
                '{"file": "two.png", "classes": [{"class": "ant", "probability": 0.5}, '
                '{"class": "bee", "probability": 0.3}]}\n'
                '{"file": "one.png", "classes": [{"class": "cat", "probability": 0.7}, '
                '{"class": "dog", "probability": 0.2}]}\n',
            ),
            (
                "--csv",
                "file,rank,class,probability\ntwo.png,1,ant,0.5\ntwo.png,2,bee,0.3\n"
                "one.png,1,cat,0.7\none.png,2,dog,0.2\n",
            ),
        )
    ),
    Row(
        "predict b a --url http://host:8501/v1/models/m --batch-size 3 --retries 2 "
        "--top 2 --timeout 9 --orientation spikingjelly",
        [
            Call(
                client,
                "expand_files",
                {"paths": ["b", "a"]},
                [Path("b/1.png"), Path("a")],
            ),
            Call(
                client.ServingClient,
                "__init__",
                {
                    "url": "http://host:8501/v1/models/m",
                    "timeout": 9,
                    "retries": 2,
                    "first_wait": 0.25,
                    "max_bytes": 16 << 20,
                },
            ),
            Call(
                client.ServingClient,
                "predict_files",
                {
                    "paths": ["b/1.png", "a"],
                    "batch_size": 3,
                    "orientation": "spikingjelly",
                },
                [
                    client.FileAnswer(
                        Path("b/1.png"), ["dog", "cat", "ant"], [0.5, 0.3, 0.2]
                    ),
                    client.FileAnswer(Path("a"), [], [], "no image"),
                ],
            ),
            Call(client.ServingClient, "close", {}),
        ],
        "b/1.png\tdog:0.5000\tcat:0.3000\n",
        "a: no image\n",
        status=1,
    ),
    Row(
        "predict https://host/a --stream r.aedat --frame-ms 12.5 "
        "--orientation spikingjelly --sensor-size 480x640 --time-unit s --columns txyp "
        "--top 2",
        [
            fetched("https://host/a", "cache/a"),
            Call(
                predict_module,
                "predict_stream",
                {
                    "folder": "cache/a",
                    "recording": "r.aedat",
                    "frame_ms": 12.5,
                    "orientation": "spikingjelly",
                    "sensor_size": (480, 640),
                    "time_unit": "s",
                    "columns": "txyp",
                },
                (
                    NAMES,
                    [
                        predict_module.FrameAnswer(
                            12.5, np.array([0.1, 0.2, 0.3, 0.4]), 1.25
                        ),
                        predict_module.FrameAnswer(
                            25.0, np.array([0.5, 0.1, 0.4, 0.0]), 2.5
                        ),
                    ],
                ),
            ),
        ],
        "12.5 ms\tdog:0.4000\tbee:0.3000\ttook 1.2 ms\n"
        "25.0 ms\tcat:0.5000\tbee:0.4000\ttook 2.5 ms\n"
        "r.aedat\tcat:0.5000\tbee:0.4000\n",
    ),
    Row(
        "predict https://host/a --stream r.aedat --follow --frame-ms 12.5 --drop "
        "--idle 3 --lenient --orientation spikingjelly --sensor-size 480x640 --top 2",
        [
            fetched("https://host/a", "cache/a"),
            Call(
                predict_live,
                "predict_live",
                {
                    "folder": "cache/a",
                    "source": "r.aedat",
                    "frame_ms": 12.5,
                    "drop": True,
                    "idle_s": 3.0,
                    "strict": False,
                    "orientation": "spikingjelly",
                    "sensor_size": (480, 640),
                },
                (NAMES, LiveAnswers()),
            ),
        ],
        "12.5 ms\tdog:0.4000\tbee:0.3000\ttook 1.2 ms, 2.5 ms after the last event\n"
        "37.5 ms\tcat:0.5000\tbee:0.4000\ttook 2.5 ms, 4.5 ms after the last event, "
        "1 dropped\n"
        "2 frames answered, 1 dropped, 5,000 events of DAT, 3 triggers skipped, 3.5 ms "
        "after the last event on average and 4.5 ms at most; nothing came for 3 s\n",
    ),
    Row(
        "export https://host/a --out o --format saved_model --weights int8 "
        "--batch-sizes 1,3 --top 2 --max-megapixels 0.5",
        [
            fetched("https://host/a", "cache/a"),
            Call(
                export,
                "export_saved_model",
                {
                    "folder": "cache/a",
                    "out": "o",
                    "weights": "int8",
                    "batch_sizes": (1, 3),
                    "top": 2,
                    "max_megapixels": 0.5,
                },
                Path("o/3"),
            ),
        ],
        "o/3\n",
        "next: keras-qkformer serve-check o\n",
    ),
    Row(
        "export runs/a --weights bfloat16",
        [
            Call(
                export,
                "export_saved_model",
                {
                    "folder": "runs/a",
                    "out": "saved_models/a",
                    "weights": "bfloat16",
                    "batch_sizes": (1, 2, 4, 8),
                    "top": 5,
                    "max_megapixels": 25.0,
                },
                Path("saved_models/a/1"),
            ),
        ],
        "saved_models/a/1\n",
        "next: keras-qkformer serve-check saved_models/a\n",
    ),
    Row(
        "export runs/a --format onnx --outputs spikes --out o",
        [
            Call(
                export,
                "export_portable",
                {
                    "folder": "runs/a",
                    "out": "o",
                    "format": "onnx",
                    "weights": "float32",
                    "outputs": "spikes",
                },
                {"stream": agreement(4000, 0, 2e-6), "model": agreement(7, 1, 1e-7)},
            ),
        ],
        "stream: 4,000 spikes compared with float64, 0 flipped by rounding; given the "
        "same spikes, logits differ by 2.0e-06; first class of 2 of 3 the same\n"
        "model: 7 spikes compared with float64, 1 flipped by rounding; given the "
        "same spikes, logits differ by 1.0e-07; first class of 2 of 3 the same\no\n",
        "next: run it; o/metadata.json names its classes\n",
    ),
    Row(
        "export https://host/a --format litert",
        [
            fetched("https://host/a", "cache/a"),
            Call(
                export,
                "export_portable",
                {
                    "folder": "cache/a",
                    "out": "saved_models/a.litert",
                    "format": "litert",
                    "weights": "float32",
                    "outputs": "logits",
                },
                {},
            ),
        ],
        "saved_models/a.litert\n",
        "next: run it; saved_models/a.litert/metadata.json names its classes\n",
    ),
    Row(
        "serve-check bundle --model runs/a --url grpc://host:8500/m --seconds 0.25",
        [
            Call(
                check,
                "serve_check",
                {
                    "bundle": "bundle",
                    "model": "runs/a",
                    "url": "grpc://host:8500/m",
                    "seconds": 0.25,
                },
                1,
            )
        ],
        status=1,
    ),
    Row(
        "data prepare cifar10_dvs --manual-dir m --data-dir d --lenient --any-files "
        "--config frames_t16_clean --config events",
        [
            Call(
                prepare,
                "prepare",
                {
                    "name": "cifar10_dvs",
                    "manual_dir": "m",
                    "data_dir": "d",
                    "configs": ["frames_t16_clean", "events"],
                    "strict": False,
                    "verify_files": False,
                    "progress": FUNCTION,
                },
                ([Path("d/b"), Path("d/a")], [("r.aedat", "ends early")]),
            )
        ],
        "d/b\nd/a\n",
        "r.aedat: ends early\n"
        "keras-qkformer: 1 damaged recording: the readable part was kept\n",
    ),
    Row(
        "data prepare dvs128_gesture --manual-dir m",
        [
            Call(
                prepare,
                "prepare",
                {
                    "name": "dvs128_gesture",
                    "manual_dir": "m",
                    "data_dir": None,
                    "configs": None,
                    "strict": True,
                    "verify_files": True,
                    "progress": FUNCTION,
                },
                ([], [("r.aedat", "ends early"), ("s.aedat", "is empty")]),
            )
        ],
        "",
        "r.aedat: ends early\ns.aedat: is empty\n"
        "keras-qkformer: error: 2 damaged recordings, nothing was built: replace the "
        "files and run the same command again, or keep the readable part with "
        "--lenient\n",
        status=1,
    ),
    Row(
        "data digits --out d --seed 4 --most 3",
        [
            Call(
                moving_digits,
                "write_moving_digits",
                {"folder": "d", "seed": 4, "most": 3},
                6,
            )
        ],
        "d: 6 recordings written\n",
    ),
    Row(
        "data digits --out d --images --most 3",
        [Call(digits, "write_digit_images", {"folder": "d", "most": 3}, 5)],
        "d: 5 images written\n",
    ),
    Row("samples --out d", [], SAMPLES),
    Row(
        "completion bash",
        [],
        "...complete -o bashdefault -F _shtab_keras_qkformer keras-qkformer\n",
    ),
    Row(
        "data serve --dispatcher 5051 --work-dir d",
        [
            Call(
                service,
                "serve_dispatcher",
                {"port": 5051, "work_dir": "d"},
                Server(),
            )
        ],
        "dispatcher is ready\njoined\n",
    ),
    Row(
        "data serve --worker grpc://host:5051 --address 10.0.0.2",
        [
            Call(
                service,
                "serve_worker",
                {"dispatcher": "grpc://host:5051", "address": "10.0.0.2"},
                Server(),
            )
        ],
        "worker is ready\njoined\n",
    ),
    Row(
        "data preview recipe.py --out p.pdf --count 12 --set seed=3 "
        "--set data.train=train[:48]",
        [
            Call(
                input_pipeline,
                "preview",
                {
                    "recipe": changed(data={"train": "train[:48]"}, seed=3),
                    "count": 12,
                    "report_damaged": FUNCTION,
                },
                ("the images", ["two 0.70\none 0.30", "one"]),
            ),
            Call(
                images,
                "plot_images",
                {
                    "images": "the images",
                    "captions": ["two 0.70\none 0.30", "one"],
                    "path": "p.pdf",
                    "columns": 8,
                    "title": "recipe: train[:48] after augmentation",
                },
                "drawn.pdf",
            ),
        ],
        "drawn.pdf\n"
        "numbers are the label's probabilities: an image mixed from two has a share of "
        "each, and label smoothing spreads the rest over all classes\n",
        DAMAGED,
    ),
    Row(
        "data benchmark recipe.py:long --seconds 0.25 --set seed=3 --input-only",
        [
            Call(
                input_pipeline,
                "benchmark",
                {
                    "recipe": changed({"epochs": 70}, seed=3),
                    "seconds": 0.25,
                    "report_damaged": FUNCTION,
                    "with_model": False,
                },
                {"read": 12345.4, "decode": 6.7},
            )
        ],
        "read         12,345 images/s  bytes of files, from the disk\n"
        "decode            7 images/s  + decoded to pixels\n",
        DAMAGED,
    ),
    Row(
        "data benchmark recipe.py",
        [
            Call(
                input_pipeline,
                "benchmark",
                {
                    "recipe": changed(),
                    "seconds": 10.0,
                    "report_damaged": FUNCTION,
                    "with_model": True,
                },
                {"augment": 1200.0, "train": 1300.0},
            )
        ],
        "augment       1,200 images/s  + augmented: all that training waits for\n"
        "train         1,300 images/s  training steps alone, on one batch in memory\n"
        "data come at 1,200 images/s, the model takes 1,300: it would starve; speed up "
        "the stage that costs most, or let other machines make batches (data serve)\n",
        DAMAGED,
    ),
    Row(
        "data show d/r.aedat --out c.png --kind cloud --start-ms 1.5 --duration-ms 4 "
        "--sensor-size 6x5 --time-unit ms --columns xypt",
        [
            recording("d/r.aedat", sensor_size=(6, 5), time_unit="ms", columns="xypt"),
            Call(
                events,
                "plot_event_cloud",
                {
                    # From 1500 up to 5500 microseconds after the first.
                    "events": EVENTS[1:5],
                    "path": "c.png",
                    "sensor_size": (6, 5),
                    "title": "r.aedat",
                    "most": 20_000,
                },
                "drawn.png",
            ),
        ],
        "drawn.png\n",
    ),
    Row(
        "data show d/r.aedat --kind cloud --start-ms 1.5 --duration-ms 4 "
        "--sensor-size 6x5",
        [
            recording("d/r.aedat", sensor_size=(6, 5)),
            Call(
                events,
                "plot_event_cloud",
                {
                    "events": EVENTS[1:5],
                    "path": "r_cloud.png",
                    "sensor_size": (6, 5),
                    "title": "r.aedat",
                    "most": 20_000,
                },
                "drawn.png",
            ),
        ],
        "drawn.png\n",
    ),
    Row(
        "data show r.aedat --out f.pdf --frames 2 --split-by number --start-ms 1.5 "
        "--duration-ms 4",
        [
            recording("r.aedat"),
            Call(
                events,
                "plot_event_frames",
                {
                    "frames": frames(
                        (2, 3, 4, 2),
                        (0, 1, 1, 0),
                        (0, 0, 2, 1),
                        (1, 2, 3, 1),
                        (1, 1, 1, 0),
                    ),
                    "path": "f.pdf",
                    "edges_us": [11_500, 13_000, 15_499],
                    "title": "r.aedat",
                },
                "drawn.pdf",
            ),
        ],
        "drawn.pdf\n",
    ),
    Row(
        "data show r.aedat --out a.gif --frames 3 --split-by time --start-ms 1.6",
        [
            recording("r.aedat"),
            Call(
                events,
                "animate_event_frames",
                {
                    "frames": frames(
                        (3, 3, 5, 2),
                        (0, 0, 2, 1),
                        (0, 2, 3, 1),
                        (0, 1, 1, 0),
                        (0, 0, 0, 1),
                        (2, 1, 4, 0),
                    ),
                    "path": "a.gif",
                    "frames_per_second": 10,
                    # A third of 88.4 ms, three times, and the last event.
                    "edges_us": [11_600, 41_066, 70_532, 100_000],
                    "title": "r.aedat",
                },
                "drawn.gif",
            ),
        ],
        "drawn.gif\n",
    ),
    Row(
        "convert d/w.pth --to keras --out o --preset qkformer_4_384_cifar10 "
        "--set num_heads=4 --set membrane_state=batch --entry state_dict_ema --verify",
        [
            Call(
                convert,
                "checkpoint_to_preset",
                {
                    "path": "d/w.pth",
                    "out": "o",
                    "preset": "qkformer_4_384_cifar10",
                    "options": {"num_heads": 4, "membrane_state": "batch"},
                    "entry": "state_dict_ema",
                    "verify": True,
                    "on_progress": None,
                },
                {**FOUND, "largest_difference": 2e-12},
            )
        ],
        f"{FOUND_LINES}"
        "largest difference of a logit to PyTorch, in float64: 2e-12\no\n",
        "next: keras-qkformer predict o IMAGE.png\n",
    ),
    Row(
        "convert d/w.pth",
        [
            Call(
                convert,
                "checkpoint_to_preset",
                {
                    "path": "d/w.pth",
                    "out": "d/w",
                    "preset": None,
                    "options": {},
                    "entry": None,
                    "verify": False,
                    "on_progress": None,
                },
                FOUND,
            )
        ],
        f"{FOUND_LINES}d/w\n",
        "next: keras-qkformer predict d/w IMAGE.png\n",
    ),
    Row(
        "convert d/w --to pytorch --out o.pth --verify",
        [
            Call(
                convert,
                "preset_to_checkpoint",
                {"folder": "d/w", "path": "o.pth", "verify": True},
                3e-13,
            )
        ],
        "largest difference of a logit to PyTorch, in float64: 3e-13\no.pth\n",
        "next: model.load_state_dict(torch.load('o.pth'))\n",
    ),
    Row(
        "convert d/w --to pytorch",
        [
            Call(
                convert,
                "preset_to_checkpoint",
                {"folder": "d/w", "path": "d/w.pth", "verify": False},
            )
        ],
        "d/w.pth\n",
        "next: model.load_state_dict(torch.load('d/w.pth'))\n",
    ),
    Row(
        "presets --json",
        [
            Call(
                addresses,
                "cached_presets",
                {},
                {[*PRESETS][-1]: [Path("c/two"), Path("c/one")]},
            ),
        ],
        '..."weights": ["c/two", "c/one"]}\n',
    ),
    Row(
        "presets",
        [
            Call(
                addresses,
                "cached_presets",
                {},
                {"qkformer_4_384_cifar10": [Path("c/two"), Path("c/one")]},
            ),
            Call(preset_files, "weights_folder", {}, Path("weights")),
            Call(preset_files, "kept_weights", {}, ["small", "digits"]),
            Call(files, "cache_folder", {}, Path("c")),
        ],
        "...weights trained here, in weights: small, digits\n"
        "weights in c:\nqkformer_4_384_cifar10\tc/two\nqkformer_4_384_cifar10\tc/one\n",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a recipe, and with the examples of a training in `w`."""
    folder = tmp_path_factory.mktemp("arguments")
    (folder / "two.py").write_text(
        "from keras_qkformer.training.study import Study\n"
        "study = Study(question='Which?', plan='p', variants={'only': ['recipe.py']}, "
        "seeds=1)\n"
    )
    (folder / "recipe.py").write_text(
        f"from {from_dict.__module__} import from_dict\n"
        f"recipe = from_dict({to_dict(RECIPE)!r})\n"
        f"variants = {VARIANTS!r}\n"
    )
    for name in ("m", "others", "bundle", "w", "runs/a/best", "d/w"):
        (folder / name).mkdir(parents=True)
    for name in ("a", "b", "one.png", "two.png", "r.aedat", "d/r.aedat", "d/w.pth"):
        (folder / name).touch()
    np.savez(folder / "w" / "examples.npz", **EXAMPLES)
    (folder / "kept").mkdir()
    (folder / "kept" / "report.json").write_text(json.dumps(make_record()))
    return folder


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.line)
def test_command_passes_on_all_that_it_is_given(row, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    recorded = []
    for call in row.calls:
        recorder = make_recorder(call, recorded)
        monkeypatch.setattr(call.place, call.name, recorder)
    status = run(shlex.split(row.line), monkeypatch)
    output, errors = capsys.readouterr()
    assert (errors, status) == (row.errors, row.status)
    assert [name for name, _ in recorded] == [call.name for call in row.calls]
    for (_, arguments), call in zip(recorded, row.calls, strict=True):
        np.testing.assert_equal(arguments, dict(call.arguments))
    end = row.output.removeprefix("...")
    assert output == end or (end != row.output and output.endswith(end))


def run(arguments, monkeypatch):
    """Exit status of a command; one that runs in another process runs in this one."""
    processes = []

    class Process:
        def __init__(self, command, env, **_):
            processes.append((command, env))
            read, write = os.pipe()
            os.close(write)
            self.stderr = os.fdopen(read)

        def wait(self):
            self.stderr.close()
            return 0

    def exit_now(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", exit_now)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Process)
        patch.setattr(signal, "signal", lambda *_: None)
        status = main(arguments)
    if processes:
        ((command, env),) = processes
        for name in env.keys() - os.environ.keys():
            monkeypatch.setenv(name, env[name])
        with pytest.raises(SystemExit) as stop:
            main(command[command.index(arguments[0]) :])
        status = stop.value.code
    return status


def make_recorder(call, recorded):
    """A function that keeps its arguments by name and returns the call's result."""
    signature = inspect.signature(getattr(call.place, call.name))

    def record(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {}
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments.update(value)
            elif callable(value) and value is not parameter.default:
                arguments[name] = FUNCTION
                if name == "report_damaged":
                    value(LEFT_OUT)
            elif name != "self":
                arguments[name] = plain(value)
        recorded.append((call.name, arguments))
        if isinstance(call.result, BaseException):
            raise call.result
        return call.result

    return record


def plain(value):
    """A value in which a path is a str."""
    if isinstance(value, Path):
        return str(value)
    return [plain(item) for item in value] if isinstance(value, list) else value


def help_of(*command):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main([*command, "--help"])
    return output.getvalue()


def commands(*parents):
    """The names of all commands, as tuples such as `("data", "show")`."""
    for name in re.findall(r"^    ([a-z-]+)(?:\s|$)", help_of(*parents), re.M):
        if "positional arguments:\n  command\n" in help_of(*parents, name):
            yield from commands(*parents, name)
        else:
            yield (*parents, name)


def test_the_table_has_every_option_of_every_command():
    lines = [shlex.split(row.line) for row in ROWS]
    everything = list(commands())
    assert {("fit",), ("data", "show"), ("presets",)} <= set(everything)
    for command in everything:
        usage = help_of(*command).split("\n\n")[0]
        options = set(re.findall(r"--[a-z-]+", usage))
        given = {
            word
            for line in lines
            if tuple(line[: len(command)]) == command
            for word in line
        }
        assert given, f"ROWS has no row for the command {command}"
        # Of --import, tests/models/test_family.py makes sure; of --trust, a test below.
        missing = options - given - {"--backend", "--debug", "--import", "--trust"}
        assert not missing, (command, missing)
        assert ("--trust" in options) == (command in LOADING), command


LOADING = {
    *(
        ("fit",),
        ("study",),
        ("evaluate",),
        ("analyze",),
        ("summary",),
        ("keep",),
        ("predict",),
        ("export",),
        ("convert",),
    ),
    *(("serve-check",), ("data", "preview"), ("data", "benchmark")),
}
"""Commands that load weights, or make models of presets that are folders."""


def test_what_a_command_loads_is_trusted_if_it_is_told_so(monkeypatch, tmp_path):
    seen = []

    def keep(workdir, folder):
        seen.append(is_trusting())
        return {**SCORES, "split": "test"}

    monkeypatch.setattr(keep_weights, "keep_weights", keep)
    for options in ([], ["--trust"], []):
        assert main(["keep", str(tmp_path), "--out", "k", *options]) == 0
    assert seen == [False, True, False]


def test_backend_is_chosen_before_the_command_runs(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    seen = []

    def recipe_table_of(_):
        seen.append(os.environ["KERAS_BACKEND"])
        return ""

    monkeypatch.setattr(recipe_table, "recipe_table", recipe_table_of)
    for arguments in ([], ["--backend", "jax"], ["--backend", "torch"]):
        assert main(["recipes", *arguments]) == 0
    assert seen == ["tensorflow", "jax", "torch"]


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(ValueError, match=r"nowhere"):
        main(["evaluate", "nowhere", "--debug"])

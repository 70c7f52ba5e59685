"""What the families of `families.py` cost: operations, time, energy by each convention.

    python studies/families_cost.py runs/families docs/evidence/families_cost.json

analyses the first finished training of each variant on its test split. Time is that of
the processor for an example in a batch, the median of warm ones, the models in turns.
"""

import statistics
import sys
import time
from pathlib import Path

from keras_qkformer.analysis.analyze import analyze
from keras_qkformer.files import write_json
from keras_qkformer.models.loading import input_shape_of
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import RESULTS_FILE, load_trained
from keras_qkformer.training.setup import examples_for
from keras_qkformer.training.workdir import read_recipe

BATCH = 20
ROUNDS = 22
"""Predictions of each model; the first two, which compile, are not counted."""


def cost(workdir):
    """Analyse a training, and keep what a table needs.

    Returns:
        `(cost, predict)`: a dict, and a function that predicts one batch.
    """
    trained, recipe = load_trained(workdir), read_recipe(workdir)
    examples = examples_for(recipe, input_shape_of(trained.folder))
    examples.preprocessing = trained.preprocessing
    inputs, labels = examples.held_out(recipe.data.test)
    inputs = trained.prepared(inputs)
    batches = (inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH))
    report = analyze(trained, batches, labels=labels)
    cost = {
        "variant": workdir.parent.name,
        "training": workdir.name,
        "accuracy": report["data"]["accuracy"],
        "parameters": report["model"]["parameters"],
        "dense_macs": sum(one["dense_macs"] for one in report["operations"]),
        "twin_mj": report["energy"]["twin_mj"],
        "total_mj": {
            name: one["total_mj"]
            for name, one in report["energy"]["conventions"].items()
        },
        "device": report["energy"]["device"],
    }
    return cost, lambda: trained.model.predict_on_batch(inputs[:BATCH])


def add_times(found):
    """Add the processor time of a prediction to each cost, the models in turns."""
    times = [[] for _ in found]
    for _ in range(ROUNDS):
        for (_, predict), own in zip(found, times, strict=True):
            start = time.process_time()
            predict()
            own.append(time.process_time() - start)
    for (cost, _), own in zip(found, times, strict=True):
        cost["cpu_ms"] = 1e3 * statistics.median(own[2:]) / BATCH


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:])
    found = []
    for variant in sorted(folder.iterdir()):
        for results in sorted(variant.glob(f"*/{RESULTS_FILE}"))[:1]:
            found.append(cost(results.parent))
            print(found[-1][0])
    add_times(found)
    write_json(out, {"costs": [cost for cost, _ in found], **provenance()})

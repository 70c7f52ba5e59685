"""What the families of `families.py` cost: operations, and energy by every convention.

    python studies/families_cost.py runs/families docs/evidence/families_cost.json

analyses the first finished training of each variant on its test split.
"""

import sys
from pathlib import Path

from keras_qkformer.analysis.analyze import analyze
from keras_qkformer.files import write_json
from keras_qkformer.models.loading import input_shape_of
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import RESULTS_FILE, load_trained
from keras_qkformer.training.setup import examples_for
from keras_qkformer.training.workdir import read_recipe

BATCH = 20


def cost(workdir):
    """Analyse a training, and keep what a table needs."""
    trained, recipe = load_trained(workdir), read_recipe(workdir)
    examples = examples_for(recipe, input_shape_of(trained.folder))
    examples.preprocessing = trained.preprocessing
    inputs, labels = examples.held_out(recipe.data.test)
    inputs = trained.prepared(inputs)
    batches = (inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH))
    report = analyze(trained, batches, labels=labels)
    return {
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


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:])
    found = []
    for variant in sorted(folder.iterdir()):
        for results in sorted(variant.glob(f"*/{RESULTS_FILE}"))[:1]:
            found.append(cost(results.parent))
            print(found[-1])
    write_json(out, {"costs": found, **provenance()})

"""Do the same weights give the same predictions, wherever and however they run?

    python studies/neutral_exact.py runs/neutral/jax exact.json

takes the trainings of one variant of a study, here of `studies/neutral.py`, and
computes the logits of their test split in several ways, each in a process of its own:
on each backend in float32, on JAX in bfloat16, on JAX shared by four devices (one CPU
acts all four), one by one, and as a stream, frame by frame; and in float64 on
TensorFlow and PyTorch, where rounding hardly flips a spike. Counted are the predictions
that differ.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

BATCH = 40  # 360 test images are nine batches, and four devices share each.
# Way -> (backend, dtype policy).
WAYS = {
    "jax": ("jax", "float32"),
    "tensorflow": ("tensorflow", "float32"),
    "torch": ("torch", "float32"),
    "bfloat16": ("jax", "mixed_bfloat16"),
    "four_devices": ("jax", "float32"),
    "one_by_one": ("jax", "float32"),
    "stream": ("jax", "float32"),
    "tensorflow_float64": ("tensorflow", "float64"),
    "torch_float64": ("torch", "float64"),
}
PAIRS = (
    *(("jax", way) for way in WAYS if not way.endswith(("jax", "float64"))),
    ("tensorflow_float64", "torch_float64"),
)


def compute(way, folder, out):
    """Write the logits of all trainings in one of `WAYS`, and the labels."""
    import keras
    import numpy as np

    from keras_qkformer.models.loading import input_shape_of
    from keras_qkformer.trained import RESULTS_FILE, load_trained
    from keras_qkformer.training.distribution import choose_devices
    from keras_qkformer.training.setup import examples_for
    from keras_qkformer.training.workdir import read_recipe

    keras.config.set_dtype_policy(WAYS[way][1])
    devices = choose_devices(4 if way == "four_devices" else 1, None, BATCH)
    found = {}
    for results in sorted(Path(folder).glob(f"*/{RESULTS_FILE}")):
        workdir = results.parent
        with devices.scope({}):
            trained = load_trained(workdir)
            recipe = read_recipe(workdir)
            examples = examples_for(recipe, input_shape_of(trained.folder))
            pixels, labels = examples.held_out(recipe.data.test)
            inputs = trained.prepared(pixels)
            if way == "stream":
                logits = as_stream(trained, inputs)
            else:
                size = 1 if way == "one_by_one" else BATCH
                logits = trained.model.predict(inputs, batch_size=size, verbose=0)
        found |= {workdir.name: logits, f"{workdir.name} labels": labels}
    np.savez(out, **found)


def as_stream(trained, inputs):
    """Logits of images, each of which is shown at every time step."""
    import numpy as np

    step, rest = trained.stream()
    found = []
    for image in inputs:
        state = rest
        for _ in range(trained.model.backbone.time_steps):
            logits, state = step(image[None], state)
        found.append(logits[0])
    return np.array(found)


def compare(first, second):
    """Compare two dicts of logits, over all trainings."""
    import numpy as np

    seeds = [name for name in first if not name.endswith("labels")]
    a = np.stack([first[name].astype("float64") for name in seeds])
    b = np.stack([second[name].astype("float64") for name in seeds])
    labels = np.stack([first[f"{name} labels"] for name in seeds])
    return {
        "trainings": len(seeds),
        "predictions": labels.size,
        "changed_predictions": int((a.argmax(-1) != b.argmax(-1)).sum()),
        "changed_logits": int((a != b).any(-1).sum()),
        "largest_change_of_a_logit": float(abs(a - b).max()),
        "correct": [int((one.argmax(-1) == labels).sum()) for one in (a, b)],
    }


def main(folder, out):
    """Compute in all ways, compare, and write the counts."""
    import numpy as np

    from keras_qkformer.files import write_json
    from keras_qkformer.provenance import provenance

    with tempfile.TemporaryDirectory() as place:
        logits = {}
        for way, (backend, _) in WAYS.items():
            path = Path(place) / f"{way}.npz"
            flags = os.environ.get("XLA_FLAGS", "")
            if way == "four_devices":
                flags += " --xla_force_host_platform_device_count=4"
            subprocess.run(
                [sys.executable, __file__, folder, path, way],
                env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": flags},
                check=True,
            )
            logits[way] = dict(np.load(path))
    pairs = [
        {"first": a, "second": b, **compare(logits[a], logits[b])} for a, b in PAIRS
    ]
    write_json(out, {"pairs": pairs, **provenance()})
    for pair in pairs:
        print(*pair.values())


if __name__ == "__main__":
    folder, out, *way = sys.argv[1:]
    if way:
        compute(*way, folder, out)
    else:
        main(folder, out)

"""One subject on one case in one process: a JSON record per line on standard output.

    KERAS_BACKEND=jax python -m benchmarks.worker '{"set": "quick", "case": "neuron",
        "subject": "ours-jax", "device": "cpu", "steps": 3}'

`python -m benchmarks` starts these processes.
"""

import dataclasses
import importlib
import json
import os
import sys

from benchmarks import cases
from benchmarks.measure import Memory

MARK = "record: "


def main(request):
    """Run the tasks of a case; what they print themselves is left on standard output.

    Args:
        request: JSON text with the name of a `set` of cases, `case`, `subject`,
            `device`, `steps`, and perhaps `sizes` to add to those of the case or to
            take instead. A peer needs the `arguments` of a preset among them, which it
            could not look up without importing Keras into its memory.
    """
    request = json.loads(request)
    case = getattr(cases, request["set"].upper())[request["case"]]
    sizes = {**case.sizes, **request.get("sizes", {})}
    case = dataclasses.replace(case, sizes=sizes)
    subject = cases.SUBJECTS[request["subject"]]
    if request["device"] == "gpu" and not _sees_gpu(subject.library):
        raise ValueError(
            f"--device gpu needs a GPU that the library sees. Received: "
            f"{subject.library} sees none"
        )
    memory = Memory(request["device"], subject.library)
    module = importlib.import_module(
        "benchmarks.ours" if subject.ours else "benchmarks.peers"
    )
    try:
        for record in getattr(module, case.kind)(
            case, subject, request["steps"], memory
        ):
            print(MARK + json.dumps(record), flush=True)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(MARK + json.dumps({"out_of_memory": str(error)[:200]}), flush=True)


def _sees_gpu(library):
    if library == "torch":
        import torch

        return torch.cuda.is_available()
    if library == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def is_out_of_memory(error):
    """Whether a library says with this error that the device's memory is full."""
    text = f"{type(error).__name__} {error}".lower()
    signs = ("out of memory", "outofmemory", "resource_exhausted", "resourceexhausted")
    return any(sign in text for sign in signs)


def environment_of(subject, device):
    """Environment variables for the process of a subject."""
    variables = {
        **os.environ,
        "KERAS_BACKEND": subject.library,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if device == "cpu":
        variables.update(CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu")
    else:
        # Otherwise JAX and TensorFlow take the whole memory, and its peak says nothing.
        variables.update(
            XLA_PYTHON_CLIENT_PREALLOCATE="false", TF_FORCE_GPU_ALLOW_GROWTH="true"
        )
    return variables


if __name__ == "__main__":
    main(sys.argv[1])

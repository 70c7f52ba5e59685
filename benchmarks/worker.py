"""Measures one subject on one case, and prints a JSON record per line.

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
from benchmarks.exports import FORMATS
from benchmarks.measure import Memory

MARK = "record: "


def main(request):
    """Run the tasks of a case and print their records, each behind `MARK`.

    Args:
        request: str. JSON with the names of a `set` of cases, a `case`, a `subject` and
            a `device`, the number of timed `steps`, and optionally `sizes`, which
            override those of the case. Peers need the `arguments` of the preset in
            `sizes`, because looking them up would import Keras and take memory.

    Raises:
        ValueError: if the library sees no GPU, but should.
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
    name = "ours" if subject.ours else "peers"
    if subject.name in FORMATS:
        name = "exports"
    module = importlib.import_module(f"benchmarks.{name}")
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
    """Return whether an error means that the device's memory is full.

    Args:
        error: exception of TensorFlow, JAX or PyTorch.
    """
    text = f"{type(error).__name__} {error}".lower()
    signs = ("out of memory", "outofmemory", "resource_exhausted", "resourceexhausted")
    return any(sign in text for sign in signs)


def environment_of(subject, device):
    """Return the environment variables for the process of a subject.

    Args:
        subject: `Subject`.
        device: str. `"cpu"` or `"gpu"`.
    """
    variables = {
        **os.environ,
        "KERAS_BACKEND": subject.library,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if device == "cpu":
        variables.update(CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu")
    else:
        # By default JAX and TensorFlow allocate the whole memory, which hides the peak.
        variables.update(
            XLA_PYTHON_CLIENT_PREALLOCATE="false", TF_FORCE_GPU_ALLOW_GROWTH="true"
        )
    return variables


if __name__ == "__main__":
    main(sys.argv[1])

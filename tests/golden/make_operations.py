r"""Make operations.json: SpikingJelly's counts of every operation of small models.

    python -m venv /tmp/counters
    /tmp/counters/bin/pip install . torch loguru
    /tmp/counters/bin/pip install --no-deps spikingjelly==2.0.0
    KERAS_BACKEND=torch PYTHONPATH=.:tests /tmp/counters/bin/python \
        tests/golden/make_operations.py

The plain PyTorch models of `keras_qkformer.convert`, which share no code with our
layers, compute the logits of `*_small.npz` in float64, while the counters see every
call that PyTorch dispatches. Kept are, for each convolution and matrix product in the
order of the calls, its synaptic operations, MACs and FLOPs of the whole batch.
"""

import json
from pathlib import Path

import torch
from golden_models import SMALLS, Golden
from spikingjelly.activation_based.op_counter import (
    DispatchCounterMode,
    FlopCounter,
    MACCounter,
    SynOpCounter,
)

from keras_qkformer.convert.published_code import CODES
from keras_qkformer.models.preset import family_of

TARGET = Path(__file__).with_name("operations.json")
COUNTERS = (SynOpCounter, MACCounter, FlopCounter)
COUNTED = ("aten.convolution.default", "aten.mm.default", "aten.bmm.default")


def main():
    """Write the file."""
    # In its inference mode, PyTorch would dispatch composite operations as one.
    torch.inference_mode = torch.no_grad
    found = {name: counts(Golden(name, None)) for name in SMALLS}
    TARGET.write_text(json.dumps(found, indent=1) + "\n")
    for name, calls in found.items():
        totals = [sum(column) for column in zip(*calls, strict=True)]
        print(name, len(calls), totals)


def counts(golden):
    """Rows of synaptic operations, MACs and FLOPs, one for each call."""
    backbone = golden.model().backbone
    code = CODES[family_of(backbone).name]
    counters = [made() for made in COUNTERS]
    seen = [[] for _ in counters]
    for counter, kept in zip(counters, seen, strict=True):
        counter.count = watched(counter.count, kept)
    with DispatchCounterMode(counters):
        code.twin_logits(
            code.renamed(golden.weights), backbone.get_config(), golden.inputs
        )
    return [list(row) for row in zip(*seen, strict=True)]


def watched(count, kept):
    """A counter's `count` that keeps what it returns for convolutions and products."""

    def run(func, *args, **kwargs):
        value = count(func, *args, **kwargs)
        if str(func) in COUNTED:
            kept.append(value)
        return value

    return run


if __name__ == "__main__":
    main()

"""A small analysis, of any size and with any names, for tests of the report."""

import numpy as np

from keras_qkformer.analysis.attention import ChannelMask, TokenMaps, TokenMask
from keras_qkformer.analysis.report.inside import Inside

CONVENTIONS = ("qkformer", "spikingformer", "strict", "spikingjelly")
RULES = ("whole_numbers", "attention", "first_layer", "head", "biases", "padding")


def make_record(
    name="digits", layers=12, classes=10, steps=4, labelled=True, class_names=None
):
    """A record as `analysis.analyze` returns it; its numbers are made up."""
    random = np.random.default_rng(0)
    names = class_names or [f"class {i}" for i in range(classes)]
    operations = [
        {
            "path": f"stage{1 + i // 4}_block{1 + i % 4}/mlp/unit{i}",
            "kind": ("convolution", "product", "dense")[i % 3],
            "stage": f"stage{1 + i // 4}",
            "parameters": 1000 * i,
            "dense_macs": 1e6 * (i + 1),
            "dense_macs_with_bias": 1e6 * (i + 1) + 10,
            "synaptic_operations": 1e5 * (i + 1),
            "synaptic_operations_by_value": 2e5 * (i + 1) if i % 3 < 2 else None,
            "input_mean": 0.1 * i,
            "input_nonzero": 0.05,
            "input_max": float(i % 3 + 1),
            "input_is_binary": i % 3 == 0,
            "input_is_whole": i % 3 < 2,
            "rate_by_step": [0.1] * steps,
            "activation_bytes": 4096 * i,
            "outputs": 100 * i,
        }
        for i in range(layers)
    ]
    neurons = [
        {
            "path": f"stage{1 + i // 4}_block{1 + i % 4}/attention/query{i}",
            "count": 512,
            "rate": float(rate),
            "rate_by_step": [float(rate)] * steps,
            "rate_by_class": (
                {n: float(random.uniform()) for n in names} if labelled else None
            ),
            "rate_by_channel": random.uniform(size=16).tolist(),
            "max": 1.0,
            "dead": i % 3,
            "saturated": i % 2,
        }
        for i, rate in enumerate(random.uniform(0, 0.4, layers))
    ]
    energies = random.uniform(0, 0.1, (len(CONVENTIONS), layers))
    confusion = np.diag(np.full(len(names), 30))
    confusion[0, -1] = 4
    return {
        "format": 1,
        "model": {
            "name": name,
            "family": "qkformer",
            "preset": "qkformer_tiny",
            "parameters": 498_666,
            "time_steps": steps,
            "input_shape": [8, 8, 1],
            "class_names": names,
            "reported": {
                "accuracy_percent": 96.18,
                "source": "a paper",
                "note": "in its table 1",
            },
        },
        "data": {
            "source": "digits",
            "split": "test",
            "examples": 360,
            "accuracy": 0.9972 if labelled else None,
            "loss": 0.0123 if labelled else None,
            "confusion": confusion.tolist() if labelled else None,
            "accuracy_by_step": (
                np.linspace(0.8, 0.9972, steps).tolist() if labelled else None
            ),
        },
        "operations": operations,
        "neurons": neurons,
        "energy": {
            "unit": "mJ per example",
            "device": "45nm_float32",
            "device_source": "a keynote",
            "unit_costs_pj": {
                "mac": 4.6,
                "accumulate": 0.9,
                "byte": 24.96,
                "neuron_update": None,
            },
            "conventions": {
                convention: {
                    "name": convention,
                    "source": f"the source of {convention}",
                    "rules": {rule: f"{rule} as {convention} has it" for rule in RULES},
                    "total_mj": float(row.sum()),
                    "macs": 1e6,
                    "accumulates": 2e7,
                    "by_operation_mj": row.tolist(),
                }
                for convention, row in zip(CONVENTIONS, energies, strict=True)
            },
            "twin_mj": 1.5,
            "memory": {"bytes": 5e6, "mj": 0.12, "assumption": "every value once"},
            "neuron_updates": {"count": 40_000.0, "mj": None},
        },
        "curves": {"loss": [2.0, 1.0, 0.5], "val_accuracy": [0.3, 0.6, 0.9]},
        "settings": {"data.name": "digits", "seed": 0},
        "versions": {"keras_qkformer": "0.1.0", "backend": "tensorflow"},
        "command": "keras-qkformer analyze runs/digits --out report",
        "date": "2026-11-30",
    }


def make_inside(examples=2, steps=4, classes=10, events=False, labelled=True):
    """What `look_inside` returns, with made-up spikes, of every kind of attention."""
    random = np.random.default_rng(1)
    shape = (examples, steps, 32, 32, 2) if events else (examples, 8, 8, 1)
    odds = random.dirichlet(np.ones(classes), (examples, steps))
    spikes = random.uniform(size=(2, examples, steps, 4, 4, 2, 8)) < 0.3
    return Inside(
        pictures=random.poisson(0.4, shape).astype("float32"),
        labels=list(range(examples)) if labelled else None,
        probabilities=odds,
        attention={
            "stage1_block1/attention": TokenMask(
                random.integers(0, 2, (examples, steps, 8, 8, 4))
            ),
            "stage2_block1/attention": ChannelMask(
                random.integers(0, 2, (examples, steps, 64))
            ),
            "stage3_block1/attention": TokenMaps(*spikes.astype("float32"), 0.125),
        },
        activity={
            "stage1": random.uniform(size=(examples, steps, 8, 8)),
            "stage2": random.uniform(size=(examples, steps, 4, 4)),
        },
        rasters={
            f"stage1_block{i}/mlp": random.uniform(size=(examples, steps, 192)) < 0.2
            for i in range(5)
        },
    )

"""Compiles a training step for TPUs on a machine without one, and reports on it.

    python -m benchmarks.tpu_aot qkformer_4_384_cifar10 --batch-per-chip 64

Compiles forward pass, backward pass and AdamW of a preset, in Keras on JAX in mixed
bfloat16, for the chips of a topology that share each batch. Prints the compiler's
estimates of bytes, memory and operations as JSON. Nothing runs, so nothing is timed.
Needs `jax` and the `libtpu` of its release. `--topology local` compiles for the CPU or
GPU of this machine instead.
"""

import argparse
import gzip
import importlib.util
import json
import math
import os
import re
import signal
import sys
import time
from pathlib import Path

LOCAL = "local"
TPU = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    # libtpu would ask the TPU machine for these.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
)
ITEMSIZES = {
    **dict.fromkeys(("pred", "s8", "u8"), 1),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64"), 8),
}
# name = type operation(...): a tuple's type has spaces, an operation's name a dash.
INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][a-z-]*)\(")


def main(arguments=None):
    """Compile a preset's training step and print the report.

    Args:
        arguments: list of str, or `None` for `sys.argv[1:]`.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu_aot")
    parser.add_argument("preset", help="such as qkformer_4_384_cifar10")
    parser.add_argument("--batch-per-chip", type=int, default=64)
    parser.add_argument(
        "--image-size", type=int, help="pixels (default: as the preset)"
    )
    parser.add_argument(
        "--topology",
        default="v5e:2x2",
        help="TPU topology, or local for the devices here (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16"),
        default="mixed_bfloat16",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=1800,
        help="seconds after which the process is killed (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument(
        "--program",
        type=Path,
        help="file for the compiled program (.json.gz); if it exists, report on it and "
        "compile nothing",
    )
    arguments = parser.parse_args(arguments)
    os.environ.update({"KERAS_BACKEND": "jax"} if arguments.topology == LOCAL else TPU)
    kept = arguments.program
    if kept and kept.exists():
        compiled = json.loads(gzip.decompress(kept.read_bytes()))
    else:
        if arguments.topology != LOCAL and not importlib.util.find_spec("libtpu"):
            parser.error("the TPU compiler must be installed: pip install libtpu")
        # Python handlers don't run while the compiler works, so SIGALRM must end the
        # process by default.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(arguments.limit)
        compiled = compile_step(
            arguments.preset,
            arguments.batch_per_chip,
            arguments.image_size,
            arguments.topology,
            arguments.precision,
        )
        signal.alarm(0)
        if kept:
            kept.write_bytes(gzip.compress(json.dumps(compiled).encode()))
    text = json.dumps(report(compiled), indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def compile_step(preset, batch_per_chip, image_size, topology, precision):
    """Compile a training step.

    Args:
        preset: str. Name of a preset.
        batch_per_chip: int > 0. Examples per chip.
        image_size: int, in pixels, or `None` for that of the preset.
        topology: str. A TPU topology, such as `"v5e:2x2"`, or `"local"`.
        precision: str. Dtype policy of Keras.

    Returns:
        Dictionary with the arguments, the program as HLO text, the compiler's cost and
        memory analysis, and the environment.
    """
    import jax
    import keras
    from jax.experimental import topologies

    from benchmarks.measure import environment
    from keras_qkformer.models import SpikingClassifier

    # Before the compiler runs, because the checkout may change meanwhile.
    kind = jax.default_backend() if topology == LOCAL else "tpu"
    described = environment(f"{kind}, compiled only")
    keras.config.set_dtype_policy(precision)
    model = SpikingClassifier.from_preset(
        preset, **({"image_size": image_size} if image_size else {})
    )
    if topology == LOCAL:
        devices = jax.devices()
    else:
        devices = topologies.get_topology_desc(topology, "tpu").devices
    lowered = lower_step(model, devices, batch_per_chip)
    started = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - started
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "preset": preset,
        "image_size": model.input_shape[1],
        "topology": topology,
        "chip": devices[0].device_kind,
        "chips": len(devices),
        "batch_per_chip": batch_per_chip,
        "precision": precision,
        "compile_s": seconds,
        # Keys with braces describe single operands.
        "cost": {key: value for key, value in cost.items() if "{" not in key},
        "memory": {
            key: getattr(memory, key)
            for key in dir(memory)
            if isinstance(getattr(memory, key), int)
        },
        "program": compiled.as_text(),
        "environment": described,
    }


def lower_step(model, devices, batch_per_chip):
    """Trace the training step that `model.fit` runs on JAX, for these devices.

    Each device holds all variables and a part of the batch.

    Args:
        model: a `SpikingClassifier`.
        devices: list of JAX devices. They need not be present.
        batch_per_chip: int > 0. Examples per device.

    Returns:
        `jax.stages.Lowered`.
    """
    import jax
    import keras
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["sparse_categorical_accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    batch = batch_per_chip * len(devices)
    # Metrics create their variables when they see a batch.
    model.compute_metrics(
        None,
        np.zeros((2,), "int32"),
        np.zeros((2, model.num_classes), "float32"),
    )
    placed = keras.distribution.DataParallel(
        device_mesh=keras.distribution.DeviceMesh((len(devices),), ("batch",), devices)
    )
    mesh = placed.device_mesh.backend_mesh
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("batch"))

    def abstract(variables):
        return [
            jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=whole) for v in variables
        ]

    state = (
        abstract(model.trainable_variables),
        abstract(model.non_trainable_variables),
        abstract(model.optimizer.variables),
        abstract(model.metrics_variables),
    )
    images = jax.ShapeDtypeStruct(
        (batch, *model.input_shape[1:]), "float32", sharding=split
    )
    labels = jax.ShapeDtypeStruct((batch,), "int32", sharding=split)
    step = jax.jit(model.train_step, donate_argnums=0, out_shardings=whole)
    # Kernels are chosen by these devices, and split as they share a batch.
    with placed.scope():
        return step.lower(state, (images, labels))


def report(compiled):
    """Summarize a compiled step, in numbers per chip.

    `memory_per_chip` compares the compiler's memory with `analytic_bytes`
    (`analysis.operations.held_bytes`): the ratio shows the cost of wider types, padding
    and temporary values.

    Args:
        compiled: dict from `compile_step`.
    """
    from keras_qkformer.analysis.operations import held_bytes
    from keras_qkformer.models import SpikingClassifier

    batch, program = compiled["batch_per_chip"], compiled["program"]
    cost, memory = compiled["cost"], compiled["memory"]
    model = SpikingClassifier.from_preset(
        compiled["preset"], image_size=compiled["image_size"]
    )
    held = (
        memory["argument_size_in_bytes"]
        + memory["output_size_in_bytes"]
        - memory["alias_size_in_bytes"]
        + memory["temp_size_in_bytes"]
    )
    peak = memory.get("peak_memory_in_bytes")
    analytic = held_bytes(model, batch, itemsize=2)
    seconds = cost.get("optimal_seconds", -1)
    sizes = {math.prod(v.shape) for v in model.weights}
    kept = ("program", "cost", "memory", "environment")
    return {
        **{key: value for key, value in compiled.items() if key not in kept},
        "per_image": {
            "flops": cost["flops"] / batch,
            "bytes_accessed": cost["bytes accessed"] / batch,
            "temporary_bytes": memory["temp_size_in_bytes"] / batch,
        },
        "memory_per_chip": {
            "held_bytes": held,
            "peak_bytes": peak,
            "analytic_bytes": analytic,
            "peak_over_analytic": (peak or held) / analytic,
        },
        # The compiler adds up -1 for each unknown: no estimate then.
        "optimal_seconds": seconds if seconds > 0 else None,
        "estimated_cycles": estimated_cycles(program),
        "collectives": summarize(collectives(program), sizes),
        "largest_values": largest_values(program),
        "cost": cost,
        "memory": memory,
        "environment": compiled["environment"],
    }


def instructions(program):
    """Yield name, type, operation and line of every instruction of an HLO program.

    Args:
        program: str. HLO text.
    """
    for line in program.splitlines():
        if found := INSTRUCTION.match(line):
            yield *found.groups(), line


def arrays(type_text):
    """Return the element type and number of entries of every array in an HLO type.

    Args:
        type_text: str, such as `"(f32[2,3]{1,0}, s32[])"`.
    """
    return [
        (dtype, math.prod(int(n) for n in sizes.split(",") if n))
        for dtype, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", type_text)
        if dtype in ITEMSIZES
    ]


def size_in_bytes(found):
    """Return the bytes of arrays, without the padding of layouts.

    Args:
        found: list from `arrays`.
    """
    return sum(ITEMSIZES[dtype] * entries for dtype, entries in found)


def collectives(program):
    """Return every operation by which chips communicate.

    Args:
        program: str. HLO text.

    Returns:
        List of dictionaries with `kind`, `arrays` (of the result), and `source`, the
        operation of the model behind it.
    """
    found = []
    for _, type_text, operation, line in instructions(program):
        kind = operation.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        parts = arrays(type_text)
        if operation != kind and kind != "all-reduce":
            parts = parts[len(parts) // 2 :]  # The type names the operands first.
        source = re.search(r'op_name="([^"]*)"', line)
        source = source[1] if source else ""
        found.append({"kind": kind, "arrays": parts, "source": source})
    return found


def summarize(found, weight_sizes):
    """Count collectives and their bytes by kind, and list those that move activations.

    Args:
        found: list from `collectives`.
        weight_sizes: set of ints. Numbers of entries of the model's weights and
            statistics. A sum of an array of one of these sizes, or of a single number,
            sums a gradient, a statistic or a loss; any other collective moves
            activations.

    Returns:
        Dictionary from kind to `count`, `bytes` and `largest_bytes`, and `"others"`: a
        list of the collectives that move activations.
    """
    summary = {"others": []}
    for each in found:
        size = size_in_bytes(each["arrays"])
        kind = summary.setdefault(
            each["kind"], {"count": 0, "bytes": 0, "largest_bytes": 0}
        )
        kind["count"] += 1
        kind["bytes"] += size
        kind["largest_bytes"] = max(kind["largest_bytes"], size)
        sizes = {entries for _, entries in each["arrays"]}
        if each["kind"] != "all-reduce" or not sizes <= weight_sizes | {1}:
            summary["others"].append(each)
    return summary


def main_instructions(program):
    """Yield the instructions of the entry computation; each stands for one kernel.

    Args:
        program: str. HLO text.
    """
    return instructions(program[program.index("\nENTRY ") :])


def estimated_cycles(program):
    """Return the cycles by the compiler's cost model, which leaves out collectives.

    Args:
        program: str. HLO text.
    """
    estimates = (
        re.search(r'"estimated_cycles":"(\d+)"', line)
        for *_, line in main_instructions(program)
    )
    return sum(int(estimate[1]) for estimate in estimates if estimate)


def largest_values(program, count=10):
    """Return the type, bytes and source of the largest results of kernels.

    Args:
        program: str. HLO text.
        count: int > 0. Length of the list at most.
    """
    kernels = ("fusion", "copy", "convolution", "select-and-scatter", "pad")
    values = [
        {
            "bytes": size_in_bytes(arrays(type_text)),
            "type": re.sub(r"\{[^}]*\}", "", type_text),
            "source": (re.findall(r'op_name="([^"]*)"', line) or [""])[0],
        }
        for _, type_text, operation, line in main_instructions(program)
        if operation in kernels
    ]
    return sorted(values, key=lambda value: -value["bytes"])[:count]


if __name__ == "__main__":
    sys.exit(main())

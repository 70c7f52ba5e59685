"""What the TPU compiler makes of a training step, on a machine without a TPU.

    python -m benchmarks.tpu_aot qkformer_4_384_cifar10 --batch-per-chip 64

Compiles forward, backward and AdamW of a preset, Keras on JAX in mixed bfloat16, for
the chips of a topology with the batch split among them, and prints as JSON what the
compiler says of it. Needs `jax` and the `libtpu` of its release. Nothing runs: bytes,
memory and operations are the compiler's estimates, times are not among them.
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    # No TPU is there that could be asked for this.
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


def main(arguments=None):
    """Compile a preset's training step and print the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu_aot")
    parser.add_argument("preset", help="such as qkformer_4_384_cifar10")
    parser.add_argument("--batch-per-chip", type=int, default=64)
    parser.add_argument("--image-size", type=int, help="instead of that of the preset")
    parser.add_argument("--topology", default="v5e:2x2", help="default: %(default)s")
    parser.add_argument(
        "--limit",
        type=int,
        default=1800,
        help="seconds after which the process ends itself (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args(arguments)
    if importlib.util.find_spec("libtpu") is None:
        parser.error("the TPU compiler must be installed: pip install libtpu")
    # The compiler does not come back to Python, so no handler would be called: the
    # system ends the process.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(arguments.limit)
    os.environ.update(ENVIRONMENT)
    report = compile_step(
        arguments.preset,
        arguments.batch_per_chip,
        arguments.image_size,
        arguments.topology,
    )
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def compile_step(preset, batch_per_chip, image_size, topology):
    """Compile the step; a dictionary with what the compiler says.

    Args:
        preset: name of a preset.
        batch_per_chip: int > 0.
        image_size: int, or `None` for that of the preset.
        topology: name of a TPU topology, such as `"v5e:2x2"`.
    """
    import jax
    import keras
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from benchmarks.measure import environment
    from keras_qkformer import QKFormerClassifier

    keras.config.set_dtype_policy("mixed_bfloat16")
    model = QKFormerClassifier.from_preset(
        preset, **({"image_size": image_size} if image_size else {})
    )
    optimizer = keras.optimizers.AdamW(1e-4)
    optimizer.build(model.trainable_variables)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss_of(trainable, fixed, images, labels):
        logits, fixed = model.stateless_call(trainable, fixed, images, training=True)
        return cross_entropy(labels, logits), fixed

    def step(trainable, fixed, state, images, labels):
        (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, fixed, images, labels
        )
        trainable, state = optimizer.stateless_apply(state, gradients, trainable)
        return loss, trainable, fixed, state

    description = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    chips = len(description.devices)
    mesh = Mesh(description.devices, ("batch",))
    batch = batch_per_chip * chips

    def abstract(shape, dtype, *axes):
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def variables(of):
        return [abstract(v.shape, v.dtype) for v in of]

    lowered = jax.jit(step, donate_argnums=(0, 1, 2)).lower(
        variables(model.trainable_variables),
        variables(model.non_trainable_variables),
        variables(optimizer.variables),
        abstract((batch, *model.input_shape[1:]), "float32", "batch"),
        abstract((batch,), "int32", "batch"),
    )
    started = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - started
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "preset": preset,
        "topology": topology,
        "chips": chips,
        "batch_per_chip": batch_per_chip,
        "precision": "mixed_bfloat16",
        "compile_s": seconds,
        # The compiler's figures are those of one chip.
        "per_image": {
            "flops": cost["flops"] / batch_per_chip,
            "bytes_accessed": cost["bytes accessed"] / batch_per_chip,
            "temporary_bytes": memory.temp_size_in_bytes / batch_per_chip,
        },
        "per_chip": {
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "output_bytes": memory.output_size_in_bytes,
        },
        "collectives": count_collectives(compiled.as_text()),
        "environment": environment("tpu, compiled only"),
    }


def count_collectives(program):
    """How often each collective operation stands in an HLO program."""
    counts = {
        name: len(re.findall(rf"\s{name}(?:-start)?\(", program))
        for name in COLLECTIVES
    }
    return {name: count for name, count in counts.items() if count}


if __name__ == "__main__":
    sys.exit(main())

"""The cases and subjects of the benchmark, and their inputs.

A case is one comparison; a subject is a library as its users run it. Each subject of a
case runs in its own process.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A library in one configuration.

    Attributes:
        name: str. Its key in `SUBJECTS`.
        needs: packages that must be installed; without them it is left out.
        library: `"tensorflow"`, `"jax"` or `"torch"`: the library that computes.
        ours: bool. Whether it is keras_qkformer, on the Keras backend `library`.
        jit: `jit_compile` of Keras. If `True`, functions outside Keras are compiled
            too, by XLA or `torch.compile`.
        note: str. How it is configured, and how it differs from ours.
    """

    name: str
    needs: tuple
    library: str
    ours: bool = False
    jit: bool | str = "auto"
    note: str


_SUBJECTS = (
    Subject(
        name="machine",
        library="torch",
        needs=("torch",),
        note="matrix product, convolution, copy in PyTorch: what the machine can do",
    ),
    Subject(
        name="ours-tensorflow",
        library="tensorflow",
        needs=("tensorflow",),
        ours=True,
        note="keras_qkformer on TensorFlow, default settings",
    ),
    Subject(
        name="ours-tensorflow-xla",
        library="tensorflow",
        needs=("tensorflow",),
        ours=True,
        jit=True,
        note="keras_qkformer on TensorFlow, jit_compile=True",
    ),
    Subject(
        name="ours-jax",
        library="jax",
        needs=("jax",),
        ours=True,
        note="keras_qkformer on JAX, default settings (compiled)",
    ),
    Subject(
        name="ours-torch",
        library="torch",
        needs=("torch",),
        ours=True,
        note="keras_qkformer on PyTorch, default settings: on a GPU the step is one "
        "compiled program, on a CPU only the neurons are compiled",
    ),
    Subject(
        name="ours-torch-compile",
        library="torch",
        needs=("torch",),
        ours=True,
        jit=True,
        note="keras_qkformer on PyTorch, jit_compile=True; minutes to compile",
    ),
    Subject(
        name="ours-torch-eager",
        library="torch",
        needs=("torch",),
        ours=True,
        jit=False,
        note="keras_qkformer on PyTorch, jit_compile=False: only the neurons are "
        "compiled",
    ),
    Subject(
        name="ours-saved-model",
        library="tensorflow",
        needs=("tensorflow",),
        ours=True,
        note="keras_qkformer's export, as a server loads it: the signature "
        "predict_pixels or predict_frames, inference only",
    ),
    Subject(
        name="ours-openvino",
        library="tensorflow",
        needs=("tensorflow", "openvino"),
        ours=True,
        note="keras_qkformer's export for OpenVINO, in float32, inference only",
    ),
    Subject(
        name="ours-openvino-int8",
        library="tensorflow",
        needs=("tensorflow", "openvino"),
        ours=True,
        note="the same with weights of 8 bits, which are multiplied in 8 bits",
    ),
    Subject(
        name="spikingjelly",
        library="torch",
        needs=("torch", "spikingjelly"),
        note="SpikingJelly: LIFNode(step_mode='m') with our neuron's constants; "
        "qkformer_10_384 and sdt_8_384 as they come, spikformer_s with 8 blocks. On a "
        "GPU it chooses its own kernel",
    ),
    Subject(
        name="plain",
        library="torch",
        needs=("torch", "spikingjelly"),
        note="the same model layer by layer in PyTorch on SpikingJelly "
        "(benchmarks/peer_models.py, peer_relatives.py)",
    ),
    Subject(
        name="snntorch",
        library="torch",
        needs=("torch", "snntorch"),
        note="snnTorch: Leaky(beta=0.5, reset_mechanism='zero', sigmoid of slope 4) "
        "called step by step. It does not divide the input by tau, and fires above the "
        "threshold, not at it",
    ),
    Subject(
        name="spyx",
        library="jax",
        needs=("jax", "spyx"),
        note="spyx: nn.LIF(beta=0.5) in nn.run under jax.jit, the same surrogate. It "
        "resets by subtraction, one step late, with gradient through the reset, and "
        "does not divide the input by tau",
    ),
)
SUBJECTS = {subject.name: subject for subject in _SUBJECTS}

_OURS = ("ours-tensorflow", "ours-tensorflow-xla", "ours-jax", "ours-torch")
_MODELS = ("ours-tensorflow", "ours-jax", "ours-torch", "plain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        kind: `"machine"`, `"neuron"`, `"attention"`, `"model"`, `"served"` or
            `"largest_batch"`.
        title: str. Title of its tables and figures.
        subjects: names in `SUBJECTS`.
        optional: names in `SUBJECTS` that run only if `--subjects` names them, because
            they take minutes to compile.
        sizes: dict of the sizes that the kind needs.
        precision: `"float32"`, or `"bfloat16"` for mixed precision.
    """

    kind: str
    title: str
    subjects: tuple
    sizes: Mapping
    optional: tuple = ()
    precision: str = "float32"


def _model(preset, batch, *more_subjects, kind="model", **options):
    image_size = options.pop("image_size", None)
    size = f", {image_size} px" if image_size else ""
    start = "largest batch from" if kind == "largest_batch" else "batch"
    return Case(
        kind=kind,
        title=f"{preset}{size}, {start} {batch}, {options.get('precision', 'float32')}",
        subjects=(*_MODELS, *more_subjects),
        optional=("ours-tensorflow-xla", "ours-torch-compile", "ours-torch-eager"),
        sizes={"preset": preset, "batch": batch, "image_size": image_size},
        **options,
    )


def _served(preset, batch, peer):
    return dataclasses.replace(
        _model(preset, batch, kind="served"),
        subjects=("ours-saved-model", "ours-openvino", "ours-openvino-int8", peer),
        optional=(),
        title=f"{preset}, exported, batch {batch}",
    )


# `images` is batch times time steps, so that the size is the same for all of `steps`.
_NEURON = {"steps": (4, 16, 64), "images": 64, "shape": (64, 32, 32)}
_NEURON_SUBJECTS = (*_OURS, "spikingjelly", "snntorch", "spyx")
_ATTENTION = {"sides": (10, 50, 100, 200), "channels": 256}
_ATTENTION_SUBJECTS = (*_OURS, "plain")
_MATRIX = "matrix product, convolution and copy"

CPU = {
    "machine": Case(
        kind="machine",
        title=_MATRIX,
        subjects=("machine",),
        sizes={"matrix": 3072, "convolution": (16, 32, 192), "copy_mb": 256},
    ),
    "neuron": Case(
        kind="neuron",
        title="LIF neuron, (64 / T, T, 64, 32, 32)",
        subjects=_NEURON_SUBJECTS,
        sizes=_NEURON,
    ),
    "attention": Case(
        kind="attention",
        title="attention layers, C=256, T=1, batch 1, one head, inference",
        subjects=_ATTENTION_SUBJECTS,
        sizes=_ATTENTION,
    ),
    "qkformer_4_384_cifar10": _model("qkformer_4_384_cifar10", 8),
    "qkformer_2_256_cifar10_dvs": _model("qkformer_2_256_cifar10_dvs", 2),
    "qkformer_10_384_imagenet": _model(
        "qkformer_10_384_imagenet", 2, "spikingjelly", "ours-saved-model"
    ),
    "spikformer_4_384_cifar10": _model("spikformer_4_384_cifar10", 8),
    "spikformer_8_384_imagenet": _model("spikformer_8_384_imagenet", 2, "spikingjelly"),
    "spikingformer_8_384_imagenet": _model("spikingformer_8_384_imagenet", 2),
    "spike_driven_transformer_8_384_imagenet": _model(
        "spike_driven_transformer_8_384_imagenet", 2, "spikingjelly"
    ),
    **{
        f"served-{name}-{batch}": _served(name, batch, peer)
        for name, peer in (
            ("qkformer_10_384_imagenet", "spikingjelly"),
            ("qkformer_4_384_cifar10", "plain"),
            ("qkformer_2_256_cifar10_dvs", "plain"),
        )
        for batch in (1, 8)
    },
}

GPU = {
    "machine": Case(
        kind="machine",
        title=f"{_MATRIX}, bfloat16",
        subjects=("machine",),
        sizes={"matrix": 8192, "convolution": (256, 32, 512), "copy_mb": 4096},
        precision="bfloat16",
    ),
    "neuron": dataclasses.replace(
        CPU["neuron"],
        title="LIF neuron, (1024 / T, T, 64, 32, 32)",
        sizes={**_NEURON, "images": 1024},
    ),
    "attention": CPU["attention"],
    "qkformer_4_384_cifar10": _model(
        "qkformer_4_384_cifar10", 64, precision="bfloat16"
    ),
    "qkformer_2_256_cifar10_dvs": _model(
        "qkformer_2_256_cifar10_dvs", 16, precision="bfloat16"
    ),
    "qkformer_10_384_imagenet": _model(
        "qkformer_10_384_imagenet", 64, "spikingjelly", precision="bfloat16"
    ),
    **{
        name: _model(name, 64, *more, precision="bfloat16")
        for name, more in (
            ("spikformer_8_384_imagenet", ["spikingjelly"]),
            ("spikingformer_8_384_imagenet", []),
            ("spike_driven_transformer_8_384_imagenet", ["spikingjelly"]),
        )
    },
    "qkformer_10_512_imagenet": _model(
        "qkformer_10_512_imagenet", 64, precision="bfloat16"
    ),
    "qkformer_10_768_imagenet": _model(
        "qkformer_10_768_imagenet", 32, precision="bfloat16"
    ),
    "qkformer_10_768_imagenet-384": _model(
        "qkformer_10_768_imagenet", 8, image_size=384, precision="bfloat16"
    ),
    "largest-10_384": _model(
        "qkformer_10_384_imagenet",
        64,
        "spikingjelly",
        kind="largest_batch",
        precision="bfloat16",
    ),
    "largest-10_768": _model(
        "qkformer_10_768_imagenet", 16, kind="largest_batch", precision="bfloat16"
    ),
}

# Sizes that take seconds, to check that everything runs: not a measurement.
QUICK = {
    "machine": dataclasses.replace(
        CPU["machine"],
        sizes={"matrix": 256, "convolution": (2, 8, 16), "copy_mb": 4},
    ),
    "neuron": dataclasses.replace(
        CPU["neuron"],
        title="LIF neuron, small",
        sizes={"steps": (4,), "images": 8, "shape": (8, 8, 4)},
    ),
    "attention": dataclasses.replace(
        CPU["attention"],
        title="attention layers, small",
        sizes={"sides": (4, 8, 16), "channels": 16},
    ),
    "qkformer_tiny": _model(
        "qkformer_tiny", 4, "ours-saved-model", "ours-openvino-int8"
    ),
    "largest-tiny": dataclasses.replace(
        _model("qkformer_tiny", 4, kind="largest_batch"),
        # Two processes each: one of ours and one of the peers show that it runs.
        subjects=("ours-jax", "plain"),
        sizes={
            "preset": "qkformer_tiny",
            "batch": 4,
            "image_size": None,
            "stop_at": 8,
        },
    ),
}


def neuron_arrays(shape):
    """Return random input current, which makes part of the neurons spike, and gradient.

    Args:
        shape: ints. Shape of both arrays, float32.
    """
    random = np.random.default_rng(0)
    return tuple(random.normal(mean, 1.0, shape).astype("float32") for mean in (0.5, 0))

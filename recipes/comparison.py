"""All families at one size under the same settings, on digits, N-MNIST and CIFAR-10.

Papers compare families that were trained by different people with different settings.
Here each has about half a million parameters and 4 time steps. The transformers have
two blocks of attention (or another mixer) and MLP, 4x4 tokens in the last of them, 4
heads, and what else their presets for CIFAR-10 say; SEW ResNet has two blocks, the last
on 4x4 pixels, and integrate-and-fire neurons. Optimizer, schedule, augmentation and
seeds are the same for all; nothing was tuned, for any family. The trainings are short,
so they compare how families learn in minutes, not what they reach in the end. No paper
reports these models. Measured with three seeds, see `expected` of each variant: on the
digits the means of the families are from 97.0 to 98.7 %, on N-MNIST from 90 to 94 % of
100 recordings, on CIFAR-10 from 45.9 to 48.9 %, and the seeds of one family differ by
as much or nearly so. So this ranks no family.

    keras-qkformer fit recipes/comparison.py:spikformer_digits --workdir runs/spikformer
    keras-qkformer fit recipes/comparison.py:spikformer_nmnist --workdir runs/nmnist \
        --set data.data_dir=NMNISTsmall --set seed=1
    keras-qkformer fit recipes/comparison.py:spikformer_cifar10 --workdir runs/cifar10 \
        --set data.data_dir=cifar10.zip

A variant is named FAMILY_DATA; without one, the recipe is `qkformer_digits`. N-MNIST is
the subset of `nmnist.py`, CIFAR-10 a tenth of the files of `cifar10_small.py`. A
training costs 1 to 2 minutes of one core on the digits and N-MNIST and 7 on CIFAR-10.
Quick check: add `--smoke`.
"""

import json

from keras_qkformer.training.recipe import Data, Optimizer, Recipe

recipe = Recipe(
    preset="qkformer_4_384_cifar10",
    model={
        "image_size": 8,
        "in_channels": 1,
        "embed_dim": 128,
        "depths": [1, 1],
        "num_heads": 4,
    },
    data=Data(
        name="digits",
        train="train[:90%]",
        validation="train[90%:]",  # Chooses the epoch; test is used once, at the end.
        test="test",
        batch_size=16,
        max_shift=0.08,
        max_rotation=10,
        max_zoom=0.1,
    ),
    optimizer=Optimizer(
        epochs=5,
        learning_rate=2e-3,
        min_learning_rate=1e-5,
        warmup_epochs=1,
        weight_decay=0.05,
    ),
    label_smoothing=0.1,
    seed=0,
)

_DIGITS = {"image_size": 8, "in_channels": 1}
_EVENTS = {"image_size": 32, "in_channels": 2, "static": False}
_COLOUR = {"image_size": 32}
_DATA = {
    "digits": (_DIGITS, []),
    "nmnist": (
        _EVENTS,  # 34 pixels are resized to 32.
        [
            "optimizer.epochs=6",
            "data="
            + json.dumps(
                {
                    "name": "recordings",
                    "data_dir": "NMNISTsmall",
                    "sensor_size": [34, 34],
                    "train": "train1K[:90%]",
                    "validation": "train1K[90%:]",
                    "test": "test100",
                    "batch_size": 16,
                }
            ),
        ],
    ),
    "cifar10": (
        _COLOUR,
        [
            "optimizer.epochs=5",
            "data="
            + json.dumps(
                {
                    "name": "folder",
                    "data_dir": "cifar10.zip",
                    "train": "train[:10%]",
                    "validation": "train[98%:]",
                    "test": "test",
                    "batch_size": 16,
                    "image_augmentation": {
                        "flip": True,
                        "random_resized_crop": [0.6, 1.0],
                        "crop_ratio": [0.85, 1.18],
                        "interpolation": "bilinear",
                    },
                    "mean": [0.4914, 0.4822, 0.4465],
                    "std": [0.2470, 0.2435, 0.2616],
                }
            ),
        ],
    ),
}
# Two stages of 64 and 128 channels, or one of 112: as many parameters within 8 %.
_STAGES = {"embed_dim": 128, "depths": [1, 1], "num_heads": 4}
_CHAIN = {"embed_dim": 112, "depth": 2, "num_heads": 4}
_CHAIN_STEMS = {"reduction": 2}, {"reduction": 8}
# Preset, sizes, and what differs between the digits' 8 pixels and the others' 32.
_FAMILIES = {
    "qkformer": (
        "qkformer_4_384_cifar10",
        _STAGES,
        ({"family": "cifar"}, {"family": "imagenet"}),
    ),
    "spikformer": ("spikformer_4_384_cifar10", _CHAIN, _CHAIN_STEMS),
    "spikingformer": ("spikingformer_4_384_cifar10", _CHAIN, _CHAIN_STEMS),
    "spike_driven_transformer": (
        "spike_driven_transformer_2_256_cifar10",
        _CHAIN,
        _CHAIN_STEMS,
    ),
    "max_former": (
        "max_former_4_384_cifar10",
        {**_STAGES, "mixers": ["depthwise3", "self"]},
        ({"stem": "cifar"}, {"stem": "imagenet"}),
    ),
    "sew_resnet": (
        "sew_resnet_18_imagenet",
        {"depths": [1, 1], "num_classes": 10},
        (
            {"stem_width": None, "widths": [72, 144]},
            {"stem_width": 80, "widths": [80, 160]},
        ),
    ),
}

# Accuracy on the test split of the best epoch on the validation split, parameters, and
# the time of each training from its start to its scores.
_MEASURED = {
    "qkformer_digits": (
        "98.1 % top-1 of 360, the mean of 99.2, 97.5 and 97.5 with seeds 0, 1 and 2",
        498_666,
        "522, 209, 239 s",
    ),
    "spikformer_digits": (
        "97.3 % top-1 of 360, the mean of 97.2, 97.5 and 97.2 with seeds 0, 1 and 2",
        495_988,
        "136, 150 s",
    ),
    "spikingformer_digits": (
        "97.2 % top-1 of 360, the mean of 97.5, 98.1 and 96.1 with seeds 0, 1 and 2",
        495_316,
        "415, 147, 216 s",
    ),
    "spike_driven_transformer_digits": (
        "97.3 % top-1 of 360, the mean of 95.8, 99.2 and 96.9 with seeds 0, 1 and 2",
        495_316,
        "522, 82, 208 s",
    ),
    "max_former_digits": (
        "98.7 % top-1 of 360, the mean of 98.6, 98.9 and 98.6 with seeds 0, 1 and 2",
        486_698,
        "380, 149, 350 s",
    ),
    "sew_resnet_digits": (
        "97.0 % top-1 of 360, the mean of 96.1, 97.2 and 97.8 with seeds 0, 1 and 2",
        479_746,
        "97, 87, 107 s",
    ),
    "qkformer_nmnist": (
        "93.7 % top-1 of 100, the mean of 95.0, 95.0 and 91.0 with seeds 0, 1 and 2",
        535_946,
        "426, 103, 208 s",
    ),
    "spikformer_nmnist": (
        "91.0 % top-1 of 100, the mean of 91.0, 93.0 and 89.0 with seeds 0, 1 and 2",
        496_114,
        "356, 147, 149 s",
    ),
    "spikingformer_nmnist": (
        "91.7 % top-1 of 100, the mean of 93.0, 93.0 and 89.0 with seeds 0, 1 and 2",
        495_442,
        "314, 171, 147 s",
    ),
    "spike_driven_transformer_nmnist": (
        "91.0 % top-1 of 100, the mean of 94.0, 89.0 and 90.0 with seeds 0, 1 and 2",
        495_442,
        "372, 209, 145 s",
    ),
    "max_former_nmnist": (
        "90.3 % top-1 of 100, the mean of 93.0, 88.0 and 90.0 with seeds 0, 1 and 2",
        523_978,
        "188, 83, 57 s",
    ),
    "sew_resnet_nmnist": (
        "91.3 % top-1 of 100, the mean of 90.0, 90.0 and 94.0 with seeds 0, 1 and 2",
        484_490,
        "86, 86, 30 s",
    ),
    "qkformer_cifar10": (
        "47.5 % top-1 of 10,000, the mean of 47.3, 47.9 and 47.2 with seeds 0, 1 and 2",
        536_234,
        "489, 429, 1502 s",
    ),
    "spikformer_cifar10": (
        "47.2 % top-1 of 10,000, the mean of 47.2, 47.7 and 46.6 with seeds 0, 1 and 2",
        496_240,
        "817, 602, 489 s",
    ),
    "spikingformer_cifar10": (
        "48.9 % top-1 of 10,000, the mean of 47.5, 49.5 and 49.9 with seeds 0, 1 and 2",
        495_568,
        "1726, 575, 1381 s",
    ),
    "spike_driven_transformer_cifar10": (
        "45.9 % top-1 of 10,000, the mean of 46.1, 45.7 and 45.8 with seeds 0, 1 and 2",
        495_568,
        "922, 550, 492 s",
    ),
    "max_former_cifar10": (
        "46.9 % top-1 of 10,000, the mean of 46.4, 47.8 and 46.6 with seeds 0, 1 and 2",
        524_266,
        "651, 591, 911 s",
    ),
    "sew_resnet_cifar10": (
        "47.7 % top-1 of 10,000, the mean of 47.9, 47.7 and 47.3 with seeds 0, 1 and 2",
        488_410,
        "228, 311, 160 s",
    ),
}
_BUSY = (
    "JAX, 2 cores of an AMD EPYC VM busy with other work, 2026-11-30; "
    "benchmarks/results/2026-11-30-comparison.json"
)
_HOW = {
    "digits": _BUSY,
    "nmnist": _BUSY,
    "cifar10": (
        "JAX, a core of an Intel Xeon VM busy with other work, 2026-11-30; "
        "benchmarks/results/2026-11-30-comparison-photos.json"
    ),
}


def _expected(variant):
    accuracy, parameters, time = _MEASURED[variant]
    how = _HOW[variant.rpartition("_")[2]]
    text = f"{accuracy}; {parameters:,} parameters; {time}; {how}"
    return [f"expected.measured={text}"]


variants = {
    f"{family}_{data}": [
        f"preset={preset}",
        f"model={json.dumps({**pixels, **stems[data != 'digits'], **sizes})}",
        *changes,
        *_expected(f"{family}_{data}"),
    ]
    for family, (preset, sizes, stems) in _FAMILIES.items()
    for data, (pixels, changes) in _DATA.items()
}

r"""A small QKFormer on CIFAR-10 that trains in an hour on two CPU cores.

It trains on 48,000 of the 50,000 images, JPEG files `<split>/<class>/*` in a folder or
zip; the others choose the epoch. No paper reports this model: the stem of the ImageNet
models, three stages of 64, 128 and 256 channels with one block each, 2 time steps.
Measured: 75.2 %, see `expected`.

    keras-qkformer fit recipes/cifar10_small.py --workdir runs/cifar10_small \
        --set data.data_dir=cifar10.zip

Quick check on any machine: add `--smoke`.
"""

from keras_qkformer.training.recipe import (
    Data,
    Expected,
    ImageAugmentation,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="qkformer_4_384_cifar10",
    model={
        "family": "imagenet",  # Its stem reduces 32 pixels to 8.
        "embed_dim": 256,
        "depths": [1, 1, 1],
        "time_steps": 2,
    },
    data=Data(
        name="folder",
        data_dir="cifar10.zip",
        train="train[:96%]",
        validation="train[96%:]",  # Chooses the epoch; test is used once, at the end.
        test="test",
        batch_size=64,
        image_augmentation=ImageAugmentation(
            flip=True,
            random_resized_crop=(0.6, 1.0),
            crop_ratio=(0.85, 1.18),
            interpolation="bilinear",
        ),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    optimizer=Optimizer(
        epochs=7,
        learning_rate=4e-3,
        min_learning_rate=1e-5,
        warmup_epochs=1,
        weight_decay=0.05,
    ),
    label_smoothing=0.1,
    seed=0,
    expected=Expected(
        reported=None,
        measured=(
            "75.21 % top-1 of 10,000 JPEG files (quality 75: pixels differ slightly "
            "from the official ones), 52 min in all; TensorFlow 2.21, 2 cores of an "
            "AMD EPYC VM busy with other work, 2026-11-24, with a bilinear crop in "
            "place of the library's, which was not finished; "
            "benchmarks/results/2026-11-24-cifar10_small.json"
        ),
    ),
)

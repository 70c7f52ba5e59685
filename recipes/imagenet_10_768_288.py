"""QKFormer-10-768 on ImageNet-1k, fine-tuned to 288 pixels.

Reported: 85.25 % top-1; Zhou et al., 2024, https://openreview.net/forum?id=AVd7DpiooC,
the table of ImageNet. Measured here: not yet run.

It starts from the best epoch of `imagenet_10_768.py`; the weights fit any image size:

    keras-qkformer fit recipes/imagenet_10_768_288.py --workdir runs/imagenet_10_768_288

From other weights: `--set preset=FOLDER`. Quick check: add `--smoke`.

The authors' log has ten epochs, with learning rates from 5.6e-6 down to 5.2e-7. The
other settings are unknown; those of the training at 224 pixels are used.

Differences from the source:

- As in `imagenet_10_768.py`; and the learning rate changes with every optimizer step.
"""

from keras_qkformer.training.recipe import (
    Data,
    Expected,
    ImageAugmentation,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="runs/imagenet_10_768/best",
    model={"image_size": 288},
    data=Data(
        name="imagenet2012",
        train="train[:99%]",
        validation="train[99%:]",
        test="validation",
        batch_size=288,
        image_augmentation=ImageAugmentation(
            policy="randaugment",
            num_ops=2,
            magnitude=9,
            magnitude_std=0.5,
            random_resized_crop=(0.08, 1.0),
            flip=True,
            interpolation="bicubic",
            erase_probability=0.25,
            erase_mode="pixel",
        ),
        evaluation_crop=1.0,  # Above 224 pixels the source does not crop.
    ),
    optimizer=Optimizer(
        epochs=10,
        learning_rate=5.6e-6,
        min_learning_rate=5.2e-7,
        weight_decay=0.05,
        accumulation_steps=2,
    ),
    precision="mixed_bfloat16",
    label_smoothing=0.1,
    seed=0,
    expected=Expected(
        reported="85.25 % top-1, Zhou et al., 2024, with membrane_state=batch",
        measured=None,
    ),
)

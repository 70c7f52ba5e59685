"""SEW ResNet on ImageNet-1k at 224 pixels, with the settings of the authors' code.

Reported: 67.04 % top-1 for SEW ResNet-34; Fang et al., 2021,
https://arxiv.org/abs/2102.04159, quoted from a summary of the paper. Measured here: not
yet run.

    keras-qkformer fit recipes/sew_resnet_imagenet.py --workdir runs/sew_resnet_34

Other depths are variants: `:18`, `:50`, `:101` and `:152`. Quick check on a small
machine: `--smoke --set data.batch_size=4`. TensorFlow Datasets needs
ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in its `downloads/manual`.

Differences from the source:

- The source reports the best epoch on `validation`. Here the last 1 % of `train` choose
  the epoch, and `validation` is used once. To train as the source does: `--set
  data.train=train --set data.validation=validation`.
- bfloat16 instead of float16.
"""

from keras_qkformer.training.recipe import (
    Data,
    Expected,
    ImageAugmentation,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="sew_resnet_34_imagenet",
    data=Data(
        name="imagenet2012",
        train="train[:99%]",
        validation="train[99%:]",
        test="validation",
        batch_size=256,  # With less memory: smaller, with accumulation_steps.
        image_augmentation=ImageAugmentation(
            random_resized_crop=(0.08, 1.0),
            flip=True,
            interpolation="bilinear",
        ),
        evaluation_crop=224 / 256,
    ),
    optimizer=Optimizer(
        name="sgd",
        momentum=0.9,
        epochs=320,
        learning_rate=0.1,
        schedule="epoch",
    ),
    precision="mixed_bfloat16",
    seed=0,
    expected=Expected(
        reported="67.04 % top-1, Fang et al., 2021, quoted from a summary of the paper",
        measured=None,
    ),
)

variants = {
    depth: [
        f"preset=sew_resnet_{depth}_imagenet",
        f"expected.reported={reported} % top-1, Fang et al., 2021, from a summary",
    ]
    for depth, reported in (
        ("18", "63.18"),
        ("50", "67.78"),
        ("101", "68.76"),
        ("152", "69.26"),
    )
}

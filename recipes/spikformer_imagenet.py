"""Spikformer on ImageNet-1k at 224 pixels, with the settings of the authors' code.

Reported: 70.24 % top-1 for Spikformer-8-384; Zhou et al., 2023,
https://arxiv.org/abs/2209.15425, quoted from a summary of the paper. Measured here: not
yet run. The source took 8 V100 GPUs.

    keras-qkformer fit recipes/spikformer_imagenet.py --workdir runs/spikformer_imagenet

Other sizes are variants: `recipes/spikformer_imagenet.py:8_512`; with the downsampling
of CML (https://arxiv.org/abs/2305.05954), assumed to have the same settings:
`:cml_8_384`. Quick check on a small machine: `--smoke --set data.batch_size=4 --set
model.embed_dim=48`. TensorFlow Datasets needs ILSVRC2012_img_train.tar and
ILSVRC2012_img_val.tar in its `downloads/manual`.

Differences from the source:

- The source reports the best epoch on `validation`. Here the last 1 % of `train` choose
  the epoch, and `validation` is used once. To train as the source does: `--set
  data.train=train --set data.validation=validation`.
- bfloat16 instead of float16.
- A random crop of the whole area with a ratio from 3/4 to 4/3, where none fits, is the
  middle of the image, as in timm.
"""

from keras_qkformer.training.recipe import (
    Data,
    Expected,
    ImageAugmentation,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="spikformer_8_384_imagenet",
    data=Data(
        name="imagenet2012",
        train="train[:99%]",
        validation="train[99%:]",
        test="validation",
        batch_size=192,  # With less memory: smaller, with accumulation_steps.
        image_augmentation=ImageAugmentation(
            policy="randaugment",
            num_ops=2,
            magnitude=9,
            magnitude_std=0.5,
            random_resized_crop=(1.0, 1.0),
            flip=True,
            interpolation="bicubic",
            erase_probability=0.25,
            erase_mode="const",
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            mixup_switch_probability=0.5,
        ),
    ),
    optimizer=Optimizer(
        epochs=300,
        learning_rate=5e-4,
        min_learning_rate=1e-5,
        warmup_epochs=20,
        warmup_learning_rate=1e-6,
        cooldown_epochs=10,
        schedule="epoch",
        weight_decay=0.05,
    ),
    precision="mixed_bfloat16",
    label_smoothing=0.1,
    seed=0,
    expected=Expected(
        reported="70.24 % top-1, Zhou et al., 2023, quoted from a summary of the paper",
        measured=None,
    ),
)

_SUMMARY = "expected.reported={} % top-1, Zhou et al., 2023, quoted from a summary"
_CML = "expected.reported={} % top-1, README of the authors' code of CML"
variants = {
    "6_512": ["preset=spikformer_6_512_imagenet", "expected.reported=null"],
    "8_512": ["preset=spikformer_8_512_imagenet", _SUMMARY.format("73.38")],
    "10_512": ["preset=spikformer_10_512_imagenet", _SUMMARY.format("73.68")],
    "8_768": ["preset=spikformer_8_768_imagenet", _SUMMARY.format("74.81")],
    "cml_8_384": ["preset=spikformer_cml_8_384_imagenet", _CML.format("72.73")],
    "cml_8_512": ["preset=spikformer_cml_8_512_imagenet", _CML.format("75.61")],
    "cml_8_768": ["preset=spikformer_cml_8_768_imagenet", _CML.format("77.34")],
}

"""Spikformer-2-256 on CIFAR10-DVS and DVS128 Gesture, with the authors' settings.

Reported: 80.9 % top-1 with 16 time steps, 78.9 % with 10; Zhou et al., 2023,
https://arxiv.org/abs/2209.15425, quoted from a summary of the paper. Measured here: not
yet run.

    keras-qkformer data prepare cifar10_dvs --manual-dir FOLDER
    keras-qkformer fit recipes/spikformer_events.py --workdir runs/spikformer_dvs

Gesture: `recipes/spikformer_events.py:gesture`, after `data prepare dvs128_gesture`. It
is assumed to have the settings of Spikingformer's code, because theirs has none. With
the downsampling of CML (https://arxiv.org/abs/2305.05954), assumed to have the same
settings: `:cml` and `:cml_gesture`. With 10 time steps: `--set model.time_steps=10`.
Quick check: add `--smoke`.

Differences from the source:

- The source trains on all of `train` and reports the best epoch on `test`. Here
  the last 5 % of `train` choose the epoch, and `test` is used once. To train as the
  source does: `--set data.train=train --set data.validation=test`.
- float32 instead of float16.
- A flipped gesture gets the label of its mirror image, see `dvs128_gesture.py`.
"""

from keras_qkformer.training.recipe import (
    Data,
    EventAugmentation,
    Expected,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="spikformer_2_256_cifar10_dvs",
    data=Data(
        name="cifar10_dvs",
        train="train[:95%]",
        validation="train[95%:]",
        test="test",
        batch_size=16,
        event_augmentation=EventAugmentation(flip="published", mixup_off_epoch=75),
    ),
    optimizer=Optimizer(
        epochs=96,
        learning_rate=1e-3,
        min_learning_rate=1e-5,
        warmup_epochs=10,
        warmup_learning_rate=1e-5,
        cooldown_epochs=10,
        schedule="epoch",
        weight_decay=0.06,
    ),
    label_smoothing=0.1,
    seed=0,
    expected=Expected(
        reported="80.9 % top-1, Zhou et al., 2023, quoted from a summary of the paper",
        measured=None,
    ),
)

_GESTURE = [
    "data.name=dvs128_gesture",
    "data.train=train[:90%]",
    "data.validation=train[90%:]",
    "data.event_augmentation.flip=gestures",
    "optimizer.epochs=192",
]
variants = {
    "gesture": [
        "preset=spikformer_2_256_dvs128_gesture",
        *_GESTURE,
        "expected.reported=98.3 % top-1, Zhou et al., 2023, quoted from a summary",
    ],
    "cml": [
        "preset=spikformer_cml_2_256_cifar10_dvs",
        "expected.reported=80.9 % top-1, README of the authors' code of CML",
    ],
    "cml_gesture": [
        "preset=spikformer_cml_2_256_dvs128_gesture",
        *_GESTURE,
        "expected.reported=98.6 % top-1, README of the authors' code of CML",
    ],
}

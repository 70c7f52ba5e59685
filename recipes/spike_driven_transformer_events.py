"""The spike-driven Transformer-2-256 on CIFAR10-DVS and DVS128 Gesture.

The settings are those of the authors' code (Yao et al., 2023,
https://arxiv.org/abs/2307.01694); CIFAR10-DVS at 64 pixels with 10 time steps, trained
on each of them (temporal efficient training). Reported: no number that could be
confirmed. Measured here: not yet run.

    keras-qkformer data prepare cifar10_dvs --manual-dir FOLDER
    keras-qkformer fit recipes/spike_driven_transformer_events.py --workdir runs/sdt_dvs

Gesture, by LAMB: `recipes/spike_driven_transformer_events.py:gesture`, after `data
prepare dvs128_gesture`. Quick check: add `--smoke`.

Differences from the source:

- The source trains on all of `train` and reports the best epoch on `test`. Here
  the last 5 % of `train` choose the epoch, and `test` is used once. To train as the
  source does: `--set data.train=train --set data.validation=test`.
- float32 instead of float16.
- Recordings of CIFAR10-DVS are mirrored only. Their script has switches for two more
  augmentations, and no command for these data is published.
- LAMB differs as in `spike_driven_transformer_imagenet.py`.
"""

from keras_qkformer.training.recipe import (
    Data,
    EventAugmentation,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="spike_driven_transformer_2_256_cifar10_dvs",
    data=Data(
        name="cifar10_dvs",
        train="train[:95%]",
        validation="train[95%:]",
        test="test",
        batch_size=32,
        event_augmentation=EventAugmentation(
            flip="published", operations=False, mixup_probability=0
        ),
    ),
    optimizer=Optimizer(
        epochs=200,
        learning_rate=7.5e-3,
        min_learning_rate=3e-4,
        warmup_epochs=10,
        warmup_learning_rate=1e-3,
        cooldown_epochs=10,
        schedule="epoch",
        weight_decay=1e-4,
    ),
    label_smoothing=0.1,
    tet_regularizer=0.001,
    seed=0,
)

variants = {
    "gesture": [
        "preset=spike_driven_transformer_2_256_dvs128_gesture",
        "data.name=dvs128_gesture",
        "data.train=train[:90%]",
        "data.validation=train[90%:]",
        "data.batch_size=16",
        "data.event_augmentation=null",
        "optimizer.name=lamb",
        "optimizer.learning_rate=3e-4",
        "optimizer.min_learning_rate=1e-5",
        "optimizer.warmup_learning_rate=1e-6",
        "optimizer.weight_decay=0.06",
        "optimizer.clip_norm=1.0",
        "tet_regularizer=null",
    ],
}

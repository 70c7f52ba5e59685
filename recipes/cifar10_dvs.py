"""QKFormer-2-256 on CIFAR10-DVS, with the settings of the authors' log.

Reported: 84.0 % top-1 with 16 time steps, 83.8 % with 10; Zhou et al., 2024,
https://openreview.net/forum?id=AVd7DpiooC, the table of CIFAR and neuromorphic data.
Measured here: not yet run.

    keras-qkformer data prepare cifar10_dvs --manual-dir FOLDER
    keras-qkformer fit recipes/cifar10_dvs.py --workdir runs/cifar10_dvs

With 10 time steps: `--set model.time_steps=10`. Quick check: add `--smoke`.

Differences from the source:

- The source trains on all of `train` and reports the best epoch on `test`. Here
  the last 5 % of `train` choose the epoch, and `test` is used once. To train as the
  source does: `--set data.train=train --set data.validation=test`.
- Every example starts with membrane potentials at rest. In the source they carry over
  from one example of a batch to the next.
"""

from keras_qkformer.training.recipe import (
    Data,
    EventAugmentation,
    Expected,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="qkformer_2_256_cifar10_dvs",
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
        learning_rate=5e-3,
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
        reported="84.0 % top-1, Zhou et al., 2024, with the best epoch chosen on test",
        measured=None,
    ),
)

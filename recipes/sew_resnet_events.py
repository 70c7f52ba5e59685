"""SEW ResNet on CIFAR10-DVS, with the settings of the authors' code.

Reported: 74.4 % top-1 with 16 time steps, 70.2 % with 8, 64.8 % with 4; Fang et al.,
2021, https://arxiv.org/abs/2102.04159, quoted from a summary of the paper. Measured
here: not yet run.

    keras-qkformer data prepare cifar10_dvs --manual-dir FOLDER
    keras-qkformer fit recipes/sew_resnet_events.py --workdir runs/sew_resnet_dvs

With 8 time steps: `--set model.time_steps=8`. Quick check: add `--smoke`. Their
settings for DVS128 Gesture draw 12 of 16 frames for every batch and lower the rate in
steps, which recipes cannot say.

Differences from the source:

- The source trains on all of `train` and reports the best epoch on `test`. Here
  the last 5 % of `train` choose the epoch, and `test` is used once. To train as the
  source does: `--set data.train=train --set data.validation=test`.
- The momentum is taken from their settings for ImageNet.
"""

from keras_qkformer.training.recipe import Data, Expected, Optimizer, Recipe

recipe = Recipe(
    preset="sew_resnet_7_cifar10_dvs",
    data=Data(
        name="cifar10_dvs",
        train="train[:95%]",
        validation="train[95%:]",
        test="test",
        batch_size=16,
    ),
    optimizer=Optimizer(
        name="sgd",
        momentum=0.9,
        epochs=64,
        learning_rate=0.01,
        schedule="epoch",
    ),
    seed=0,
    expected=Expected(
        reported="74.4 % top-1, Fang et al., 2021, quoted from a summary of the paper",
        measured=None,
    ),
)

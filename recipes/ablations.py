"""The paper's ablations on CIFAR-100; each changes one value of `cifar100.py`.

Reported: the table of ablations of Zhou et al., 2024,
https://openreview.net/forum?id=AVd7DpiooC. Measured here: not yet run.

    keras-qkformer fit recipes/ablations.py:token_channel

Without a variant, the recipe is that of `cifar100.py`: token attention in the first two
stages, self-attention in the last, 4 time steps. The paper also reports ablations on
CIFAR10-DVS: give the same overrides to `cifar10_dvs.py`, with attention for its two
stages: `--set 'model.attention=["channel", "self"]'`.
"""

from pathlib import Path

from keras_qkformer.training.recipe import load_recipe

recipe = load_recipe(Path(__file__).with_name("cifar100.py"))

_PAPER = "expected.reported={} % top-1, Zhou et al., 2024, table of ablations"

variants = {
    name: [override, _PAPER.format(reported)]
    for name, override, reported in (
        ("channel_self", 'model.attention=["channel", "channel", "self"]', "81.07"),
        ("token_channel", 'model.attention=["token", "token", "channel"]', "81.04"),
        ("self", 'model.attention=["self", "self", "self"]', "81.23"),
        ("channel", 'model.attention=["channel", "channel", "channel"]', "81.00"),
        ("token", 'model.attention=["token", "token", "token"]', "79.09"),
        ("without_speds", "model.deformed_shortcut=false", "80.08"),
        ("pre_activation", "model.residual=pre_activation", "81.18"),
        ("if", "model.neuron=if", "80.95"),
        ("plif", "model.neuron=plif", "81.12"),
        ("t1", "model.time_steps=1", "78.51"),
        ("t2", "model.time_steps=2", "80.08"),
        ("t6", "model.time_steps=6", "81.30"),
    )
}

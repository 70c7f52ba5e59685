"""What carries QKFormer's accuracy: attention, hierarchy, shortcut, residual, or time?

The small model of `recipes/comparison.py` on the digits, and what the paper ablates
taken out of it one by one. One stage has both blocks at full resolution and full width,
with as many parameters within 3 %.

    keras-qkformer study studies/ablations.py --workdir runs/ablations \
        --out docs/evidence/ablations.json

The published ablation, on CIFAR-100 at the published size, is `recipes/ablations.py`.
"""

from keras_qkformer.training.study import Study

CHANGES = {
    "published": [],
    "self": ['model.attention=["self", "self"]'],
    "token": ['model.attention=["token", "token"]'],
    "one_stage": ["model.depths=[2]"],
    "without_shortcut": ["model.deformed_shortcut=false"],
    "pre_activation": ["model.residual=pre_activation"],
    "t1": ["model.time_steps=1"],
    "t2": ["model.time_steps=2"],
}

study = Study(
    question="What carries QKFormer's accuracy?",
    plan=(
        "Five seeds of the published model and of each change. The paired difference "
        "changed minus published: Student's paired t-tests over seeds, corrected by "
        "Holm over all seven. An effect is called shown below 0.05 and otherwise not "
        "shown within its interval. The signs of the means are set beside those of the "
        "paper's table of ablations, which says nothing more if nothing is shown."
    ),
    variants={
        f"{name}_digits": ["../recipes/comparison.py:qkformer_digits", *changes]
        for name, changes in CHANGES.items()
    },
    seeds=5,
    comparisons=[
        ("published_digits", f"{name}_digits")
        for name in CHANGES
        if name != "published"
    ],
)

"""The question of `families.py`, on a tenth of CIFAR-10.

    keras-qkformer study studies/families_cifar10.py \
        --workdir runs/families_cifar10 --out docs/evidence/families_cifar10.json

18 trainings of about 7 minutes on one core; `cifar10.zip` has the folders
`train/CLASS` and `test/CLASS`, see `recipes/cifar10_small.py`.
"""

import runpy
from pathlib import Path

from keras_qkformer.training.study import Study

OTHERS = runpy.run_path(Path(__file__).with_name("families.py"))["OTHERS"]

study = Study(
    question="Does QKFormer beat its predecessors on a tenth of CIFAR-10?",
    plan=(
        "Three seeds of each family, because a training takes minutes: 5,000 images, "
        "five epochs, tested on 10,000. The paired difference QKFormer minus each "
        "other family: Student's paired t-tests over seeds, corrected by Holm over all "
        "five. An effect is called shown below 0.05 and otherwise not shown within its "
        "interval; with three seeds only a large one can be shown. Before this plan, "
        "seed 0 of QKFormer (46.4 %) and of Spikformer (45.5 %) were known from an "
        "earlier table; both are trained again."
    ),
    variants={
        f"{family}_cifar10": [f"../recipes/comparison.py:{family}_cifar10"]
        for family in ("qkformer", *OTHERS)
    },
    seeds=3,
    comparisons=[(f"{other}_cifar10", "qkformer_cifar10") for other in OTHERS],
)

"""Does QKFormer beat its predecessors under equal conditions?

All families at about half a million parameters and four time steps, with the same data,
optimizer, schedule, augmentation and seeds, as `recipes/comparison.py` has them; none
was tuned. Small models and short trainings: this asks how they learn in minutes.

    keras-qkformer study studies/families.py --workdir runs/families \
        --out docs/evidence/families.json

N-MNIST is the subset of `recipes/nmnist.py`, in the folder NMNISTsmall.
"""

from keras_qkformer.training.study import Study

OTHERS = (
    *("spikformer", "spikingformer", "spike_driven_transformer", "max_former"),
    "sew_resnet",
)
DATA = ("digits", "nmnist")

study = Study(
    question="Does QKFormer beat its predecessors under equal conditions?",
    plan=(
        "Five seeds of each family and data set. The paired difference QKFormer minus "
        "each other family, for each data set: Student's paired t-tests over seeds, "
        "corrected by Holm over all ten. An effect is called shown below 0.05 and "
        "otherwise not shown within its interval."
    ),
    variants={
        f"{family}_{data}": [f"../recipes/comparison.py:{family}_{data}"]
        for data in DATA
        for family in ("qkformer", *OTHERS)
    },
    seeds=5,
    comparisons=[
        (f"{other}_{data}", f"qkformer_{data}") for data in DATA for other in OTHERS
    ],
)

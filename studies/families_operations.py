"""Does QKFormer beat its predecessors at equal operations, too?

The comparison of `families.py` on the digits, with each other family as wide as it
takes to have the dense multiply-accumulates of QKFormer, 87.1 million, within 4 %.

    keras-qkformer study studies/families_operations.py \
        --workdir runs/families_operations \
        --out docs/evidence/families_operations.json
"""

from keras_qkformer.training.study import Study

WIDER = {
    "spikformer": ["model.embed_dim=152"],
    "spikingformer": ["model.embed_dim=152"],
    "spike_driven_transformer": ["model.embed_dim=152"],
    "max_former": ["model.embed_dim=160"],
    "sew_resnet": ["model.widths=[96, 192]"],
}

study = Study(
    question="Does QKFormer beat its predecessors at equal operations?",
    plan=(
        "Five seeds of each family on the digits. The paired difference QKFormer minus "
        "each other family: Student's paired t-tests over seeds, corrected by Holm "
        "over all five. An effect is called shown below 0.05 and otherwise not shown "
        "within its interval."
    ),
    variants={
        f"{family}_digits": [f"../recipes/comparison.py:{family}_digits", *wider]
        for family, wider in {"qkformer": [], **WIDER}.items()
    },
    seeds=5,
    comparisons=[(f"{family}_digits", "qkformer_digits") for family in WIDER],
)

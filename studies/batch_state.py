"""How much accuracy comes from potentials that run on from one sample to the next?

In the code behind the published numbers of QKFormer, the neurons of self-attention read
a batch as one long sequence, so each sample starts from the potentials that the one
before it has left. Each training here exists twice, once with that state ("batch") and
once with every sample from rest ("sample", the library's default); all else is equal.

    keras-qkformer study studies/batch_state.py --workdir runs/batch_state \
        --out docs/evidence/batch_state.json

N-MNIST is the subset of `recipes/nmnist.py`, in the folder NMNISTsmall.
"""

from keras_qkformer.training.study import Evaluation, Study

RECIPES = "../recipes/comparison.py"
DATA = ("digits", "nmnist")
BATCHES = (1, 8, 32, 128)

evaluations = {
    # Each model with the state of the other training, too.
    "in_sample_state": Evaluation(membrane_state="sample", batch_size=32),
    "in_batch_state_one_by_one": Evaluation(membrane_state="batch", batch_size=1),
    **{
        f"in_batch_state_{order}_{batch}": Evaluation(
            membrane_state="batch", order=order, batch_size=batch
        )
        for order in ("shuffled", "by_class")
        for batch in BATCHES[1:]
    },
}


def variants_of(data):
    """The two variants of a data set: the recipe in either state."""
    return {
        f"{state}_{data}": [
            f"{RECIPES}:qkformer_{data}",
            f"model.membrane_state={state}",
        ]
        for state in ("sample", "batch")
    }


def comparisons_of(data):
    """The comparisons of a data set."""
    sample, batch = f"sample_{data}", f"batch_{data}"
    return [
        # Does training with the state gain anything, tested as trained?
        (sample, f"{batch}@in_batch_state_shuffled_32"),
        # Do labels leak through an order by class?
        *(
            (
                f"{batch}@in_batch_state_shuffled_{size}",
                f"{batch}@in_batch_state_by_class_{size}",
            )
            for size in BATCHES[1:]
        ),
        # What does the other state cost after training?
        (f"{batch}@in_batch_state_shuffled_32", f"{batch}@in_sample_state"),
        (sample, f"{sample}@in_batch_state_shuffled_32"),
    ]


study = Study(
    question="How much accuracy comes from potentials that run on between samples?",
    plan=(
        "Five seeds of each variant. Primary: the paired difference between training "
        "with batch state, tested with it in shuffled batches of 32, and training with "
        "sample state, for each data set. Secondary: for models trained with batch "
        "state, an order by class against a shuffled one at 8, 32 and 128 (leakage of "
        "the label through the order), and either kind of model tested with the other "
        "state (mismatch). Student's paired t-tests over seeds, corrected by Holm over "
        "all comparisons; an effect is called shown below 0.05 and otherwise not shown "
        "within its interval."
    ),
    variants={name: one for data in DATA for name, one in variants_of(data).items()},
    seeds=5,
    evaluations=evaluations,
    comparisons=[pair for data in DATA for pair in comparisons_of(data)],
)

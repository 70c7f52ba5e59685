"""Is the library itself neutral: does a backend, or bfloat16, change the accuracy?

The same recipe on JAX in float32, and with one thing changed: mixed bfloat16, or
another backend. A seed draws the order of the examples and their augmentation alike
everywhere; the first weights come from the generator of each backend. So a pair with
bfloat16 differs by rounding alone, a pair of backends by its first weights too.

    for backend in jax tensorflow torch; do
        KERAS_BACKEND=$backend keras-qkformer study studies/neutral.py \
            --workdir runs/neutral --out docs/evidence/neutral.json
    done

Each call trains the variants of its backend and tells all that there is.
`studies/neutral_exact.py` then compares the same weights on backends, devices and as
a stream, where no training adds to the difference.
"""

from keras_qkformer.training.study import Study

# The state is the default, and named only so that these recipes are those of
# `batch_state.py`: its workdirs of `sample_digits` are the ones of `jax` here.
RECIPE = ["../recipes/comparison.py:qkformer_digits", "model.membrane_state=sample"]

study = Study(
    question="Is the library neutral: does a backend or bfloat16 change the accuracy?",
    plan=(
        "Five seeds of each variant on the digits. The paired difference of each "
        "variant minus JAX in float32: Student's paired t-tests over seeds, corrected "
        "by Holm over the three. A difference is called shown below 0.05 and otherwise "
        "not shown within its interval; five seeds can't show that there is none. "
        "Trainings on several devices and on a stream are no variants, because only "
        "rounding could tell them from the first: the same weights are compared."
    ),
    variants={
        "jax": RECIPE,
        "jax_bfloat16": [*RECIPE, "precision=mixed_bfloat16"],
        "tensorflow": RECIPE,
        "torch": RECIPE,
    },
    seeds=5,
    comparisons=[("jax", other) for other in ("jax_bfloat16", "tensorflow", "torch")],
    backends={
        "jax": "jax",
        "jax_bfloat16": "jax",
        "tensorflow": "tensorflow",
        "torch": "torch",
    },
)

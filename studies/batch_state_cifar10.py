"""The question of `batch_state.py`, on a tenth of CIFAR-10.

    keras-qkformer study studies/batch_state_cifar10.py \
        --workdir runs/batch_state_cifar10 \
        --out docs/evidence/batch_state_cifar10.json

Ten trainings, and nine tests of each on 10,000 images; `cifar10.zip` has the folders
`train/CLASS` and `test/CLASS`, see `recipes/cifar10_small.py`.
"""

import dataclasses
import runpy
from pathlib import Path

_made = runpy.run_path(Path(__file__).with_name("batch_state.py"))
study = dataclasses.replace(
    _made["study"],
    variants=_made["variants_of"]("cifar10"),
    comparisons=_made["comparisons_of"]("cifar10"),
)

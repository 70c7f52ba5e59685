"""The question of `batch_state.py`, on a tenth of CIFAR-10.

    keras-qkformer study studies/batch_state_cifar10.py \
        --set data.data_dir=cifar10.zip --workdir runs/batch_state_cifar10

Ten trainings of about 7 minutes on one core, and nine tests of each on 10,000 images:
some four hours, by estimate. Not run yet.
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

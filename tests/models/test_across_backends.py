"""Files move between backends with equal outputs."""

import os
import subprocess
import sys

import keras
import numpy as np
from harness import to_numpy
from model_harness import TINY, random_inputs, settle

from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier

# Another float32 rounding may flip single spikes: one spike of the last stage, averaged
# over 72 tokens and steps, moves a logit by about 1e-3. Most logits agree to 1e-6.
TOLERANCE = 5e-3

ELSEWHERE = """
import sys
import keras, numpy as np
import keras_qkformer
from keras_qkformer import QKFormerClassifier
file, folder, inputs, outputs = sys.argv[1:]
x = np.load(inputs)
def predict(model):
    y = model(x, training=False)
    return np.asarray(y.detach() if hasattr(y, "detach") else y)
np.savez(
    outputs,
    from_file=predict(keras.models.load_model(file, compile=False)),
    from_folder=predict(QKFormerClassifier.from_preset(folder)),
)
"""


def test_files_give_equal_outputs_on_another_backend(tmp_path):
    following = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
    model = settle(QKFormerClassifier(QKFormerBackbone(**TINY), 5))
    x = random_inputs(model)
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    np.save(tmp_path / "x.npy", x)
    files = ("model.keras", "preset", "x.npy", "y.npz")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *(str(tmp_path / name) for name in files)],
        env={**os.environ, "KERAS_BACKEND": following[keras.backend.backend()]},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    theirs, ours = np.load(tmp_path / "y.npz"), to_numpy(model(x, training=False))
    assert np.ptp(ours) > 1e-3
    for kind in ("from_file", "from_folder"):
        np.testing.assert_allclose(theirs[kind], ours, rtol=0, atol=TOLERANCE)
        assert np.median(np.abs(theirs[kind] - ours)) < 1e-6

"""Files move between backends with equal outputs."""

import os
import subprocess
import sys

import keras
import numpy as np
from harness import to_numpy
from model_harness import TINY, compiled, random_inputs, settle
from small_models import SMALL_MODELS

from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier

# Another float32 rounding may flip single spikes: one spike of the last stage, averaged
# over 72 tokens and steps, moves a logit by about 1e-3. Most logits agree to 1e-6.
TOLERANCE = 5e-3

ELSEWHERE = """
import sys
import keras, numpy as np
import keras_qkformer
from keras_qkformer import SpikingClassifier
for name in sys.argv[1:]:
    x = np.load(f"{name}/x.npy")
    def predict(model):
        # JAX would compile operation by operation; the others need no compiling.
        model.compile(run_eagerly=keras.backend.backend() != "jax")
        return model.predict_on_batch(x)
    loaded = keras.models.load_model(f"{name}/m.keras", compile=False)
    np.savez(
        f"{name}/y.npz",
        inputs=keras.ops.convert_to_numpy(loaded.preprocessor(np.load("pixels.npy")))
        if loaded.preprocessor else 0,
        from_file=predict(loaded),
        from_folder=predict(SpikingClassifier.from_preset(f"{name}/preset")),
    )
"""


def test_files_give_equal_outputs_on_another_backend(tmp_path):
    following = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
    ours = {}
    models = {name: small.make() for name, small in SMALL_MODELS.items()}
    preprocessing = {"mean": [0.5, 0.4], "std": [0.3, 0.2], "crop": 0.875}
    preprocessed = QKFormerClassifier(
        QKFormerBackbone(**TINY), 5, preprocessing=preprocessing
    )
    models["qkformer"] = preprocessed
    pixels = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 2), "uint8")
    np.save(tmp_path / "pixels.npy", pixels)
    for name, model in models.items():
        settle(model)
        x = random_inputs(model)
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "m.keras")
        model.save_to_preset(tmp_path / name / "preset")
        np.save(tmp_path / name / "x.npy", x)
        ours[name] = compiled(model)(x)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *models],
        env={**os.environ, "KERAS_BACKEND": following[keras.backend.backend()]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for name, expected in ours.items():
        assert np.ptp(expected) > 1e-3
        theirs = np.load(tmp_path / name / "y.npz")
        for kind in ("from_file", "from_folder"):
            np.testing.assert_allclose(theirs[kind], expected, rtol=0, atol=TOLERANCE)
            assert np.median(np.abs(theirs[kind] - expected)) < 1e-6
    inputs = np.load(tmp_path / "qkformer" / "y.npz")["inputs"]
    expected = to_numpy(preprocessed.preprocessor(pixels))
    np.testing.assert_allclose(inputs, expected, rtol=0, atol=5e-5)

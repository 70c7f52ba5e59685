"""Fixtures for all tests. One backend per process: `KERAS_BACKEND=jax pytest`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from pathlib import Path

import keras
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same seed and policy, whatever ran before."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def float64():
    """Everything in float64 on every backend, for one test."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    yield
    keras.config.set_floatx("float32")
    if keras.backend.backend() == "jax":
        jax.config.update("jax_enable_x64", False)


@pytest.fixture
def shared_golden():
    """Function from a name to a large golden file; skips where there is none."""

    def load(name):
        path = SHARED / "golden" / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"the large golden file {path} is not on this machine")
        return np.load(path)

    return load

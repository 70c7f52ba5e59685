"""Fixtures for all tests. One backend per process: `KERAS_BACKEND=jax pytest`."""

import atexit
import gc
import os
import shutil
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Compiling takes most of the time on JAX: with little optimization and without the
# slowest emitters, and once for all tests and the processes that they start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.mkdtemp(prefix="keras_qkformer_jax_cache_")
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

# Programs of PyTorch stay where it keeps them by default, not in the user's cache.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), "keras_qkformer_torch_cache"),
)

# Compilers share memory badly: `prepare_backend` leaves the heaps as they are.
os.environ.setdefault("MALLOC_ARENA_MAX", "16")

# Compiling neurons on PyTorch takes longer than all their tests together; it has tests
# of its own.
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qkformer.backend import prepare_backend

# XLA reads its flags once. Training sets some, so they must be there from the first
# test on: otherwise the order of the tests decides how numbers are rounded.
prepare_backend()

# TensorFlow's graphs, of which a pipeline that augments has the largest, run so few
# times here that optimizing them takes longer. Processes that tests start do optimize.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# Graphs are millions of small objects, which the collector would look through again and
# again, modules and all.
gc.freeze()
gc.set_threshold(50_000, 20, 100)

# To wait for the disk takes 10 ms each time, some fifty times per training. That all is
# synced which must be is tested by `test_interruption.py`, which counts it.
os.fsync = lambda descriptor: None


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """End at once: Python would take gigabytes of graphs apart, which takes 20 s."""
    session = config.pluginmanager.get_plugin("session")
    if session is None or sys.getprofile():
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(session.exitstatus)


SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_file(name):
    """Path of a real recording or its labels; skips the test where there is none."""
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"the real data {path} is not on this machine")
    return path


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same seed and policy, whatever ran before."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="module")
def _old_objects_apart():
    """What a module leaves (caches, compiled programs) is not looked through again."""
    yield
    gc.collect()
    gc.freeze()


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

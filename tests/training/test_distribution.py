"""The set-up of a backend, and training on several devices."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from device_results import assert_same
from small_models import SMALL_MODELS

from keras_qkformer import backend
from keras_qkformer.backend import prepare_backend
from keras_qkformer.models import QKFormerClassifier
from keras_qkformer.training import distribution
from keras_qkformer.training.distribution import Devices, check_model, choose_devices


def test_accelerators_are_left_to_the_backend():
    import tensorflow as tf

    prepare_backend()
    if keras.backend.backend() != "tensorflow":
        assert not tf.config.get_visible_devices("GPU")


PREPARED = """
from keras_qkformer.backend import prepare_backend
prepare_backend()
from resource import RUSAGE_SELF, getrusage
size = 2**27
x = b"x" * size
del x
before = getrusage(RUSAGE_SELF).ru_minflt
x = b"x" * size
print(getrusage(RUSAGE_SELF).ru_minflt - before)
del x
"""
COMPILED = """
import jax, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
x, k = jnp.ones((8, 32, 32, 64)), jnp.ones((3, 3, 64, 64))
f = lambda x, k: jax.lax.conv_general_dilated(
    x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
print("__ynn_fusion" in jax.jit(f).lower(x, k).compile().as_text())
"""
ON_JAX = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs JAX")
# What the user says holds on every backend; JAX alone has all that can be said.
TOLD = [False, True] if keras.backend.backend() == "jax" else [False]


@pytest.fixture(scope="module", params=TOLD)
def prepared(request, tmp_path_factory):
    """What a process has found after `prepare_backend`: `(told, lines, folder)`.

    If `told`, its user has chosen the memory, the cache and the convolutions.
    """
    folder = tmp_path_factory.mktemp("prepared")
    variables = {"KERAS_QKFORMER_CACHE": str(folder / "ours"), "XLA_FLAGS": ""}
    if request.param:
        variables |= {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "theirs"),
            "MALLOC_ARENA_MAX": "8",
            "XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type="
            "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION",
        }
    hidden = ("JAX_", "MALLOC_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    code = PREPARED + (COMPILED if keras.backend.backend() == "jax" else "")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return request.param, done.stdout.splitlines(), folder


@pytest.mark.skipif(sys.platform != "linux", reason="malloc can be set on Linux")
def test_memory_that_is_freed_is_kept_unless_the_user_says_otherwise(prepared):
    told, (faults, *_), _ = prepared
    kept = not told and not backend.has_accelerator(keras.backend.backend())
    # One for each page of 4 kB, or of 2 MB.
    assert (int(faults) < 20) == kept


@ON_JAX
def test_compiled_programs_are_kept_where_the_user_wants(prepared):
    told, _, folder = prepared
    kept = folder / "theirs" if told else folder / "ours" / "compiled"
    assert any(kept.iterdir())
    assert told != (folder / "ours").exists()


@ON_JAX
def test_convolutions_are_not_left_to_ynnpack(prepared):
    told, (_, left), _ = prepared
    assert left == str(told)


def train(folder, *counts):
    """What `train_on_devices.py` leaves: a dict of arrays for each of the counts."""
    script = Path(__file__).parents[1] / "train_on_devices.py"
    arguments = [script, folder, "static", "float64", *counts]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [dict(np.load(folder / f"{count}.npz")) for count in counts]


ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="compares devices of TensorFlow"
)


@ON_TENSORFLOW
def test_training_does_not_depend_on_the_number_of_devices(tmp_path):
    """On JAX it is tested with devices of several hosts."""
    one, two = train(tmp_path, 1, 2)
    assert_same(two, one, 1e-10)


def test_devices_that_are_not_there_are_an_error():
    prepare_backend()
    with pytest.raises(ValueError, match=r"(one device|must not exceed).* Received:"):
        choose_devices(99, None, 99)
    with pytest.raises(ValueError, match=r"devices must be .* Received: 0"):
        choose_devices(0, None, 8)
    assert choose_devices("auto", None, 8) == Devices()


@pytest.mark.parametrize("mesh", ["data", "data=0", "data=2,data=1", "model=x", ""])
def test_mesh_of_another_form_is_an_error(mesh):
    message = "like data=4,model=2" if keras.backend.backend() == "jax" else "needs JAX"
    with pytest.raises(ValueError, match=f"{message}.*Received: mesh='{mesh}'"):
        choose_devices("auto", mesh, 8)


@ON_JAX
@pytest.mark.parametrize(
    ("devices", "mesh", "batch_size", "message"),
    [
        (4, "data=2", 8, "devices or a mesh"),
        (3, None, 8, "divisible .*: batch_size=8, 3 devices"),
        ("auto", "data=3,model=2", 8, "divisible .*: batch_size=8, 3 devices"),
        ("auto", "data=3,model=3", 9, "sees, 8. Received: 9"),
    ],
)
def test_devices_that_do_not_fit_are_an_error(
    monkeypatch, devices, mesh, batch_size, message
):
    monkeypatch.setattr(distribution, "_count_devices", lambda: 8)
    with pytest.raises(ValueError, match=message):
        choose_devices(devices, mesh, batch_size)


def test_as_many_devices_as_divide_the_batch(monkeypatch):
    monkeypatch.setattr(distribution, "_count_devices", lambda: 6)
    if keras.backend.backend() != "torch":
        assert choose_devices("auto", None, 8) == Devices(4)
    if keras.backend.backend() == "jax":
        assert choose_devices("auto", "data=2,model=3", 8) == Devices(2, 3)


def test_what_several_devices_can_not_train_is_an_error():
    model = QKFormerClassifier.from_preset("qkformer_tiny", time_steps=1)
    check_model(Devices(2, 4), model, 1)
    with pytest.raises(ValueError, match=r"num_heads must be divisible .* model=3"):
        check_model(Devices(1, 3), model, 1)
    convolutions = SMALL_MODELS["sew_resnet"].make()  # Without heads.
    check_model(Devices(1, 4), convolutions, 1)
    with pytest.raises(ValueError, match=r"8 channels of .*/kernel, model=3"):
        check_model(Devices(1, 3), convolutions, 1)
    with pytest.warns(UserWarning, match="a defect of the authors' code"):
        model = QKFormerClassifier.from_preset(
            "qkformer_tiny", time_steps=1, membrane_state="batch"
        )
    check_model(Devices(), model, 1)
    with pytest.raises(ValueError, match="membrane_state='batch'"):
        check_model(Devices(2), model, 1)
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="accumulation_steps=2, 2 devices"):
            check_model(Devices(2), model, 2)

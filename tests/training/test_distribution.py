"""The set-up of a backend: accelerators, and the cache of compiled programs."""

import os
import subprocess
import sys

import keras
import pytest

from keras_qkformer.training.distribution import prepare_backend


def test_accelerators_are_left_to_the_backend():
    import tensorflow as tf

    prepare_backend()
    if keras.backend.backend() != "tensorflow":
        assert not tf.config.get_visible_devices("GPU")


def compile_in_a_new_process(**variables):
    """Let a process compile something after `prepare_backend`."""
    code = (
        "from keras_qkformer.training.distribution import prepare_backend\n"
        "prepare_backend()\n"
        "import jax\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
        "print(jax.jit(lambda x: x + 1)(1))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone has a cache")
@pytest.mark.parametrize("told", [False, True])
def test_compiled_programs_are_kept_where_the_user_wants(tmp_path, told):
    variables = {"KERAS_QKFORMER_CACHE": str(tmp_path / "ours")}
    if told:
        variables["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "theirs")
    compile_in_a_new_process(**variables)
    kept = tmp_path / "theirs" if told else tmp_path / "ours" / "compiled"
    assert any(kept.iterdir())
    assert told != (tmp_path / "ours").exists()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a flag of XLA")
@pytest.mark.parametrize("told", [False, True])
def test_convolutions_are_not_left_to_ynnpack(told):
    code = (
        "from keras_qkformer.training.distribution import prepare_backend\n"
        "prepare_backend()\n"
        "import jax, jax.numpy as jnp\n"
        "x, k = jnp.ones((8, 32, 32, 64)), jnp.ones((3, 3, 64, 64))\n"
        "f = lambda x, k: jax.lax.conv_general_dilated(\n"
        "    x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))\n"
        "print('__ynn_fusion' in jax.jit(f).lower(x, k).compile().as_text())\n"
    )
    flag = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_"
    flags = f"{flag}INDIVIDUAL_CONVOLUTION" if told else ""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == str(told), done.stderr

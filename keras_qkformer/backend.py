"""What a process sets up before anything is computed."""

import contextlib
import ctypes
import importlib.util
import os
import sys

import keras

from keras_qkformer.files import cache_folder

# YNNPACK for sums and products of matrices, not for convolutions.
_YNN = "--xla_cpu_experimental_ynn_fusion_type"
_YNN_FUSIONS = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
# Numbers and values for mallopt(3): nothing is given back, all is in one heap. Others
# consist of pieces, which are given back whatever is set.
_MALLOC_OPTIONS = {
    "M_TRIM_THRESHOLD": (-1, -1),
    "M_MMAP_MAX": (-4, 0),
    "M_ARENA_MAX": (-8, 1),
}


def has_accelerator(backend):
    """Whether a backend may keep tensors elsewhere than in the processor's memory.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.
    """
    if backend == "torch":
        import torch

        return torch.accelerator.is_available()
    if backend == "jax":
        # To ask JAX would start it, and hosts must find each other before.
        return any(map(importlib.util.find_spec, ("jax_plugins", "libtpu")))
    return True  # TensorFlow keeps its memory itself.


def _keep_memory():
    set_by_user = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or set_by_user:
        return
    with contextlib.suppress(AttributeError):  # Only glibc has it.
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOC_OPTIONS.values():
            mallopt(parameter, value)


def prepare_backend():
    """Set up the backend of this process; call it before anything is computed.

    TensorFlow leaves accelerators alone if another backend computes on them: tf.data
    would reserve their memory for nothing. JAX keeps what it compiles in the cache
    folder (`$KERAS_QKFORMER_CACHE` or `~/.cache/keras_qkformer`), so that the same
    training starts sooner the next time, unless it was told of another folder
    (`JAX_COMPILATION_CACHE_DIR`). On a CPU it computes convolutions with Eigen, where
    `XLA_FLAGS` does not say otherwise: what JAX 0.10 takes by default is slower.

    Where JAX or PyTorch compute on a CPU of Linux, memory that is freed stays with the
    process, unless a variable `MALLOC_...` of the environment says what to do: to get
    it anew from the system takes longer than many an operation on it.
    """
    backend = keras.backend.backend()
    if not has_accelerator(backend):
        _keep_memory()
    if backend != "tensorflow" and importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # It has computed something already.
            tf.config.set_visible_devices([], "GPU")
            tf.config.set_visible_devices([], "TPU")
    if backend == "jax":
        import jax

        flags = os.environ.get("XLA_FLAGS", "")
        # A flag that a version does not know ends the process.
        if jax.__version_info__ >= (0, 10, 2) and _YNN not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {_YNN}={_YNN_FUSIONS}".strip()
        if jax.config.jax_compilation_cache_dir is None:
            folder = cache_folder() / "compiled"
            jax.config.update("jax_compilation_cache_dir", str(folder))

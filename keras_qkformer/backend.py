"""Set up the backend of a process before it computes anything."""

import contextlib
import ctypes
import importlib.util
import os
import sys

import keras

from keras_qkformer.files import cache_folder

# Use YNNPACK for matrix products and sums, but not for convolutions.
_YNN = "--xla_cpu_experimental_ynn_fusion_type"
_YNN_FUSIONS = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
# Parameter numbers and values for mallopt(3): return no memory to the system, and use
# one arena, because further arenas consist of pieces that are returned in any case.
_MALLOC_OPTIONS = {
    "M_TRIM_THRESHOLD": (-1, -1),
    "M_MMAP_MAX": (-4, 0),
    "M_ARENA_MAX": (-8, 1),
}


def has_accelerator(backend: str) -> bool:
    """Return whether a backend may keep tensors outside of the CPU's memory.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.

    Returns:
        bool. Always true for TensorFlow, which manages its memory itself.
    """
    if backend == "torch":
        import torch

        return torch.accelerator.is_available()
    if backend == "jax":
        # Asking JAX would start it, and hosts must connect to each other first.
        return any(map(importlib.util.find_spec, ("jax_plugins", "libtpu")))
    return True


def _keep_memory():
    set_by_user = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or set_by_user:
        return
    with contextlib.suppress(AttributeError):  # Only glibc has it.
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOC_OPTIONS.values():
            mallopt(parameter, value)


def prepare_backend() -> None:
    """Set up the backend of this process; call it before anything is computed.

    With JAX or PyTorch as the backend, TensorFlow does not use accelerators: tf.data
    would reserve their memory for nothing.

    JAX keeps compiled programs in the cache folder (`$KERAS_QKFORMER_CACHE` or
    `~/.cache/keras_qkformer`), so that the same training starts sooner the next time.
    `JAX_COMPILATION_CACHE_DIR` names another folder. On CPUs, JAX computes convolutions
    with Eigen unless `XLA_FLAGS` says otherwise: the default of JAX 0.10 is slower.

    PyTorch keeps its programs there too, or in `TORCHINDUCTOR_CACHE_DIR`.

    When JAX or PyTorch compute on a CPU under Linux, the process keeps freed memory,
    unless the environment has a variable `MALLOC_...`: getting memory from the system
    takes longer than many an operation on it.
    """
    backend = keras.backend.backend()
    if not has_accelerator(backend):
        _keep_memory()
    if backend != "tensorflow" and importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow has started already.
            tf.config.set_visible_devices([], "GPU")
            tf.config.set_visible_devices([], "TPU")
    if backend == "torch" and "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = cache_folder() / "compiled_torch"
        with contextlib.suppress(OSError):  # PyTorch's own default is in /tmp.
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    if backend == "jax":
        import jax

        flags = os.environ.get("XLA_FLAGS", "")
        # An unknown flag ends the process, so ask for the version first.
        if jax.__version_info__ >= (0, 10, 2) and _YNN not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {_YNN}={_YNN_FUSIONS}".strip()
        if jax.config.jax_compilation_cache_dir is None:
            folder = cache_folder() / "compiled"
            jax.config.update("jax_compilation_cache_dir", str(folder))
            # The many small programs that initialize a model take seconds together.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)

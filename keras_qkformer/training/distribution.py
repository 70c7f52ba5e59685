"""Which devices a process uses, and what it keeps of its compiled programs."""

import importlib.util
import os

import keras

from keras_qkformer.models.preset_files import cache_folder

# YNNPACK for sums and products of matrices, not for convolutions.
_YNN = "--xla_cpu_experimental_ynn_fusion_type"
_YNN_FUSIONS = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"


def prepare_backend():
    """Set up the backend of this process; call it before anything is computed.

    TensorFlow leaves accelerators alone if another backend computes on them: tf.data
    would reserve their memory for nothing. JAX keeps what it compiles in the cache
    folder (`$KERAS_QKFORMER_CACHE` or `~/.cache/keras_qkformer`), so that the same
    training starts sooner the next time, unless it was told of another folder
    (`JAX_COMPILATION_CACHE_DIR`). On a CPU it computes convolutions with Eigen, where
    `XLA_FLAGS` does not say otherwise: what JAX 0.10 takes by default is slower.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow" and importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

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

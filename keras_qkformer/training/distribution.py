"""Which devices a process uses, and what it keeps of its compiled programs."""

import keras

from keras_qkformer.models.preset_files import cache_folder


def prepare_backend():
    """Set up the backend of this process; call it before anything is computed.

    TensorFlow leaves accelerators alone if another backend computes on them: tf.data
    would reserve their memory for nothing. JAX keeps what it compiles in the cache
    folder (`$KERAS_QKFORMER_CACHE` or `~/.cache/keras_qkformer`), so that the same
    training starts sooner the next time, unless it was told of another folder
    (`JAX_COMPILATION_CACHE_DIR`).
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        tf.config.set_visible_devices([], "TPU")
    if backend == "jax":
        import jax

        if jax.config.jax_compilation_cache_dir is None:
            folder = cache_folder() / "compiled"
            jax.config.update("jax_compilation_cache_dir", str(folder))

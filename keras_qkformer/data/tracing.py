"""How functions become graphs of TensorFlow."""

import tensorflow as tf


def without_autograph(function):
    """Keep AutoGraph from a function and all that it calls.

    Nothing here needs it, it takes seconds, and it writes a file for each function into
    the temporary folder, which a process that is killed leaves behind.

    Args:
        function: function of tensors, with `tf.cond` and `tf.while_loop` in place of
            `if` and `while` on tensors.

    Returns:
        Function of the same tensors.
    """
    return tf.autograph.experimental.do_not_convert(function)

"""Fuzz `read_image`: mutated files of every kind, checked in Python and in a graph."""

import functools
import io
import sys

import fuzzing
import numpy as np
import tensorflow as tf
from PIL import Image
from serving.hostile_images import mutated, originals

from keras_qkformer.data.images.image_decoding import decode, read_image
from keras_qkformer.data.images.image_limits import bounded_bytes, bounded_image


@functools.cache
def files():
    """Whole files: JPEG, PNG, WebP, BMP, and GIF with and without animation."""
    image = Image.open(io.BytesIO(next(originals())))
    whole = list(originals())
    for kind, format, more in (
        ("RGB", "BMP", {}),
        ("L", "BMP", {}),
        ("P", "GIF", {}),
        ("P", "GIF", {"save_all": True, "append_images": [image.rotate(180)] * 3}),
        ("CMYK", "JPEG", {"progressive": True}),
        ("RGBA", "PNG", {"save_all": True, "append_images": [image]}),
    ):
        file = io.BytesIO()
        image.convert(kind).save(file, format, **more)
        whole.append(file.getvalue())
    file = io.BytesIO()
    deep = 60 * np.arange(960, dtype="uint16").reshape(24, 40)
    Image.fromarray(deep).save(file, "PNG")
    whole.append(file.getvalue())
    for channels in (1, 3):  # What is compiled once is no case's memory or time.
        for file in whole:
            decode(file, channels)
            assert in_graph(file)[0] == ""
    return whole


@functools.cache
def _compiled():
    spec = tf.TensorSpec((), tf.string)
    return tf.function(bounded_image).get_concrete_function(spec)


def in_graph(file):
    """Reason, and what to decode, as a graph finds them."""
    fault, encoded = _compiled()(tf.constant(file))
    return fault.numpy().decode(), encoded.numpy()


def case(random, folder):
    """One mutated file; Python and the graph must agree about it."""
    draw = np.random.default_rng(random.getrandbits(64))
    file = mutated(random.choice(files()), draw)
    path = folder / "image"
    path.write_bytes(file)
    fault, encoded = in_graph(file)
    try:
        bounded = bounded_bytes(file)
    except ValueError as error:
        if str(error) != fault:
            raise AssertionError(f"{error} in Python, {fault} in a graph") from error
    else:
        if (fault, encoded) != ("", bounded):
            raise AssertionError(f"nothing in Python, {fault} in a graph")
    channels = random.choice((1, 3))
    image = read_image(path, channels)
    assert image.dtype == "uint8" and image.ndim == 3 and image.shape[-1] == channels
    return "answered"


def main(arguments=None):
    """Run the fuzzer; see `fuzzing.main`."""
    return fuzzing.main(case, arguments, prepare=files)


if __name__ == "__main__":
    sys.exit(main())

"""Images in folders, zips, TFRecords and TFDS, read and decoded when needed.

A set is a list of encoded images that is read by number, whatever holds it. Small ones
of one size are decoded once and kept; see `IN_MEMORY_BYTES` of `source`.
"""

import concurrent.futures
import contextlib
import os
import re
import threading
import zipfile

import numpy as np
import tensorflow as tf

from keras_qkformer.data.images.image_decoding import decode
from keras_qkformer.data.source import IN_MEMORY_BYTES

IN_PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
"""Options of a `map` or `interleave` that runs in parallel and keeps the order."""


class EncodedImages:
    """Images of any size that are decoded when they are needed.

    One that can't be decoded is noted in `damaged`; with `strict` it is an error.

    Args:
        read: function from a number to the bytes of that image; may be called by many
            threads at once.
        names: list of str, one per number: where the image is.
        numbers: int array `(examples,)`.
        channels: 1 or 3.
        strict: bool.
        fetch: function `(numbers, examples) -> (encoded, name, *example)`: `read` by
            TensorFlow operations, of all examples of a `tf.data.Dataset`, each a tuple
            that begins with a place in `numbers`; or `None` if there is none.
        damaged: dict that takes up the damaged images, from their name to what is
            wrong, or `None` for a new one. Parts of a set share it.
    """

    def __init__(
        self, read, names, numbers, channels, strict=False, fetch=None, damaged=None
    ):
        self.read = read
        self.fetch = fetch
        self.names = names
        self.numbers = np.asarray(numbers)
        self.shape = (len(self.numbers), None, None, channels)
        self.dtype = np.dtype("uint8")
        self.strict = strict
        self.damaged = {} if damaged is None else damaged

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, places):
        """Some of the images, by a slice or an index array."""
        return EncodedImages(
            self.read,
            self.names,
            self.numbers[places],
            self.shape[-1],
            self.strict,
            self.fetch,
            self.damaged,
        )

    def decode(self, place, window=None, draws=None):
        """The image at a place, or a window of it, see `decode`; `None` if damaged."""
        number = int(self.numbers[place])
        name = self.names[number]
        try:
            try:
                return decode(self.read(number), self.shape[-1], window, draws)
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(f"can't be read: {error}") from error
        except ValueError as error:
            self.damaged[name] = str(error)
            if self.strict:
                raise ValueError(_rule(name, error)) from error
            return None

    def decode_next(self, place, window=None, draws=None):
        """The image at a place, or else the next whole one, and its place.

        Raises:
            ValueError: if there is none.
        """
        for step in range(len(self)):
            found = (place + step) % len(self)
            image = self.decode(found, window, draws)
            if image is not None:
                return image, found
        name = self.names[int(self.numbers[place])]
        raise ValueError(
            f"None of {len(self)} images can be decoded; "
            f"{_rule(name, self.damaged[name])}"
        )

    def each(self, examples, use, replace):
        """Examples made of images that are decoded here.

        Args:
            examples: `tf.data.Dataset` of tuples that begin with the place of an image.
            use: function `(encoded, *example) -> example` of TensorFlow operations,
                which fail if the image is damaged.
            replace: function `example -> example` of those for which `use` fails.

        Returns:
            `tf.data.Dataset`.
        """

        def read(place, *rest):
            encoded = tf.numpy_function(
                lambda place: self.read(int(self.numbers[place])), [place], tf.string
            )
            return use(tf.ensure_shape(encoded, ()), place, *rest)

        return examples.interleave(
            lambda *example: _attempt(example, read, replace), **IN_PARALLEL
        )

    def each_by_others(self, examples, use):
        """Examples made of images by TensorFlow operations alone.

        Damaged ones are left out, with their names in the log of whoever makes the
        examples, or with `strict` an error. So is a file that can't be read.

        Args:
            examples: see `each`.
            use: see `each`.

        Returns:
            `tf.data.Dataset`.

        Raises:
            ValueError: if TensorFlow can't read these images.
        """
        if self.fetch is None:
            raise ValueError(
                "Images that other processes read must be in a folder or in TFRecord "
                f"files: unpack the zip. Received: {self.names[self.numbers[0]]}"
            )

        def use_if_whole(encoded, name, *example):
            def refuse(encoded, *example):
                says = tf.strings.join([_RULE, name])
                with tf.control_dependencies([tf.debugging.Assert(False, [says])]):
                    return use(tf.identity(encoded), *example)

            used = _attempt((encoded, *example), use, refuse)
            return used if self.strict else used.ignore_errors(log_warning=True)

        fetched = self.fetch(self.numbers, examples)
        return fetched.interleave(use_if_whole, **IN_PARALLEL)

    def without_damaged(self, labels):
        """Images and labels, less those that can't be decoded; all are, to see that.

        Raises:
            ValueError: if no image can be decoded, or one can't with `strict`.
        """
        kept = np.zeros(len(self), bool)

        def check(places):
            for place in places:
                kept[place] = self.decode(place) is not None

        self._in_threads(check)
        if not kept.any():
            self.decode_next(0)  # Says so.
        return self[kept], labels[kept]

    def _in_threads(self, function):
        parts = np.array_split(np.arange(len(self)), 1 + len(self) // 64)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(function, parts))

    def in_memory_if_small(self, labels):
        """Images and labels, in an array if all have one size and it is not too large.

        An array has no damaged images, and the labels have not theirs.

        Raises:
            ValueError: if no image can be decoded, or one can't with `strict`.
        """
        first, _ = self.decode_next(0)
        if len(self) * first.nbytes > IN_MEMORY_BYTES:
            return self, labels
        array = np.empty((len(self), *first.shape), "uint8")
        kept = np.zeros(len(self), bool)
        same_size = threading.Event()
        same_size.set()

        def put(places):
            for place in places:
                if not same_size.is_set():
                    return
                image = self.decode(place)
                if image is not None and image.shape != first.shape:
                    same_size.clear()
                elif image is not None:
                    array[place], kept[place] = image, True

        self._in_threads(put)
        if not same_size.is_set():
            return self, labels
        if kept.all():
            return array, labels
        return array[kept], labels[kept]


_RULE = "An image must be whole. Received: "


def _rule(name, reason):
    return f"{_RULE}{name}: {reason}"


def _attempt(example, use, otherwise):
    """A data set of what `use` makes of one example or, if it fails, `otherwise`."""
    one = tf.data.Dataset.from_tensors(example)
    return one.map(use).ignore_errors().concatenate(one.map(otherwise)).take(1)


@contextlib.contextmanager
def plain_errors(damaged):
    """A damaged image that ends a pipeline raises `ValueError`, not TensorFlow's.

    Args:
        damaged: dict, see `EncodedImages`, of the images in the pipeline.
    """
    try:
        yield
    except tf.errors.OpError as error:
        for rule in (_rule(*item) for item in damaged.items()):
            if rule in str(error):
                raise ValueError(rule) from error
        # Of another process.
        found = re.search(rf"\[({re.escape(_RULE)}.*)\]", str(error))
        if found:
            raise ValueError(found[1]) from error
        found = re.search(r"(?s)from worker .*?([^:\n]+); No such file", str(error))
        if found:
            raise ValueError(
                "Workers of a tf.data service must find images under the same path. "
                f"Received: {found[1].strip()}"
            ) from error
        raise

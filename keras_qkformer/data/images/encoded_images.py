"""Images in folders, zips, TFRecords and TFDS, read and decoded when needed.

Encoded images are read by number, whatever stores them. A small set of images of one
size is decoded once and kept in memory; see `source.IN_MEMORY_BYTES`.
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
from keras_qkformer.data.images.image_limits import bounded_bytes, bounded_image
from keras_qkformer.data.source import IN_MEMORY_BYTES, ExampleError
from keras_qkformer.data.tracing import without_autograph

IN_PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
"""Options of a `map` or `interleave` that runs in parallel and keeps the order."""


class EncodedImages:
    """Images of any size that are decoded when needed.

    An image that can't be decoded is recorded in `damaged`; with `strict` it is an
    error.

    Args:
        read: function `number -> bytes` that reads an encoded image; several threads
            may call it at once.
        names: sequence of str, by number. Where each image is.
        numbers: int array `(examples,)`. Numbers of the images in this set.
        channels: 1 or 3.
        strict: bool. Whether an image that can't be decoded is an error.
        fetch: function `(numbers, examples) -> dataset`, `read` by TensorFlow
            operations, or `None` if they can't read these images. `examples` is a
            `tf.data.Dataset` of tuples `(place, ...)`, places in `numbers`; the result
            is one of `(encoded, name, place, ...)`.
        damaged: dict `{name: reason}` that collects damaged images, shared by all
            slices of a set, or `None` for a new one.
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
        """Return a set of some of the images, by a slice or an index array."""
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
        """Decode the image at a place, or a window of it, see `image_decoding.decode`.

        Args:
            place: int. Index in this set.
            window: see `image_decoding.decode_image`.
            draws: see `image_decoding.decode_image`.

        Returns:
            uint8 array `(height, width, channels)`, or `None` if the image is damaged.

        Raises:
            ValueError: if the image is damaged and the set is strict.
        """
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
        """Decode the image at a place or, if it is damaged, the next whole one.

        Args:
            place: int. Index in this set.
            window: see `image_decoding.decode_image`.
            draws: see `image_decoding.decode_image`.

        Returns:
            `(image, place)`: the image, see `decode`, and its index.

        Raises:
            ValueError: if no image is whole, or one is damaged and the set is strict.
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
        """Make examples of images that this process reads and decodes.

        Args:
            examples: `tf.data.Dataset` of tuples `(place, ...)`.
            use: function `(encoded, place, ...) -> example` of TensorFlow operations
                that fail if the image is damaged.
            replace: function `(place, ...) -> example`, called where `use` fails.

        Returns:
            `tf.data.Dataset`.
        """

        def read(place, *rest):
            encoded = tf.numpy_function(
                lambda place: bounded_bytes(self.read(int(self.numbers[place]))),
                [place],
                tf.string,
            )
            return use(tf.ensure_shape(encoded, ()), place, *rest)

        return examples.interleave(
            without_autograph(lambda *example: _attempt(example, read, replace)),
            **IN_PARALLEL,
        )

    def each_by_others(self, examples, use):
        """Make examples of images by TensorFlow operations alone.

        A damaged image is left out, and the process that makes the examples logs its
        name; with `strict` it is an error. A file that can't be read is always one.

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

        def check(encoded, *example):
            return *bounded_image(encoded), *example

        def use_if_whole(fault, encoded, name, *example):
            def use_if_bounded(encoded, *example):
                is_bounded = tf.debugging.Assert(fault == "", [fault])
                with tf.control_dependencies([is_bounded]):
                    return use(tf.identity(encoded), *example)

            def refuse(encoded, *example):
                says = tf.strings.join([_RULE, name])
                with tf.control_dependencies([tf.debugging.Assert(False, [says])]):
                    return use(tf.identity(encoded), *example)

            used = _attempt((encoded, *example), use_if_bounded, refuse)
            return used if self.strict else used.ignore_errors(log_warning=True)

        fetched = self.fetch(self.numbers, examples)
        checked = fetched.map(without_autograph(check), **IN_PARALLEL)
        return checked.interleave(without_autograph(use_if_whole), **IN_PARALLEL)

    def without_damaged(self, labels):
        """Return images and labels without the damaged ones; decodes every image.

        Args:
            labels: int array `(examples,)`.

        Returns:
            `(images, labels)`.

        Raises:
            ValueError: if no image can be decoded, or one can't with `strict`.
        """
        kept = np.zeros(len(self), bool)

        def check(places):
            for place in places:
                kept[place] = self.decode(place) is not None

        self._in_threads(check)
        if not kept.any():
            self.decode_next(0)  # Raises, as no image can be decoded.
        return self[kept], labels[kept]

    def _in_threads(self, function):
        parts = np.array_split(np.arange(len(self)), 1 + len(self) // 64)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(function, parts))

    def in_memory_if_small(self, labels):
        """Return images and labels; images of one size as an array, if it is small.

        An array of at most `IN_MEMORY_BYTES` is small. It leaves out damaged images,
        and so do its labels.

        Args:
            labels: int array `(examples,)`.

        Returns:
            `(images, labels)`: uint8 array `(examples, height, width, channels)`, or
            this set.

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
    """Make a dataset of `use(*example)` or, if that fails, of `otherwise(*example)`."""
    one = tf.data.Dataset.from_tensors(example)
    return one.map(use).ignore_errors().concatenate(one.map(otherwise)).take(1)


@contextlib.contextmanager
def plain_errors(damaged):
    """Turn TensorFlow's error about a damaged example into `ValueError`.

    Args:
        damaged: dict `{name: reason}` of the images in the pipeline, see
            `EncodedImages`.

    Raises:
        ValueError: if a damaged image or an example that `OnDemand` can't read ends the
            pipeline, or a worker of a tf.data service does not find an image.
    """
    try:
        yield
    except tf.errors.OpError as error:
        for rule in (_rule(*item) for item in damaged.items()):
            if rule in str(error):
                raise ValueError(rule) from error
        found = re.search(rf"{ExampleError.__name__}: (.*)", str(error))
        if found:
            raise ValueError(found[1]) from error
        # Another process decoded the image: `damaged` does not know it.
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

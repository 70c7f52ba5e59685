"""Images in folders, zips, TFRecords and TFDS, read and decoded when needed.

A set is a list of encoded images that is read by number, whatever holds it. Small ones
of one size are decoded once and kept; see `IN_MEMORY_BYTES` of `source`.
"""

import concurrent.futures
import contextlib
import functools
import os
import re
import threading
import zipfile

import numpy as np

from keras_qkformer.data.images import encoded_images
from keras_qkformer.data.source import IN_MEMORY_BYTES

DAMAGED = {}
"""Images that this process could not decode: from where one is to what is wrong."""


def decode(encoded, channels, window=None, draws=None):
    """An encoded image, or a window of it, as an array.

    Args:
        encoded: bytes, see `image_decoding.decode_image`.
        channels: see there.
        window: see there.
        draws: see there.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: if it is not such an image.
    """
    import tensorflow as tf

    from keras_qkformer.data.images.image_decoding import ANIMATED, EMPTY

    given = [encoded] if window is None else [encoded, draws]
    try:
        return _decoder(channels, window)(*map(tf.constant, given)).numpy()
    except tf.errors.InvalidArgumentError as error:
        for reason in (EMPTY, ANIMATED):
            if reason in error.message:
                raise ValueError(reason) from error
        raise ValueError("not a whole JPEG, PNG, BMP, WebP or GIF file") from error


@functools.lru_cache(maxsize=16)
def _decoder(channels, window):
    """`image_decoding.decode_image` as one function: eagerly it takes much longer."""
    import tensorflow as tf

    from keras_qkformer.data.images.image_decoding import DRAWS, decode_image

    @functools.partial(tf.function, autograph=False)
    def decode(encoded, draws=None):
        with tf.device("CPU"):
            return decode_image(encoded, channels, window, draws)

    given = [tf.TensorSpec((), tf.string)]
    if window is not None:
        given.append(tf.TensorSpec(DRAWS, tf.float32))
    return decode.get_concrete_function(*given)


class EncodedImages:
    """Images of any size that are decoded when they are needed.

    One that can't be decoded is noted in `DAMAGED`; with `strict` it is an error.

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
    """

    def __init__(self, read, names, numbers, channels, strict=False, fetch=None):
        self.read = read
        self.fetch = fetch
        self.names = names
        self.numbers = np.asarray(numbers)
        self.shape = (len(self.numbers), None, None, channels)
        self.dtype = np.dtype("uint8")
        self.strict = strict

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, places):
        """Some of the images, by a slice or an index array."""
        numbers = self.numbers[places]
        return EncodedImages(
            self.read, self.names, numbers, self.shape[-1], self.strict, self.fetch
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
            DAMAGED[name] = str(error)
            if self.strict:
                raise ValueError(_says(name)) from error
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
        raise ValueError(f"None of {len(self)} images can be decoded; {_says(name)}")

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
        import tensorflow as tf

        def read(place, *rest):
            encoded = tf.numpy_function(
                lambda place: self.read(int(self.numbers[place])), [place], tf.string
            )
            return use(tf.ensure_shape(encoded, ()), place, *rest)

        return examples.interleave(
            lambda *example: _attempt(example, read, replace), **in_parallel()
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
        import tensorflow as tf

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
        return fetched.interleave(use_if_whole, **in_parallel())

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


def _says(name):
    return f"{_RULE}{name}: {DAMAGED[name]}"


def _attempt(example, use, otherwise):
    """A data set of what `use` makes of one example or, if it fails, `otherwise`."""
    import tensorflow as tf

    one = tf.data.Dataset.from_tensors(example)
    return one.map(use).ignore_errors().concatenate(one.map(otherwise)).take(1)


def in_parallel():
    """Options of a `map` that runs in parallel and keeps the order."""
    import tensorflow as tf

    return {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


@contextlib.contextmanager
def plain_errors():
    """A damaged image that ended a pipeline raises `ValueError`, not TensorFlow's."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        for name in DAMAGED:
            if _says(name) in str(error):
                raise ValueError(_says(name)) from error
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


def read_image(path, channels):
    """An image file as an array.

    Args:
        path: str or path of a JPEG, PNG, BMP, WebP or GIF file; of an animation, the
            first frame.
        channels: 1 for grey, 3 for colour: the image is converted. Transparency is
            dropped.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: if there is no such file or it is not such an image.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except OSError as error:
        raise ValueError(
            f"An image must be a file that can be read. Received: {path!r}: "
            f"{error.strerror}"
        ) from error
    try:
        return encoded_images.decode(encoded, channels)
    except ValueError as error:
        raise ValueError(
            "An image must be a whole JPEG, PNG, BMP, WebP or GIF file. "
            f"Received: {path!r}"
        ) from error
